"""Blocks -> passages: by structure first, then by size.

A passage never crosses a heading. Blocks that fit are never cut; a block that is larger than a passage is cut at
sentence ends, code at line ends, and what is still too large at word ends. Where a section makes several passages, each
begins with the last words of the one before, from the start of a sentence where there is one, so that no sentence
loses its context; code is not repeated.

Size is counted in estimated tokens, see `measure`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby

from components.prepare.documents.formats.blocks import Block
from components.prepare.documents.measure import count_tokens, token_spans

# A sentence ends behind its mark and what closes it, where white space and no small letter follow; in Chinese and
# Japanese behind the mark.
_SENTENCE_END = re.compile(
    r"[.!?\u2026]+[\"')\]\u201d\u00bb]*\s+(?![a-z])"
    r"|[\u3002\uff01\uff1f\u0964]+[\u300d\u201d]*\s*"
    r"|\n(?=\s*[-*\u2022]\s)"
)
_LINE_END = re.compile(r"\n+")


@dataclass(slots=True)
class Unit:
    """A part of a block that is not cut any more; `first` and `last` bound it in the block's text."""

    block: Block
    first: int
    last: int
    num_tokens: int
    separator: str

    @property
    def text(self) -> str:
        """Its characters."""
        return self.block.text[self.first : self.last]


@dataclass(slots=True)
class CutPassage:
    """A passage and where it stands: offsets in the source, page of a PDF (0: none).

    `blocks` are the blocks that it has a part of, each with the number of characters of that part.
    """

    text: str
    headings: tuple[str, ...]
    start: int
    end: int
    page: int
    blocks: list[tuple[Block, int]] = field(repr=False)


def cut(blocks: Iterable[Block], *, max_tokens: int, overlap_tokens: int) -> Iterator[CutPassage]:
    """Passages of a document in order, none larger than `max_tokens`."""
    for _, section in groupby(blocks, key=lambda block: block.headings):
        yield from _cut_section(section, max_tokens, overlap_tokens)


def _cut_section(section: Iterable[Block], max_tokens: int, overlap_tokens: int) -> Iterator[CutPassage]:
    held: list[Unit] = []
    num_tokens = 0
    for block in section:
        for unit in _units(block, max_tokens, overlap_tokens):
            if held and num_tokens + unit.num_tokens > max_tokens:
                yield _passage(held)
                room = min(overlap_tokens, max_tokens - unit.num_tokens)
                held = _overlap(held, room)
                num_tokens = sum(kept.num_tokens for kept in held)
            held.append(unit)
            num_tokens += unit.num_tokens
    if held:
        yield _passage(held)


def _units(block: Block, max_tokens: int, overlap_tokens: int) -> Iterator[Unit]:
    num_tokens = count_tokens(block.text)
    if num_tokens <= max_tokens:
        yield Unit(block, 0, len(block.text), num_tokens, block.separator)
        return
    separator = block.separator
    for first, last in _pieces(block):
        piece_tokens = count_tokens(block.text[first:last])
        # A piece that fills a passage would leave no room for the overlap.
        if piece_tokens <= max_tokens - overlap_tokens:
            yield Unit(block, first, last, piece_tokens, separator)
            separator = ""
            continue
        for start, end, cost in _windows(block.text, first, last, max(overlap_tokens, max_tokens // 8, 1)):
            yield Unit(block, start, end, cost, separator)
            separator = ""


def _pieces(block: Block) -> Iterator[tuple[int, int]]:
    """Sentences or lines with what separates them from the next."""
    ends = (_LINE_END if block.kind == "code" else _SENTENCE_END).finditer(block.text)
    start = 0
    for match in ends:
        yield start, match.end()
        start = match.end()
    if start < len(block.text):
        yield start, len(block.text)


def _windows(text: str, first: int, last: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Runs of words; a run holds the white space behind it."""
    start, num_tokens = first, 0
    for piece_start, _, cost in token_spans(text[first:last]):
        if num_tokens and num_tokens + cost > size:
            yield start, first + piece_start, num_tokens
            start, num_tokens = first + piece_start, 0
        num_tokens += cost
    yield start, last, num_tokens


def _overlap(units: list[Unit], room: int) -> list[Unit]:
    """The last words of a passage as units of the next one."""
    kept: list[Unit] = []
    for unit in reversed(units):
        if room < 1 or unit.block.kind == "code":
            break
        if unit.num_tokens <= room:
            kept.append(unit)
            room -= unit.num_tokens
            continue
        if tail := _tail(unit, room, from_sentence=bool(kept)):
            kept.append(tail)
        break
    if kept:
        kept[-1] = Unit(kept[-1].block, kept[-1].first, kept[-1].last, kept[-1].num_tokens, "")
    return kept[::-1]


def _tail(unit: Unit, room: int, *, from_sentence: bool) -> Unit | None:
    """The last words of a unit, from the start of a sentence where one is among them, or only then."""
    text = unit.text
    start, num_tokens = len(text), 0
    for piece_start, _, cost in reversed(list(token_spans(text))):
        if num_tokens + cost > room:
            break
        start, num_tokens = piece_start, num_tokens + cost
    for sentence in _SENTENCE_END.finditer(text, start):
        if sentence.end() < len(text):
            start = sentence.end()
            num_tokens = count_tokens(text[start:])
            break
    else:
        start = len(text) if from_sentence else start
    return Unit(unit.block, unit.first + start, unit.last, num_tokens, "") if start < len(text) else None


def _passage(units: list[Unit]) -> CutPassage:
    text = units[0].text + "".join(unit.separator + unit.text for unit in units[1:])
    blocks: list[tuple[Block, int]] = []
    for unit in units:
        if blocks and blocks[-1][0] is unit.block:
            blocks[-1] = (unit.block, blocks[-1][1] + len(unit.text))
        else:
            blocks.append((unit.block, len(unit.text)))
    first, last = units[0], units[-1]
    start, _ = first.block.span(first.first, first.last)
    _, end = last.block.span(last.first, last.first + len(last.text.rstrip()))
    return CutPassage(text.strip(), first.block.headings, start, max(start, end), first.block.page, blocks)
