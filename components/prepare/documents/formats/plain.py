"""Plain text -> blocks: paragraphs between blank lines, below titles that are underlined.

The text is read as a stream: memory is one paragraph, and a paragraph without an end is cut at a line end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from components.prepare.documents.formats.blocks import Block, cleaned, titles, with_heading

_LINE_END = r"(?:\r\n|\n|\r)"
_BLANK_LINES = re.compile(rf"{_LINE_END}(?:[^\S\r\n]*{_LINE_END})+")
# A title and a line of one sign below it, at least as long as two thirds of the title: what ReStructuredText, Markdown
# and people use.
_UNDERLINED = re.compile(
    rf"\A[ \t]*(\S[^\r\n]*?)[ \t]*{_LINE_END}[ \t]*(([=\-~^*#\"+])\3{{2,}})[ \t]*(?:{_LINE_END}|\Z)"
)
_LONGEST_PARAGRAPH = 65_536
_LIST_ITEM = re.compile(r"[-*+\u2022]\s|\(?[0-9a-zA-Z]{1,3}[.)]\s")


def read_plain(pieces: Iterable[str]) -> Iterator[Block]:
    """The paragraphs of a text; in code, which is indented throughout, line ends are kept as ends."""
    path: tuple[tuple[int, str], ...] = ()
    signs: list[str] = []
    for start, raw, separator in _paragraphs(pieces):
        if (match := _UNDERLINED.match(raw)) and len(match[2]) * 3 >= len(match[1]) * 2:
            if match[3] not in signs:
                signs.append(match[3])
            path = with_heading(path, signs.index(match[3]) + 1, match[1])
            start, raw = start + match.end(), raw[match.end() :]
        if block := _block(raw, start):
            block.headings = titles(path)
            block.separator = block.separator if separator is None else separator
            yield block


def _block(raw: str, start: int) -> Block | None:
    body = raw.rstrip()
    if not body.strip():
        return None
    lines = body.splitlines()
    is_code = all(line[:1].isspace() for line in lines if line.strip())
    skipped = len(body) - len(body.lstrip("\r\n" if is_code else None))
    body, start = body[skipped:], start + skipped
    separator = "\n" if _LIST_ITEM.match(body) else "\n\n"
    text = cleaned(body)
    return Block(
        text,
        start,
        start + len(body),
        kind="code" if is_code else "prose",
        separator=separator,
        anchors=((0, start),) if len(text) == len(body) else (),
        source=body,
    )


def _paragraphs(pieces: Iterable[str]) -> Iterator[tuple[int, str, str | None]]:
    """Offset and content of what stands between blank lines; where a paragraph goes on, what stood at the cut."""
    waiting, offset = "", 0
    separator: str | None = None
    for piece in pieces:
        # A blank line may be cut between two pieces, but its beginning is in what waits.
        waiting += piece
        cursor = 0
        for blank in _BLANK_LINES.finditer(waiting):
            if blank.end() == len(waiting):
                break
            yield offset + cursor, waiting[cursor : blank.start()], separator
            cursor, separator = blank.end(), None
        while len(waiting) - cursor > _LONGEST_PARAGRAPH:
            end = _cut(waiting, cursor)
            yield offset + cursor, waiting[cursor:end], separator
            cursor, separator = end, waiting[end - 1] if waiting[end - 1].isspace() else ""
        waiting, offset = waiting[cursor:], offset + cursor
    if waiting:
        yield offset, waiting, separator


def _cut(text: str, start: int) -> int:
    limit = start + _LONGEST_PARAGRAPH
    for sign in ("\n", " "):
        if (end := text.rfind(sign, start, limit)) > start:
            return end + 1
    return limit
