"""Templates as data: prompts/<layout>/*.txt filled with a query, passages and an answer.

A template file begins with its version and is a list of sections, each headed `## role`; those between `## each
passage` and
`## end` repeat. Likelihood templates have the sections `context` and `continuation`. `paper` is the layout of [ufa]:
instruction, passages one a turn, question. The filled text of a template is part of every call's journal key; its
version and digest are recorded with every label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import cast

from components.annotate.engines.engine import LikelihoodRequest, Role, Turn
from components.shared.hashing import text_digest
from components.shared.language.words import first_words

# Control characters, and invisible ones that could hide a token from the patterns below: zero-width spaces, direction
# marks, the tag characters that spell ASCII unseen. Joiners stay: Persian, Indic scripts and emoji need them.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
# What the chat templates of the known families take for the border of a turn, a thought, a tool's words, or our own
# delimiter.
_CHAT_TOKENS = re.compile(
    r"<[|\uff5c][^>\n]{0,60}?[|\uff5c]>"
    r"|</?(?:s|bos|eos|pad|unk|mask|cls|sep|eod|eot)>|<</?SYS>>|</?(?:start|end)_of_(?:turn|image|utterance)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK)\]"
    r"|</?\s*(?:passage|think(?:ing)?|thought|reasoning|tool_call|tool_response|system|user|assistant)\s*>"
    r"|<(?:extra_id_|unused|reserved_special_token_|special_token_|SPECIAL_)\d+>",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"\[(\s*\d{1,3}\s*)\]")


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
                turns += [(role, _filled(text, section)) for role, text in repeated]
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
    """The first words of an untrusted text, spaces collapsed, without control characters and chat-template tokens.

    In scripts without spaces between words, such as Chinese and Thai, two characters count as one word.
    """
    return first_words(clean(text), num_words)


def clean(text: str) -> str:
    """Text that cannot end its own turn: chat-template tokens and characters that nobody sees become spaces."""
    cleaned = _UNSEEN.sub(" ", text)
    # What is left of a token cut out of another one may be a token again.
    while (shorter := _CHAT_TOKENS.sub(" ", cleaned)) != cleaned:
        cleaned = shorter
    return cleaned.strip()


def unnumbered(text: str) -> str:
    """Text whose `[3]` reads `(3)`: a citation mark, or an order to select, that is no identifier of the prompt."""
    return _IDENTIFIER.sub(r"(\1)", text)


@cache
def template_version(layout: str, template: str) -> str:
    """Layout, version and digest of a template: `paper.1@0f3a9c5e21b7`."""
    text = _text(layout, template)
    match = re.match(r"version (\d+)\n", text)
    assert match, f"{layout}/{template}: the first line must say `version <number>`"
    return f"{layout}.{match[1]}@{text_digest(text)[:12]}"


@cache
def _sections(layout: str, template: str) -> tuple[tuple[str, str], ...]:
    parts = re.split(r"^## (.+)$", _text(layout, template), flags=re.MULTILINE)
    return tuple((role.strip(), body.strip()) for role, body in zip(parts[1::2], parts[2::2], strict=True))


def _text(layout: str, template: str) -> str:
    return (
        resources.files("components.annotate.judging").joinpath("prompts", layout, f"{template}.txt").read_text("utf-8")
    )


def _filled(text: str, values: Mapping[str, str]) -> str:
    # One pass over the template: what is filled in is never looked at again, so a passage cannot hold a hole.
    return re.sub(r"\{(\w+)\}", lambda hole: values[hole[1]], text)
