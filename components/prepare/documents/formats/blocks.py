"""Block: the smallest unit of a document's structure, and where its text stands in the source.

Offsets count characters of the decoded source, without its byte order mark and with its line ends as they are. Markup
makes text and source differ, so a block keeps either anchors (pairs of a text offset and the source offset it comes
from) or its piece of the source, in which its words are then looked up.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

# A heading as part of a title path; the rest of a longer one is prose under a wrong mark.
_LONGEST_HEADING = 160
# How far behind the last word the next one is looked for: a link's target stands between two words of a sentence.
_LOOK_AHEAD = 2000
_WORD = re.compile(r"\S+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
Anchors: TypeAlias = tuple[tuple[int, int], ...]
# The sections that are open at a place: level (1 is the highest) and title of each, outermost first.
Path: TypeAlias = tuple[tuple[int, str], ...]


@dataclass(slots=True)
class Block:
    """A paragraph, list item, table row or piece of code.

    Attributes:
        text: What a reader sees, without markup.
        start: First character in the source.
        end: Character behind the last in the source.
        headings: Titles of the sections it stands in, outermost first.
        kind: Code is cut at line ends, prose at sentence ends.
        separator: What stands between it and the block before it.
        page: Of a PDF, from 1; 0 elsewhere.
        anchors: Where parts of the text stand in the source; empty where `source` says it.
        source: The source from start to end, where there are no anchors.
    """

    text: str
    start: int
    end: int
    headings: tuple[str, ...] = ()
    kind: Literal["prose", "code"] = "prose"
    separator: str = "\n\n"
    page: int = 0
    anchors: Anchors = ()
    source: str = field(default="", repr=False)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Where characters first .. last - 1 of the text stand in the source."""
        if first == 0 and last == len(self.text):
            return self.start, self.end
        if not self.anchors:
            self.anchors = align(self.text, self.source, self.start)
            self.source = ""
        start = self.start if first == 0 else self._position(first)
        end = self.end if last == len(self.text) else self._position(last - 1) + 1
        return start, max(start, end)

    def _position(self, offset: int) -> int:
        number = bisect_right(self.anchors, (offset, self.end)) - 1
        if number < 0:
            return self.start
        text_offset, source_offset = self.anchors[number]
        return min(source_offset + offset - text_offset, self.end - 1)


def align(text: str, source: str, start: int) -> Anchors:
    """Anchors of the words of a text that are in the source too, in order.

    Args:
        text: Words with or without markup between them in the source.
        source: A piece of the source.
        start: Where the piece begins in the whole.
    """
    if text == source:
        return ((0, start),)
    anchors = []
    cursor = 0
    for word in _WORD.finditer(text):
        position = source.find(word[0], cursor, cursor + _LOOK_AHEAD)
        if position >= 0:
            anchors.append((word.start(), start + position))
            cursor = position + len(word[0])
    return tuple(anchors)


def cleaned(text: str) -> str:
    r"""Text with `\n` as line end; other control characters, which confuse tokenizers, become white space."""
    if text.isprintable():
        return text
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n"))


def collapsed(text: str) -> str:
    """Text with single spaces for white space, as a browser shows it."""
    return " ".join(_CONTROL.sub(" ", text).split())


def with_heading(path: Path, level: int, title: str) -> Path:
    """The sections that are open behind a heading of a level."""
    kept = tuple(entry for entry in path if entry[0] < level)
    short = collapsed(title)[:_LONGEST_HEADING].rstrip()
    return (*kept, (level, short)) if short else kept


def titles(path: Path) -> tuple[str, ...]:
    """The titles of open sections."""
    return tuple(title for _, title in path)
