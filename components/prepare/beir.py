"""Lines of a collection in BEIR layout -> records, or the fault that makes a line useless.

A number as `_id` is read as its decimal text if it is an integer, because qrels can name it in no other way; `7` and
`"7"` are then the same id. Fields that are not known here are left alone.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from components.prepare.problems import Fault
from components.shared.records import Passage, Qrel, Query

CORPUS_NAME, QUERIES_NAME, UNLABELED_NAME = "corpus.jsonl", "queries.jsonl", "queries_unlabeled.jsonl"
QRELS_HEADER = "query-id\tcorpus-id\tscore"

# White space and control characters end a column of qrels and run files, so an id with one could not be written back.
_NOT_IN_ID = re.compile(r"[\s\x00-\x1f\x7f]")
# Tab, line ends and form feed separate words; the others come from a broken conversion and confuse tokenizers.
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")
_INTEGER = re.compile(r"[+-]?[0-9]{1,9}")
_MAX_SHOWN = 40


def parse_passage(line: bytes) -> Passage | Fault:
    """A line of corpus.jsonl; a missing or null title is an empty one."""
    values = _parse_object(line)
    if isinstance(values, Fault):
        return values
    passage_id = _read_id(values)
    if isinstance(passage_id, Fault):
        return passage_id
    text = _read_text(values, "text")
    if isinstance(text, Fault):
        return text
    title = "" if values.get("title") is None else _read_text(values, "title")
    if isinstance(title, Fault):
        return title
    if not text.strip() and not title.strip():
        return Fault(
            "empty passage",
            f"passage {shown(passage_id)} has neither title nor text",
            "delete the line or give it text",
        )
    return Passage(passage_id, title, text)


def parse_query(line: bytes) -> Query | Fault:
    """A line of queries.jsonl; `answers` may be missing or null."""
    values = _parse_object(line)
    if isinstance(values, Fault):
        return values
    query_id = _read_id(values)
    if isinstance(query_id, Fault):
        return query_id
    text = _read_text(values, "text")
    if isinstance(text, Fault):
        return text
    if not text.strip():
        return Fault("empty query", f"query {shown(query_id)} has no text", "delete the line or give it text")
    answers = values.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        return Fault("wrong type", f'"answers" is {shown(answers)}', "make it a list of strings")
    return Query(query_id, text, tuple(answers))


def parse_qrel(line: bytes) -> Qrel | Fault:
    """A row of a qrels file, its grade as it stands there."""
    try:
        row = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        return _bad_utf8(line, error)
    columns = row.split("\t")
    if len(columns) != 3:
        return Fault(
            "wrong columns", f"{len(columns)} column(s), not 3", "write query-id, corpus-id, score with tabs between"
        )
    query_id, passage_id, score = columns
    if not _INTEGER.fullmatch(score):
        return Fault(
            "wrong score",
            f"score {shown(score)} is not an integer",
            "write a whole number: 0 not relevant, 1 or more relevant",
        )
    return Qrel(query_id, passage_id, int(score))


def shown(value: object) -> str:
    """A value as JSON, cut where it is long."""
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _parse_object(line: bytes) -> dict[str, Any] | Fault:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _not_json(line, error)
    if not isinstance(values, dict):
        return Fault("not an object", f"{shown(values)} is not a JSON object", 'write {"_id": ..., "text": ...}')
    return values


def _not_json(line: bytes, error: orjson.JSONDecodeError) -> Fault:
    if not line.strip():
        return Fault("empty line", "the line is empty", "delete it")
    if b"\0" in line:
        return Fault(
            "control character", f"NUL byte at byte {line.index(0) + 1}", "the file is damaged; write it again"
        )
    try:
        line.decode()
    except UnicodeDecodeError as not_utf8:
        return _bad_utf8(line, not_utf8)
    if not line.endswith(b"\n"):
        return Fault(
            "broken JSON",
            "the file ends inside this record",
            "it was cut while it was written or copied; copy it again",
        )
    return Fault(
        "broken JSON",
        f"not JSON from column {error.colno} on",
        "write one JSON object a line, strings in double quotes",
    )


def _bad_utf8(line: bytes, error: UnicodeDecodeError) -> Fault:
    problem = f"byte {error.start + 1} of the line (0x{line[error.start]:02X}) is not UTF-8"
    return Fault("bad UTF-8", problem, "convert the file, for example with iconv -f latin1 -t utf-8")


def _read_id(values: dict[str, Any]) -> str | Fault:
    if "_id" not in values:
        return Fault("missing id", 'no "_id"', 'give the line an "_id", a string')
    value = values["_id"]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return Fault("wrong type", f'"_id" is {shown(value)}', "make it a string")
    if not value:
        return Fault("missing id", '"_id" is empty', 'give the line an "_id", a string')
    if _NOT_IN_ID.search(value):
        return Fault(
            "wrong id",
            f'"_id" {shown(value)} holds white space or a control character',
            "replace it, here and in the qrels",
        )
    return value


def _read_text(values: dict[str, Any], name: str) -> str | Fault:
    if name not in values:
        return Fault("missing text", f'no "{name}"', f'give the line a "{name}", a string')
    value = values[name]
    if not isinstance(value, str):
        return Fault("wrong type", f'"{name}" is {shown(value)}', "make it a string")
    # isprintable is one pass in C and true for most texts; the pattern decides about the others.
    if not value.isprintable() and (found := _NOT_IN_TEXT.search(value)):
        problem = f'"{name}" holds control character U+{ord(found[0]):04X} at character {found.start() + 1}'
        return Fault("control character", problem, "remove it")
    return value
