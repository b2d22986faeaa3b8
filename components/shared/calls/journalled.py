"""Calls as the journal keeps them: their keys, their records, and what earlier runs have paid for.

The key of a call is the hash of all that decides its result: model, template text as filled (so query, passages and
their order), length limit, sampling and seed. The journal holds what came back and what it cost, in the engine's own
words; what we make of it is decided when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from components.shared.calls.asks import Ask
from components.shared.durable import storage
from components.shared.durable.journal import Journal
from components.shared.engines.engine import Completion, CompletionRequest, Likelihood, Request, Result
from components.shared.engines.finish import read_reason
from components.shared.hashing import content_key

# 128 of sha256's bits: a key is written at least twice for every call.
_KEY_CHARACTERS = 32


@dataclass(frozen=True)
class Paid:
    """The calls of earlier runs, and the model's name in their keys."""

    journal: Journal
    model: str

    def find(self, request: Request) -> Result | None:
        """What a call gave, where it was made; its tokens are not asked for, so it may be an uncounted one."""
        key = call_key(request, self.model)
        value = self.journal.get(key)
        return from_value(key, value) if value is not None and is_completed(value) else None


def call_key(request: Request, model: str) -> str:
    """The journal key of a call."""
    # asdict() copies everything deeply, which took a quarter of the component's time.
    values = {part.name: getattr(request, part.name) for part in fields(request)} | {"key": ""}
    if isinstance(request, CompletionRequest):
        values["turns"] = [{"role": turn.role, "content": turn.content} for turn in request.turns]
    return content_key(model, values)[:_KEY_CHARACTERS]


def journal_model(name: str, llm_uri: str, *, endpoint_omit: str = "", endpoint_rename: str = "") -> str:
    """The model in every key: its name, a digest of what lies under its address, and how its requests are changed.

    A field that is left out of a request, or sent under a name that a server may ignore, can change its result.
    """
    changes = "".join(
        f";{word} {value}" for word, value in (("without", endpoint_omit), ("with", endpoint_rename)) if value
    )
    return f"{name}@{storage.content_digest(llm_uri)[:12]}{changes}"


def origin(ask: Ask, artifact: str) -> dict[str, str]:
    """What the journal says beside a result: what was asked, of which query, and whose annotations paid for it."""
    return {
        "template": ask.template,
        "template_version": ask.template_version,
        "rung": ask.rung,
        "query_id": ask.query_id,
        "artifact": artifact,
    }


def to_value(result: Result) -> dict[str, Any]:
    """A result as the journal keeps it; a completion's `finish_reason` is the engine's own word."""
    value = asdict(result)
    del value["key"]
    if "reason" in value:
        value["finish_reason"] = value.pop("reason")
    return value


def is_completed(value: Mapping[str, Any]) -> bool:
    """Whether a record of the journal is a result at all.

    Before finish reasons were kept as the engine said them, `abort` stood for every word that was unknown then. Nobody
    knows what such a completion was, so its call is made again.
    """
    return "text" not in value or read_reason(value.get("finish_reason")) != "abort"


def from_value(key: str, value: Mapping[str, Any]) -> Result:
    """A result as the journal kept it; what else stands beside it is left alone.

    Raises:
        ValueError: Where the record is no result.
    """
    try:
        costs: dict[str, Any] = {
            "prompt_tokens": _number(value["prompt_tokens"], int),
            "cached_tokens": _number(value.get("cached_tokens", 0), int),
            "engine_seconds": _number(value.get("engine_seconds", 0.0), float),
            "is_counted": bool(value.get("is_counted", True)),
        }
        if "logprobs" in value:
            return Likelihood(key, tuple(_number(logprob, float) for logprob in value["logprobs"]), **costs)
        if not isinstance(value["text"], str):
            raise TypeError("its text is no text")
        completion_tokens = _number(value["completion_tokens"], int)
        return Completion(key, value["text"], value["finish_reason"], completion_tokens=completion_tokens, **costs)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the journal's record of call {key} is no result of an LLM ({type(error).__name__} {error}); "
            "delete its line, and the call will be made again"
        ) from error


def _number(value: object, kind: type) -> Any:  # noqa: ANN401 int or float, as asked for
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return kind(value)
