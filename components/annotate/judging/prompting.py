"""Templates as data: prompts/<layout>/*.txt filled with a query, passages and an answer.

A template file begins with its version and is a list of sections, each headed `## role`; those between `## each
passage` and
`## end` repeat. Likelihood templates have the sections `context` and `continuation`. `paper` is the layout of [ufa]:
instruction, passages one a turn, question. The filled text of a template is part of every call's journal key; its
version and digest are recorded with every label.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import cast

from components.shared.calls.templates import Template, filled, read_template
from components.shared.calls.untrusted import clean, unnumbered
from components.shared.engines.engine import LikelihoodRequest, Role, Turn


def chat(layout: str, template: str, *, query: str, passages: Sequence[str], answer: str = "") -> tuple[Turn, ...]:
    """The turns of a listwise template; passages are numbered from 1 in the order given."""
    values = {"count": str(len(passages)), "query": unnumbered(clean(query)), "answer": unnumbered(clean(answer))}
    turns: list[tuple[str, str]] = []
    repeated: list[tuple[str, str]] | None = None
    for role, text in _sections(layout, template):
        if role == "each passage":
            repeated = []
        elif role == "end":
            assert repeated is not None, f"{template}: `end` without `each passage`"
            for number, passage in enumerate(passages, start=1):
                section = {**values, "number": str(number), "passage": unnumbered(passage)}
                turns += [(role, filled(text, section)) for role, text in repeated]
            repeated = None
        elif repeated is not None:
            repeated.append((role, text))
        else:
            turns.append((role, filled(text, values)))
    return tuple(Turn(cast(Role, role), text) for role, text in turns)


def likelihood(template: str, *, key: str, query: str, passage: str, answer: str = "") -> LikelihoodRequest:
    """The context and the continuation of a likelihood template; the continuation begins after a space, as words do."""
    sections = dict(_sections("likelihood", template))
    values = {"query": clean(query), "passage": passage, "answer": clean(answer)}
    return LikelihoodRequest(key, filled(sections["context"], values), " " + filled(sections["continuation"], values))


def template_version(layout: str, template: str) -> str:
    """Layout, version and digest of a template: `paper.1@0f3a9c5e21b7`."""
    return f"{layout}.{_template(layout, template).version}"


@cache
def _sections(layout: str, template: str) -> tuple[tuple[str, str], ...]:
    return _template(layout, template).sections


def _template(layout: str, template: str) -> Template:
    return read_template("components.annotate.judging", "prompts", layout, f"{template}.txt")
