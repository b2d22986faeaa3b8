"""HTML -> blocks, by Python's own HTML parser: it reads a stream, minds no broken markup and says where it is.

Faster parsers (lxml, selectolax) say of a node only its line, or nothing, so that a hit could not be shown in its page.
What is on every page of a site is dropped: scripts, navigation, headers and footers; where a page marks its main part,
everything outside of it. A page of which nothing would be left is read whole.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from html.parser import HTMLParser

from components.prepare.documents.formats.blocks import Block, Path, cleaned, titles, with_heading

_NEVER_TEXT = frozenset({"script", "style", "template", "svg", "iframe", "object", "noscript", "select", "button"})
_AROUND = frozenset({"nav", "footer", "aside"})
_AROUND_ROLES = frozenset({"navigation", "banner", "contentinfo", "search"})
# Classes by which documentation tools mark what surrounds the text: Sphinx, DocBook, Doxygen, Javadoc, MkDocs.
_AROUND_CLASSES = frozenset(
    {"sphinxsidebar", "related", "headerlink", "linenos", "navheader", "navfooter", "toc", "navpath", "nav-path"}
    | {"breadcrumb", "breadcrumbs", "navbar", "sidebar", "topnav", "bottomnav", "subnav", "skipnav", "md-sidebar"}
    | {"md-header", "md-footer", "permalink"}
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"}
    | {"dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head"}
    | {"header", "html", "legend", "li", "main", "menu", "nav", "ol", "p", "pre", "section", "summary", "table"}
    | {"tbody", "tfoot", "thead", "title", "tr", "ul"}
)
_CLOSE_THEMSELVES = frozenset({"p", "li", "dt", "dd", "tr", "td", "th", "option"})
_ON_ONE_LINE = frozenset({"li", "tr", "dd"})
# What generators put behind a heading as a link to itself.
_PERMALINKS = frozenset({"#", "\u00b6", "\u00a7"})
_MAIN = re.compile(r"""<main[\s>]|\srole\s*=\s*["']?main\b""", re.I)
_WORD = re.compile(r"\S+")


def read_hypertext(reopen: Callable[[], Iterable[str]]) -> Iterator[Block]:
    """The blocks of a page.

    Args:
        reopen: Gives the pieces of its text from the beginning, as often as it is called.
    """
    has_main = any(_MAIN.search(piece) for piece in reopen())
    attempts = ((True, True), (False, True), (False, False)) if has_main else ((False, True), (False, False))
    for only_main, drop_around in attempts:
        is_empty = True
        for block in _read(reopen(), HypertextReader(only_main=only_main, drop_around=drop_around)):
            is_empty = False
            yield block
        if not is_empty:
            return


def _read(pieces: Iterable[str], reader: HypertextReader) -> Iterator[Block]:
    for piece in pieces:
        yield from reader.fed(piece)
    yield from reader.ended()


class HypertextReader(HTMLParser):
    """Blocks of a page that comes in pieces; `path` are the sections that are open."""

    def __init__(self, *, only_main: bool = False, drop_around: bool = True, path: Path = (), offset: int = 0) -> None:
        """Starts at an offset of a larger source, below the sections that are open there."""
        super().__init__(convert_charrefs=False)
        self.path = path
        self._only_main, self._drop_around, self._offset = only_main, drop_around, offset
        self._line_starts = array("q", [0])
        self._num_read = 0
        self._open: list[str] = []
        self._num_open: Counter[str] = Counter()
        # Depths of the elements that are dropped, and of the main part.
        self._dropped: list[int] = []
        self._main: list[int] = []
        self._heading = 0
        self._page_title = ""
        self._separator = "\n\n"
        self._chunks: list[tuple[int, str]] = []
        self._ready: list[Block] = []

    def fed(self, piece: str) -> Iterator[Block]:
        """Reads on; yields the blocks that are complete."""
        position = piece.find("\n")
        while position >= 0:
            self._line_starts.append(self._num_read + position + 1)
            position = piece.find("\n", position + 1)
        self._num_read += len(piece)
        self.feed(piece)
        yield from self._taken()

    def ended(self) -> Iterator[Block]:
        """Yields what is left at the end of the page."""
        self.close()
        self._flush()
        yield from self._taken()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens an element."""
        if tag in _BLOCKS:
            self._flush()
        if tag == "br":
            self._add("\n")
        elif tag in ("td", "th") and self._chunks:
            self._add(" | ")
        if tag in _VOID:
            return
        if tag in _CLOSE_THEMSELVES and self._open and self._open[-1] == tag:
            self._close(len(self._open) - 1)
        values = dict(attrs)
        if self._is_dropped(tag, values):
            self._dropped.append(len(self._open))
        if tag == "main" or values.get("role") == "main":
            self._main.append(len(self._open))
        self._open.append(tag)
        self._num_open[tag] += 1
        if tag in _ON_ONE_LINE:
            self._separator = "\n"
        if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456":
            self._heading = int(tag[1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Reads <p/> as browsers do: as <p>, unless the element has no content."""
        self.handle_starttag(tag, attrs)
        if tag not in _BLOCKS and tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Closes an element and what was left open in it; an end without a beginning means nothing."""
        if not self._num_open[tag]:
            return
        if tag in _BLOCKS:
            self._flush()
        depth = len(self._open) - 1
        while self._open[depth] != tag:
            depth -= 1
        self._close(depth)

    def handle_data(self, data: str) -> None:
        """Keeps text."""
        self._add(data)

    def handle_entityref(self, name: str) -> None:
        """Keeps a named character."""
        self._add(unescape(f"&{name};"))

    def handle_charref(self, name: str) -> None:
        """Keeps a numbered character."""
        self._add(unescape(f"&#{name};"))

    def parse_html_declaration(self, i: int) -> int:
        """Takes a declaration that is none for a comment, as browsers do; Python's parser gives up on it."""
        try:
            return super().parse_html_declaration(i)
        except AssertionError:
            return self.parse_bogus_comment(i)

    def _add(self, data: str) -> None:
        if self._dropped or (self._only_main and not self._main and not self._num_open["title"]):
            return
        if self._num_open["a"] and data.strip() in _PERMALINKS:
            return
        line, column = self.getpos()
        self._chunks.append((self._offset + self._line_starts[line - 1] + column, data))

    def _is_dropped(self, tag: str, values: dict[str, str | None]) -> bool:
        if tag in _NEVER_TEXT or "hidden" in values:
            return True
        if not self._drop_around:
            return False
        if tag == "header":
            # Of an article it holds the title, of a page the logo.
            return not (self._main or self._num_open["article"] or self._num_open["section"])
        is_around = tag in _AROUND or values.get("role") in _AROUND_ROLES
        return is_around or not _AROUND_CLASSES.isdisjoint((values.get("class") or "").lower().split())

    def _close(self, depth: int) -> None:
        for tag in self._open[depth:]:
            self._num_open[tag] -= 1
        del self._open[depth:]
        for marks in (self._dropped, self._main):
            while marks and marks[-1] >= depth:
                marks.pop()

    def _flush(self) -> None:
        is_code = bool(self._num_open["pre"]) and not self._heading
        chunks, self._chunks = self._chunks, []
        text, anchors = _as_code(chunks) if is_code else _as_prose(chunks)
        text = text.removesuffix(" |")
        if text:
            self._emit(text, anchors, is_code)
        self._heading, self._separator = 0, "\n\n"

    def _emit(self, text: str, anchors: tuple[tuple[int, int], ...], is_code: bool) -> None:
        if self._num_open["title"]:
            self._page_title = self._page_title or text
        elif self._heading:
            self.path = with_heading(self.path, self._heading, text)
        else:
            last_text, last_source = anchors[-1]
            end = last_source + len(text.rstrip()) - last_text
            headings = titles(self.path) or ((self._page_title,) if self._page_title else ())
            self._ready.append(
                Block(
                    text,
                    anchors[0][1],
                    max(end, anchors[0][1] + 1),
                    headings,
                    "code" if is_code else "prose",
                    self._separator,
                    anchors=anchors,
                )
            )

    def _taken(self) -> Iterator[Block]:
        ready, self._ready = self._ready, []
        yield from ready


def _as_prose(chunks: list[tuple[int, str]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The words of all chunks with one space where there was white space, and an anchor a word."""
    parts: list[str] = []
    anchors: list[tuple[int, int]] = []
    length = 0
    is_spaced = False
    for position, data in chunks:
        cursor = 0
        for word in _WORD.finditer(data):
            if (is_spaced or word.start() > cursor) and parts:
                parts.append(" ")
                length += 1
            anchors.append((length, position + word.start()))
            parts.append(word[0])
            length += len(word[0])
            is_spaced, cursor = False, word.end()
        is_spaced = is_spaced or cursor < len(data)
    return "".join(parts), tuple(anchors)


def _as_code(chunks: list[tuple[int, str]]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The chunks as they are, without blank lines around them."""
    text = "".join(data for _, data in chunks)
    kept = text.strip()
    if not kept:
        return "", ()
    first = text.index(kept[0])
    first = text.rfind("\n", 0, first) + 1
    anchors: list[tuple[int, int]] = []
    length = 0
    for position, data in chunks:
        if length + len(data) > first:
            skipped = max(first - length, 0)
            anchors.append((length + skipped - first, position + skipped))
        length += len(data)
    return cleaned_code(text[first:].rstrip()), tuple(anchors)


def cleaned_code(text: str) -> str:
    r"""Code without control characters; its length stays, so that anchors hold: `\r` becomes a space."""
    return cleaned(text.replace("\r", " "))
