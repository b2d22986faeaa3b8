"""Markdown -> blocks, by markdown-it-py (CommonMark with tables).

A large text is parsed in portions that end in front of a heading, so that memory does not grow with the file. Raw HTML
in it is read as HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from components.prepare.documents.formats.blocks import Block, Path, cleaned, collapsed, titles, with_heading
from components.prepare.documents.formats.hypertext import HypertextReader

_PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
_LINE_END = re.compile(r"\r\n|\n|\r")
# Settings that site generators read, in front of the text.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?\r?\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.S)
_FRONT_TITLE = re.compile(r"""^title:[ \t]*(["']?)(.+?)\1[ \t]*\r?$""", re.M)
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.M)
_HEADING_LINE = re.compile(r"^#{1,6} ", re.M)
_LIST_DEPTH = {"bullet_list_open": 1, "ordered_list_open": 1, "bullet_list_close": -1, "ordered_list_close": -1}
_PORTION_CHARACTERS = 1 << 20


def read_markdown(pieces: Iterable[str]) -> Iterator[Block]:
    """Paragraphs, list items, table rows and code below their headings."""
    path: Path = ()
    is_first = True
    for start, portion in _portions(pieces):
        skipped = 0
        if is_first and (front := _FRONT_MATTER.match(portion)):
            skipped = front.end()
            if title := _FRONT_TITLE.search(front[1]):
                path = with_heading(path, 0, title[2])
        is_first = False
        walk = _Walk(portion[skipped:], start + skipped, path)
        yield from walk.blocks()
        path = walk.path


class _Walk:
    """One portion, token by token."""

    def __init__(self, source: str, offset: int, path: Path) -> None:
        self.path = path
        self._source, self._offset = source, offset
        self._line_starts = [0, *(match.end() for match in _LINE_END.finditer(source)), len(source)]
        self._list_depth = 0
        # Of the token that holds what comes next, and the cells of its table row.
        self._lines: Sequence[int] = (0, len(self._line_starts) - 1)
        self._cells: list[str] | None = None

    def blocks(self) -> Iterator[Block]:
        """What the portion holds, in order."""
        heading = 0
        for token in _PARSER.parse(self._source):
            if token.map and token.type != "inline":
                self._lines = token.map
            self._list_depth += _LIST_DEPTH.get(token.type, 0)
            if token.type == "heading_open":
                heading = int(token.tag[1])
            elif token.type == "tr_open":
                self._cells = []
            elif token.type == "inline":
                text = collapsed(_rendered(token.children or ()))
                if heading:
                    self.path, heading = with_heading(self.path, heading, text), 0
                else:
                    yield from self._inline(text)
            else:
                yield from self._leaf(token)

    def _inline(self, text: str) -> Iterator[Block]:
        if self._cells is not None:
            self._cells.append(text)
        else:
            yield from self._block(text, separator="\n" if self._list_depth else "\n\n")

    def _leaf(self, token: Token) -> Iterator[Block]:
        if token.type == "tr_close" and self._cells is not None:
            yield from self._block(" | ".join(filter(None, self._cells)), separator="\n")
            self._cells = None
        elif token.type in ("fence", "code_block"):
            yield from self._block(cleaned(token.content).rstrip(), is_code=True)
        elif token.type == "html_block":
            yield from self._html(token.map or (0, 0))

    def _block(self, text: str, *, separator: str = "\n\n", is_code: bool = False) -> Iterator[Block]:
        if not text.strip():
            return
        first, last = self._lines
        start, end = self._line_starts[first], self._line_starts[last]
        source = self._source[start:end]
        kept = source.rstrip()
        start += len(kept) - len(kept.lstrip())
        yield Block(
            text,
            self._offset + start,
            self._offset + self._line_starts[first] + len(kept),
            titles(self.path),
            "code" if is_code else "prose",
            separator,
            source=kept.lstrip(),
        )

    def _html(self, lines: Sequence[int]) -> Iterator[Block]:
        start, end = self._line_starts[lines[0]], self._line_starts[lines[1]]
        reader = HypertextReader(path=self.path, offset=self._offset + start)
        yield from reader.fed(self._source[start:end])
        yield from reader.ended()
        self.path = reader.path


def _rendered(tokens: Sequence[Token]) -> str:
    parts = []
    for token in tokens:
        if token.type in ("text", "code_inline", "image"):
            parts.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            parts.append("\n")
    return "".join(parts)


def _portions(pieces: Iterable[str]) -> Iterator[tuple[int, str]]:
    waiting, offset = "", 0
    for piece in pieces:
        waiting += piece
        if len(waiting) > _PORTION_CHARACTERS:
            end = _portion_end(waiting)
            if end:
                yield offset, waiting[:end]
                waiting, offset = waiting[end:], offset + end
    if waiting:
        yield offset, waiting


def _portion_end(text: str) -> int:
    """In front of the last heading that is not inside of code; of a text without one, behind the last blank line."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    candidates = [match.start() for match in _HEADING_LINE.finditer(text)]
    for position in reversed(candidates):
        if position and sum(fence < position for fence in fences) % 2 == 0:
            return position
    if len(fences) % 2:
        return fences[-1] if fences[-1] else len(text)
    return text.rfind("\n\n") + 2 if "\n\n" in text else text.rfind("\n") + 1 or len(text)
