"""Templates as data: prompts/<layout>/*.txt filled with a query, passages and an answer.

A template file begins with its version and is a list of sections, each headed `## role`; those between `## each passage` and
`## end` repeat. Likelihood templates have the sections `context` and `continuation`. `paper` is the layout of [ufa]: instruction,
passages one a turn, question. The filled text of a template is part of every call's journal key; its version and digest are
recorded with every label.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import cast

from components.shared.llm import LikelihoodRequest, Role, Turn

# Everything that a chat template could take for the border of a turn, and control characters, which no passage needs.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_CHAT_TOKENS = re.compile(r"<\|[^|>\n]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|</?passage>|</?think>", re.IGNORECASE)


def chat(layout: str, template: str, *, query: str, passages: Sequence[str], answer: str = "") -> tuple[Turn, ...]:
    """The turns of a listwise template; passages are numbered from 1 in the order given."""
    values = {"count": str(len(passages)), "query": clean(query), "answer": clean(answer)}
    turns: list[tuple[str, str]] = []
    repeated: list[tuple[str, str]] | None = None
    for role, text in _sections(layout, template):
        if role == "each passage":
            repeated = []
        elif role == "end":
            assert repeated is not None, f"{template}: `end` without `each passage`"
            for number, passage in enumerate(passages, start=1):
                its = {**values, "number": str(number), "passage": passage}
                turns += [(role, _filled(text, its)) for role, text in repeated]
            repeated = None
        elif repeated is not None:
            repeated.append((role, text))
        else:
            turns.append((role, _filled(text, values)))
    return tuple(Turn(cast(Role, role), text) for role, text in turns)


def likelihood(template: str, *, key: str, query: str, passage: str, answer: str = "") -> LikelihoodRequest:
    """The context and the continuation of a likelihood template; the continuation begins after a space, as words do."""
    sections = dict(_sections("likelihood", template))
    values = {"query": clean(query), "passage": passage, "answer": clean(answer)}
    return LikelihoodRequest(key, _filled(sections["context"], values), " " + _filled(sections["continuation"], values))


def cut(text: str, *, num_words: int) -> str:
    """The first words of an untrusted text, spaces collapsed, without control characters and chat-template tokens."""
    return " ".join(clean(text).split()[:num_words])


def clean(text: str) -> str:
    """Text that cannot end its own turn: chat-template tokens and control characters become spaces."""
    return _CHAT_TOKENS.sub(" ", _CONTROL.sub(" ", text)).strip()


@cache
def template_version(layout: str, template: str) -> str:
    """Layout, version and digest of a template: `paper.1@0f3a9c5e21b7`."""
    text = _text(layout, template)
    match = re.match(r"version (\d+)\n", text)
    assert match, f"{layout}/{template}: the first line must say `version <number>`"
    return f"{layout}.{match[1]}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@cache
def _sections(layout: str, template: str) -> tuple[tuple[str, str], ...]:
    parts = re.split(r"^## (.+)$", _text(layout, template), flags=re.MULTILINE)
    return tuple((role.strip(), body.strip()) for role, body in zip(parts[1::2], parts[2::2], strict=True))


def _text(layout: str, template: str) -> str:
    return resources.files("components.annotate").joinpath("prompts", layout, f"{template}.txt").read_text("utf-8")


def _filled(text: str, values: Mapping[str, str]) -> str:
    # One pass over the template: what is filled in is never looked at again, so a passage cannot hold a hole.
    return re.sub(r"\{(\w+)\}", lambda hole: values[hole[1]], text)
