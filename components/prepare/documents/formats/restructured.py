"""reStructuredText -> blocks, by docutils.

Directives and roles that docutils does not know, such as those of Sphinx, are registered as they are met: their text is
kept, because most rst in the world is written for Sphinx. Nothing that a text names is read or run: no file is
included, no raw content passed on. Of a node docutils keeps about its line: blocks are looked up in the source near it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.languages import en as known

from components.prepare.documents.formats.blocks import Block, Path, cleaned, collapsed, titles, with_heading
from components.prepare.documents.formats.plain import read_plain

# A larger one is read as plain text: docutils holds all of a document, about a hundred times its size.
LARGEST_CHARACTERS = 2 << 20
_DIRECTIVE = re.compile(r"^[ \t]*\.\. +(?:\|[^|\n]*\| +)?([\w.+:-]+?)::(?=\s|$)", re.M)
_ROLE = re.compile(r":([\w.+-]+(?::[\w.+-]+)*):`|`:([\w.+-]+(?::[\w.+-]+)*):")
# What their content is no text for readers, and what it is code.
_EMPTY = frozenset(
    {"toctree", "index", "automodule", "autoclass", "autofunction", "autosummary", "highlight", "contents"}
    | {"currentmodule", "module"}
)
_CODE = frozenset(
    {"code", "code-block", "sourcecode", "code-cell", "ipython", "testcode", "testoutput", "prompt"}
    | {"parsed-code", "literalinclude"}
)
_LEAVES = (
    nodes.paragraph,
    nodes.literal_block,
    nodes.doctest_block,
    nodes.line_block,
    nodes.rubric,
    nodes.term,
    nodes.field_name,
    nodes.caption,
    nodes.attribution,
    nodes.math_block,
)
_IN_LINES = (nodes.list_item, nodes.definition, nodes.field_body, nodes.entry)
_SKIPPED = (nodes.comment, nodes.system_message, nodes.substitution_definition, nodes.target, nodes.raw)
_SETTINGS = {
    "_disable_config": True,
    "doctitle_xform": False,
    "docinfo_xform": False,
    "file_insertion_enabled": False,
    "halt_level": 5,
    "raw_enabled": False,
    "report_level": 5,
    "syntax_highlight": "none",
}
# How far docutils may be wrong about the line of a node, and how far apart two lines of a node may be.
_MISSED_LINES, _INDENTATION = 40, 200
_LINE_END = re.compile(r"\r\n|\n|\r")
# Directives of Sphinx whose argument alone says little.
_SAID = {"versionadded": "Added in", "versionchanged": "Changed in", "deprecated": "Deprecated since"}
_LINK_TARGET = re.compile(r"\s*<[^<>]*>\Z")


def read_restructured(pieces: Iterable[str]) -> Iterator[Block]:
    """Paragraphs, list items, table rows and code below their headings."""
    source = iter(pieces)
    text = ""
    for piece in source:
        text += piece
        if len(text) > LARGEST_CHARACTERS:
            yield from read_plain(_chained(text, source))
            return
    _register(text)
    try:
        tree = publish_doctree(text, settings_overrides=_SETTINGS)
    except (nodes.NodeFound, RecursionError, AssertionError, ValueError, AttributeError, IndexError, KeyError):
        # docutils fails inside on some broken texts; what is in them is still worth reading.
        yield from read_plain([text])
        return
    yield from _Walk(text).blocks(tree, ())


def _chained(first: str, others: Iterator[str]) -> Iterator[str]:
    yield first
    yield from others


class _Walk:
    """A tree of docutils, leaf by leaf; each looked up in the source near the line that docutils gives of it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._line_starts = [0, *(match.end() for match in _LINE_END.finditer(source)), len(source)]
        self._place = 0

    def blocks(self, node: nodes.Element, path: Path, *, in_list: bool = False) -> Iterator[Block]:
        """What a node holds, in order."""
        for child in node.children:
            if isinstance(child, _SKIPPED) or not isinstance(child, nodes.Element):
                continue
            if isinstance(child, nodes.title):
                path = with_heading(path, len(path) + 1, child.astext())
                self._located(child)
            elif isinstance(child, _LEAVES):
                yield from self._block(child, path, in_list=in_list)
            elif isinstance(child, nodes.row):
                yield from self._row(child, path)
            else:
                yield from self.blocks(child, path, in_list=in_list or isinstance(child, _IN_LINES))

    def _block(self, node: nodes.Element, path: Path, *, in_list: bool) -> Iterator[Block]:
        is_code = isinstance(node, nodes.literal_block | nodes.doctest_block | nodes.line_block | nodes.math_block)
        text = cleaned(node.astext()).strip("\n").rstrip() if is_code else collapsed(node.astext())
        start, end = self._located(node)
        if text.strip():
            separator = "\n" if in_list and not is_code else "\n\n"
            yield Block(
                text,
                start,
                end,
                titles(path),
                "code" if is_code else "prose",
                separator,
                source=self._source[start:end],
            )

    def _row(self, row: nodes.row, path: Path) -> Iterator[Block]:
        cells = [collapsed(entry.astext()) for entry in row.children if isinstance(entry, nodes.Element)]
        text = " | ".join(filter(None, cells))
        spans = [self._located(leaf) for leaf in row.findall() if isinstance(leaf, _LEAVES)]
        if text and spans:
            start, end = spans[0][0], spans[-1][1]
            yield Block(text, start, end, titles(path), separator="\n", source=self._source[start:end])

    def _located(self, node: nodes.Element) -> tuple[int, int]:
        """Where a node stands, from its first line to its last."""
        lines = [line.strip() for line in node.rawsource.splitlines() if line.strip()] or node.astext().split()[:1]
        number = self._line_of(node)
        start = self._nearest(lines[0], number) if lines else -1
        if start < 0:
            # Made by docutils of something else, such as a table of contents: its line is the nearest to the truth.
            number = min(max(number - 1, 0), len(self._line_starts) - 2)
            return self._line_starts[number], self._line_starts[number + 1]
        end = start + len(lines[0])
        for line in lines[1:]:
            position = self._source.find(line, end, end + len(line) + _INDENTATION)
            end = end if position < 0 else position + len(line)
        self._place = end
        return start, end

    def _line_of(self, node: nodes.Element) -> int:
        """The line that docutils gives of a node, from 1: a few too many or too few; 0 where it gives none."""
        parent: nodes.Element | None = node
        while parent is not None and parent.line is None:
            parent = parent.parent
        return parent.line or 0 if parent is not None else 0

    def _nearest(self, text: str, line: int) -> int:
        """Where a text begins that is nearest to a line; without a line, the next one behind the last node."""
        if not line:
            return self._source.find(text, self._place)
        first, last = max(line - 1 - _MISSED_LINES, 0), min(line + _MISSED_LINES, len(self._line_starts) - 1)
        if first >= last:
            return -1
        wanted = self._line_starts[min(line - 1, last)]
        best, position = -1, self._source.find(text, self._line_starts[first], self._line_starts[last])
        while position >= 0:
            if best < 0 or abs(position - wanted) < abs(best - wanted):
                best = position
            position = self._source.find(text, position + 1, self._line_starts[last])
        return best


class _Any(dict[str, Any]):
    """Options of a directive that is not known: all are, and all are left as they stand."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 what docutils calls with the option's text
        return directives.unchanged


class _Text(Directive):
    """Keeps the arguments as a paragraph and the content as text."""

    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = _Any()
    has_content = True

    def run(self) -> list[nodes.Node]:
        """The nodes in the place of the directive."""
        kept: list[nodes.Element] = []
        if self.arguments:
            kept.append(self._paragraph(self.arguments[0]))
            kept[-1].line = self.lineno
        frame = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, frame)
        return list[nodes.Node]([*kept, frame])

    def _paragraph(self, argument: str) -> nodes.Element:
        if self.name not in _SAID:
            # A signature, such as f(*args): its stars are no markup.
            return nodes.paragraph(argument, argument)
        inline, _ = self.state.inline_text(f"{_SAID[self.name]} {argument}", self.lineno)
        return nodes.paragraph(argument, "", *inline)


class _Code(_Text):
    """Keeps the content as code."""

    def run(self) -> list[nodes.Node]:
        """The nodes in the place of the directive."""
        text = "\n".join(self.content)
        block = nodes.literal_block(text, text)
        block.line = self.lineno
        return [block] if text.strip() else []


class _Nothing(_Text):
    """Names what a tool puts there, which is no text of this file."""

    def run(self) -> list[nodes.Node]:
        """No nodes."""
        return []


def _role(
    _name: str, rawtext: str, text: str, *_others: object, **_options: object
) -> tuple[Sequence[nodes.reference], Sequence[nodes.reference]]:
    """The text of a role that is not known, without the target behind it."""
    shown = _LINK_TARGET.sub("", text) or text
    # A reference without a target is its text.
    return [nodes.reference(rawtext, shown.lstrip("~!"))], []


def _register(source: str) -> None:
    """Makes every directive and role of a text known: docutils keeps such a table for the process."""
    for name in {match[1].lower() for match in _DIRECTIVE.finditer(source)}:
        if name in _CODE:
            directives.register_directive(name, _Code)
        elif name in _EMPTY:
            directives.register_directive(name, _Nothing)
        elif name not in known.directives:
            directives.register_directive(name, _Text)
    for match in _ROLE.finditer(source):
        name = (match[1] or match[2]).lower()
        if name not in known.roles:
            roles.register_local_role(name, _role)
