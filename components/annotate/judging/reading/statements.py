"""An answer as statements: its sentences, headings and list items, with lines that were only wrapped joined again.

A list counts only as a statement of its own, so where a statement begins and ends decides what may be read. A line that
does not end a sentence goes on in the next one, and so does any line before one that begins with a small letter:
`Passages that are not` and `relevant: [1]` on two lines are one statement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BULLET_START = re.compile(r"[-+\u2022\u00b7][ \t]+|[0-9]{1,3}[.)][ \t]+")
_ENDS_SENTENCE = re.compile(r"[.:!?\])}\"']$")
# Behind the mark that ends a sentence, at a space.
_SENTENCE = re.compile(r"(?<=[.!?])[ \t]+")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `ends_early` where others follow it on its line."""

    text: str
    ends_early: bool

    @property
    def is_bulleted(self) -> bool:
        """Whether it is an item of a list."""
        return _BULLET_START.match(self.text) is not None

    @property
    def without_bullet(self) -> str:
        """The statement without the mark or number that a list puts before it."""
        match = _BULLET_START.match(self.text)
        return self.text[match.end() :] if match else self.text


def split_statements(text: str) -> list[Statement]:
    """The statements of an answer, in order; a list item keeps its reason, however many sentences that has."""
    statements: list[Statement] = []
    for line in _unwrapped(text):
        parts = [line] if _BULLET_START.match(line) else [part for part in _SENTENCE.split(line) if part]
        statements += [Statement(part, number < len(parts)) for number, part in enumerate(parts, start=1)]
    return statements


def _unwrapped(text: str) -> list[str]:
    lines: list[str] = []
    is_new = True
    for line in map(str.strip, text.splitlines()):
        if not line:
            is_new = True
            continue
        goes_on = line[0].islower() or (not is_new and not _ENDS_SENTENCE.search(lines[-1]))
        if lines and goes_on and not _BULLET_START.match(line):
            lines[-1] = f"{lines[-1]} {line}"
        else:
            lines.append(line)
        is_new = False
    return lines
