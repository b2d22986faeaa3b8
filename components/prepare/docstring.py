"""One docstring taken apart: the summary a person wrote, the body below it, the names in its See Also section.

The body is what a passage holds, so nothing of it may give the answer away: the summary is left out wherever it is
repeated, and so is See Also, because it quotes the summaries of other objects and the qrels are made of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(r"^([A-Z][A-Za-z ]+)\n[-=~]{3,}[ \t]*$", re.MULTILINE)
_LEFT_OUT = frozenset({"See Also", "See also", "References", "Examples", "Example"})
_SIGNATURE = re.compile(r"^[\w.]+\(.*\)( *->.*)?$")
_SENTENCE_END = re.compile(r"(?<=[a-z0-9)`\]])[.:](?=\s|$)")
_DOCTEST = re.compile(r"^[ \t]*>>>.*(?:\n(?![ \t]*$).*)*", re.MULTILINE)
_VERSION_NOTE = re.compile(r"^[ \t]*\.\. +(?:versionadded|versionchanged|deprecated)::[ \t]*[\w.]*", re.MULTILINE)
_DIRECTIVE = re.compile(r"^[ \t]*\.\. +(?:[\w-]+::|\[\w+\]|_[^:\n]*:)", re.MULTILINE)
_ROLE = re.compile(r":[a-z:+]+:`[~!]?([^`<]*?)(?: *<[^`>]*>)?`")
# `name : description`, `name1, name2`, `:func:`name` - description`; a description on its own line is indented.
_REFERENCE = re.compile(r"^(\S[^:\n]*?)(?:\s*:(?=\s|$)|\s+-\s|\s*$)")
_DOTTED = re.compile(r"[A-Za-z_][\w.]*\w")


@dataclass(frozen=True, slots=True)
class Docstring:
    """The parts, as plain text without markup; an empty summary or body is one that is not there."""

    summary: str
    body: str
    see_also: tuple[str, ...]


def split_docstring(text: str) -> Docstring:
    """The parts of a docstring whose indentation is removed."""
    paragraphs = [paragraph for paragraph in re.split(r"\n[ \t]*\n", text.strip()) if paragraph.strip()]
    if paragraphs and _SIGNATURE.match(" ".join(paragraphs[0].split())):
        del paragraphs[0]
    if not paragraphs:
        return Docstring("", "", ())
    first, rest = paragraphs[0], "\n\n".join(paragraphs[1:])
    end = _SENTENCE_END.search(first)
    summary = first[: end.start()] if end else first
    remainder = first[end.end() :] if end else ""
    kept, see_also = _sections(f"{remainder}\n\n{rest}")
    summary = plain_text(summary).rstrip(".: ")
    body = (
        re.sub(re.escape(summary) + r"\.?", " ", plain_text(kept), flags=re.IGNORECASE) if summary else plain_text(kept)
    )
    return Docstring(summary, " ".join(body.split()), see_also)


def plain_text(text: str) -> str:
    """The words without doctests, reStructuredText roles and directives, underlines and runs of white space."""
    text = _DOCTEST.sub(" ", text)
    text = _DIRECTIVE.sub(" ", _VERSION_NOTE.sub(" ", text))
    text = _ROLE.sub(r"\1", text)
    text = re.sub(r"^[ \t]*([-=~^#*+])\1{2,}[ \t]*$", " ", text, flags=re.MULTILINE)
    text = re.sub(r"`+_?|\*\*|\[\d+\]_", "", text)
    return " ".join(text.split())


def _sections(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without the sections that are left out, and the names in See Also."""
    pieces = _SECTION.split(text)
    kept, see_also = [pieces[0]], []
    for title, content in zip(pieces[1::2], pieces[2::2], strict=True):
        if title.strip().lower() == "see also":
            see_also += _references(content)
        elif title.strip() not in _LEFT_OUT:
            kept += [title, content]
    return "\n\n".join(kept), tuple(dict.fromkeys(see_also))


def _references(content: str) -> list[str]:
    names: list[str] = []
    for line in content.splitlines():
        if match := _REFERENCE.match(_ROLE.sub(r"\1", line)):
            names += _DOTTED.findall(match[1])
    return names
