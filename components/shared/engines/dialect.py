"""The body of a call, in OpenAI's words or in those that a stricter server takes.

What is not part of OpenAI's protocol is sent only where it says something, because many servers refuse a field that
they do not know. What a server refuses nevertheless the user can leave out or rename.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.shared.engines.engine import CompletionRequest
from components.shared.roles import hint

_CHAT_FIELDS = ("max_tokens", "temperature", "seed", "stream", "top_p", "top_k", "structured_outputs")
_FIELDS = (*_CHAT_FIELDS, "chat_template_kwargs", "echo", "logprobs")
# Words with which servers refuse a field, and not what stands in it: "max_tokens is too large" is none of them.
_COMPLAINT = re.compile(
    r"unknown|unsupported|not.{0,20}support|n't support|unrecogni[sz]ed|not.{0,9}(?:recogni[sz]ed|permitted|allowed)"
    r"|unexpected|extra (?:inputs?|fields?)|extra_forbidden|additional propert|no such (?:field|parameter|argument)"
    r"|invalid (?:field|parameter|argument|key)",
    re.IGNORECASE,
)
_INSTEAD = re.compile(r"\buse\b[\s'\"`]*([a-z_]+)['\"`]* instead", re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """Names of fields that a server does not take, and names that it uses instead of OpenAI's."""

    omitted: frozenset[str] = frozenset()
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, *, omit: str = "", rename: str = "") -> Dialect:
        """From the settings `endpoint_omit` (seed,top_k) and `endpoint_rename` (max_tokens=max_completion_tokens).

        Raises:
            ValueError: Where a name is no field that is ever sent, or a renaming is no pair.
        """
        omitted = frozenset(filter(None, map(str.strip, omit.split(","))))
        renamed: dict[str, str] = {}
        for pair in filter(None, map(str.strip, rename.split(","))):
            name, _, new_name = (part.strip() for part in pair.partition("="))
            if not new_name:
                raise ValueError(
                    f"endpoint_rename {rename!r}: {pair!r} is no pair; write it as max_tokens=max_completion_tokens"
                )
            renamed[name] = new_name
        for setting, names in (("endpoint_omit", omitted), ("endpoint_rename", renamed)):
            if unknown := sorted(set(names) - set(_FIELDS)):
                raise ValueError(f"{setting} names {', '.join(unknown)}; a request has {', '.join(_FIELDS)}")
        if both := sorted(omitted & set(renamed)):
            raise ValueError(f"endpoint_omit and endpoint_rename both name {', '.join(both)}; give it to one of them")
        return cls(omitted, renamed)

    def spoken(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body as this server takes it."""
        return {self.renamed.get(name, name): value for name, value in body.items() if name not in self.omitted}


def chat_body(request: CompletionRequest) -> dict[str, Any]:
    """A chat to continue, without the model's name."""
    body: dict[str, Any] = {
        "messages": [{"role": turn.role, "content": turn.content} for turn in request.turns],
        "max_tokens": request.max_tokens,
        "temperature": request.sampling_temperature,
        "seed": request.seed,
        # A gateway may stream unless it is told not to.
        "stream": False,
    }
    if request.top_p < 1.0:
        body["top_p"] = request.top_p
    if request.top_k:
        body["top_k"] = request.top_k
    if request.pattern:
        body["structured_outputs"] = {"regex": request.pattern}
    if request.chat_options:
        body["chat_template_kwargs"] = dict(request.chat_options)
    return body


def likelihood_body(prompt: str | list[int]) -> dict[str, Any]:
    """A prompt to be echoed with its log-likelihoods, without the model's name."""
    # One token is asked for because many servers refuse none.
    return {"prompt": prompt, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1, "stream": False}


def field_remedy(words: str, body: Mapping[str, Any]) -> str:
    """The flag that mends a refusal of one of the body's fields; empty where the words complain of something else."""
    complained = _COMPLAINT.search(words)
    if complained is None:
        return ""
    # The field that stands nearest to the complaint: servers also list the fields that they do know.
    distances = {
        name: abs(match.start() - complained.start())
        for name in body
        if (match := re.search(rf"(?<![A-Za-z_]){re.escape(name)}(?![A-Za-z_])", words)) and name in _FIELDS
    }
    if not distances:
        return ""
    name = min(distances, key=distances.__getitem__)
    instead = _INSTEAD.search(words)
    return hint("endpoint_rename", f"{name}={instead[1]}") if instead else hint("endpoint_omit", name)
