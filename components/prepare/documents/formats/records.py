"""Records of other tools as JSON -> documents: text, id and title under the names that tools give them.

A file is one object a line (JSONL), one array, objects one after the other, or one object that holds a list of them
(`{"documents": [...]}`). It is read as a stream, one record in memory at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from components.prepare.problems import Fault

# Names of fields, the likeliest first: ours and BEIR's, LangChain, LlamaIndex and Haystack, Pyserini and ir_datasets,
# crawlers.
TEXT_NAMES = ("text", "page_content", "content", "contents", "body", "passage", "segment", "markdown", "raw_content")
TITLE_NAMES = ("title", "name", "heading", "headline", "subject")
ID_NAMES = ("_id", "id", "id_", "docid", "doc_id", "document_id", "docno", "pid", "passage_id", "passage-id", "uuid")
_PAGE_NAMES = ("page", "page_number")
_NESTED = ("metadata", "meta")
_SPACE, _SPACE_AND_COMMAS = re.compile(r"[ \t\r\n]*"), re.compile(r"[ \t\r\n,]*")


@dataclass(frozen=True, slots=True)
class Record:
    """A document in a file of many; `record_id` is empty where it has none, `text_name` the field its text is in."""

    line_number: int
    record_id: str
    title: str
    text: str
    text_name: str
    page: int = 0


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read, and why."""

    line_number: int
    fault: Fault


MISSING_TEXT, NO_OBJECT = "missing text", "not an object"


def read_records(pieces: Iterable[str], *, is_lines: bool) -> Iterator[Record | BadRecord]:
    """The records of a file in order.

    Args:
        pieces: Of its text.
        is_lines: Whether its name says that every line is an object, so that a bad line does not end the file.
    """
    values = _of_lines(pieces) if is_lines else _of_stream(pieces)
    for line_number, value in values:
        if isinstance(value, Fault):
            yield BadRecord(line_number, value)
            continue
        for member in _expanded(value):
            yield _record(line_number, member)


def _record(line_number: int, value: object) -> Record | BadRecord:
    if not isinstance(value, dict):
        return BadRecord(line_number, Fault(NO_OBJECT, "the value is no JSON object", "write objects only"))
    text_name = next((name for name in TEXT_NAMES if isinstance(value.get(name), str)), "")
    if not text_name:
        problem = f"no text under any of the names {', '.join(TEXT_NAMES)}"
        return BadRecord(line_number, Fault(MISSING_TEXT, problem, "rename the field that holds it to text"))
    nested: dict[str, Any] = next((value[name] for name in _NESTED if isinstance(value.get(name), dict)), {})
    record_id = _first(value, nested, ID_NAMES, (str, int))
    title = _first(value, nested, TITLE_NAMES, (str,))
    page = _first(value, nested, _PAGE_NAMES, (int,))
    return Record(
        line_number,
        "" if record_id is None else str(record_id),
        title or "",
        value[text_name],
        text_name,
        page if isinstance(page, int) and page > 0 else 0,
    )


def _first(value: dict[str, Any], nested: dict[str, Any], names: tuple[str, ...], types: tuple[type, ...]) -> Any:  # noqa: ANN401 any JSON
    for values in (value, nested):
        for name in names:
            held = values.get(name)
            if isinstance(held, types) and not isinstance(held, bool) and held != "":
                return held
    return None


def _expanded(value: object) -> Iterable[object]:
    """The members of an object that is only a frame around a list of objects; else the value itself."""
    if isinstance(value, dict) and not any(isinstance(value.get(name), str) for name in TEXT_NAMES):
        lists: list[list[object]] = [held for held in value.values() if _is_of_objects(held)]
        if len(lists) == 1:
            return lists[0]
    return [value]


def _is_of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(member, dict) for member in value)


def _of_lines(pieces: Iterable[str]) -> Iterator[tuple[int, object]]:
    for line_number, line in enumerate(_lines(pieces), start=1):
        if not line.strip():
            continue
        try:
            yield line_number, orjson.loads(line)
        except orjson.JSONDecodeError as error:
            problem = f"not JSON from column {error.colno} on"
            yield line_number, Fault("broken JSON", problem, "write one JSON object a line, or call the file .json")


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    waiting: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        waiting.append(first)
        for other in others:
            yield "".join(waiting)
            waiting = [other]
    if any(waiting):
        yield "".join(waiting)


def _of_stream(pieces: Iterable[str]) -> Iterator[tuple[int, object]]:
    """Values one after the other, also those of one array around them."""
    decoder = json.JSONDecoder()
    source = iter(pieces)
    waiting, cursor, line_number = "", 0, 1
    is_array: bool | None = None
    while True:
        bare = _behind_space(waiting, cursor, and_commas=is_array is True)
        line_number += waiting.count("\n", cursor, bare)
        cursor = bare
        if cursor < len(waiting) and is_array is None:
            is_array = waiting[cursor] == "["
            cursor += is_array
            continue
        if is_array and waiting.startswith("]", cursor):
            return
        end, value = cursor, None
        problem: json.JSONDecodeError | RecursionError | None = None
        try:
            if cursor < len(waiting):
                value, end = decoder.raw_decode(waiting, cursor)
        except (json.JSONDecodeError, RecursionError) as error:
            problem = error
        # A number or word at the end of what has come may go on in the next piece.
        if cursor < end < len(waiting):
            yield line_number, value
            line_number += waiting.count("\n", cursor, end)
            cursor = end
            continue
        piece = None if isinstance(problem, RecursionError) else next(source, None)
        if piece is not None:
            waiting, cursor = waiting[cursor:] + piece, 0
            continue
        if end > cursor:
            yield line_number, value
        if problem or is_array:
            line_number += waiting.count("\n", cursor, getattr(problem, "pos", cursor))
            yield line_number, Fault("broken JSON", "not JSON from this line on", "mend it, or write it again")
        return


def _behind_space(text: str, cursor: int, *, and_commas: bool) -> int:
    match = (_SPACE_AND_COMMAS if and_commas else _SPACE).match(text, cursor)
    assert match is not None
    return match.end()
