r"""Lines of a collection in BEIR layout -> records, or the fault that makes a line useless.

A number as `_id` is read as its decimal text if it is an integer, because qrels can name it in no other way; `7` and
`"7"` are then the same id. An id holds no white space and no control characters, because these end the columns of qrels
and runs. Where a line has no `_id` or no `text`, the name that another tool gives the field is read instead (`docid`,
`contents`, ...), unless two of them are there. A title or text of null is an empty one. Half a character (a lone
surrogate such as `\ud83d`, left by a tool that cut a text) is read as U+FFFD. Fields that are not known here, such as
`metadata`, are left alone. What was read in another form than it stands there is counted in `notes`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from components.prepare.problems import Fault
from components.shared.records import Passage, Query

CORPUS_NAME, QUERIES_NAME, UNLABELED_NAME = "corpus.jsonl", "queries.jsonl", "queries_unlabeled.jsonl"
QRELS_HEADER = "query-id\tcorpus-id\tscore"

# White space and control characters end a column of qrels and run files, so an id with one could not be written back.
_NOT_IN_ID = re.compile(r"[\s\x00-\x1f\x7f]")
# Tab, line ends and form feed separate words; the others come from a broken conversion and confuse tokenizers.
_NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_SHOWN = 40
# Names that other tools (Pyserini, ir_datasets, MS MARCO) give a field, read where the name of BEIR is not there.
_PASSAGE_IDS = ("id", "docid", "doc_id", "docno", "pid", "passage_id", "passage-id", "corpus_id", "corpus-id")
_PASSAGE_TEXTS = ("contents", "content", "body", "passage", "segment")
_QUERY_IDS = ("id", "qid", "query_id", "query-id")
_QUERY_TEXTS = ("query", "question", "title")
REPLACED_SURROGATE = "half characters read as U+FFFD"


@dataclass(frozen=True, slots=True)
class EmptyPassage:
    """A line that holds an id and nothing to read."""

    passage_id: str


def parse_passage(line: bytes, notes: Counter[str]) -> Passage | EmptyPassage | Fault:
    """A line of corpus.jsonl; a missing or null title is an empty one."""
    values = _parse_object(line, notes)
    if isinstance(values, Fault):
        return values
    passage_id = _read_id(values, _PASSAGE_IDS, notes)
    if isinstance(passage_id, Fault):
        return passage_id
    text = _read_text(values, "text", _PASSAGE_TEXTS, notes)
    if isinstance(text, Fault):
        return text
    title = _read_text(values, "title", (), notes) if "title" in values else ""
    if isinstance(title, Fault):
        return title
    if not text.strip() and not title.strip():
        return EmptyPassage(passage_id)
    return Passage(passage_id, title, text)


def parse_query(line: bytes, notes: Counter[str]) -> Query | Fault:
    """A line of queries.jsonl; `answers` and `topic` may be missing or null."""
    values = _parse_object(line, notes)
    if isinstance(values, Fault):
        return values
    query_id = _read_id(values, _QUERY_IDS, notes)
    if isinstance(query_id, Fault):
        return query_id
    text = _read_text(values, "text", _QUERY_TEXTS, notes)
    if isinstance(text, Fault):
        return text
    if not text.strip():
        return Fault("empty query", f"query {shown(query_id)} has no text", "delete the line or give it text")
    answers = values.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        return Fault("wrong type", f'"answers" is {shown(answers)}', "make it a list of strings")
    topic = values.get("topic")
    if not isinstance(topic, str | int | None) or isinstance(topic, bool):
        return Fault("wrong type", f'"topic" is {shown(topic)}', "make it a string")
    return Query(query_id, text, tuple(answers), "" if topic is None else str(topic))


def shown(value: object) -> str:
    """A value as JSON, cut where it is long."""
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def bad_utf8(line: bytes, error: UnicodeDecodeError) -> Fault:
    """The fault of a line that is in another encoding."""
    problem = f"byte {error.start + 1} of the line (0x{line[error.start]:02X}) is not UTF-8"
    return Fault("bad UTF-8", problem, "convert the file, for example with iconv -f latin1 -t utf-8")


def _parse_object(line: bytes, notes: Counter[str]) -> dict[str, Any] | Fault:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        values = _with_surrogates(line)
        if values is None:
            return _not_json(line, error)
        notes[REPLACED_SURROGATE] += 1
    if not isinstance(values, dict):
        return Fault("not an object", f"{shown(values)} is not a JSON object", 'write {"_id": ..., "text": ...}')
    return values


def _with_surrogates(line: bytes) -> object:
    """The object of a line that only lone surrogates keep from being JSON; None where something else does too."""
    if not _ESCAPED_SURROGATE.search(line):
        return None
    try:
        # Written and read again, so that nothing passes that the strict reader refuses, such as NaN.
        text = json.dumps(json.loads(line), ensure_ascii=False)
        return orjson.loads(_LONE_SURROGATE.sub("\ufffd", text))
    except ValueError:
        return None


def _not_json(line: bytes, error: orjson.JSONDecodeError) -> Fault:
    if b"\0" in line:
        return Fault(
            "control character", f"NUL byte at byte {line.index(0) + 1}", "the file is damaged; write it again"
        )
    try:
        line.decode()
    except UnicodeDecodeError as not_utf8:
        return bad_utf8(line, not_utf8)
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


def _read_id(values: dict[str, Any], other_names: Sequence[str], notes: Counter[str]) -> str | Fault:
    name = _field_name(values, "_id", other_names, notes)
    if isinstance(name, Fault):
        return name
    if name not in values:
        return Fault("missing id", 'no "_id"', 'give the line an "_id", a string')
    value = values[name]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return Fault("wrong type", f'"{name}" is {shown(value)}', "make it a string")
    if not value:
        return Fault("missing id", f'"{name}" is empty', 'give the line an "_id", a string')
    if _NOT_IN_ID.search(value):
        return Fault(
            "wrong id",
            f'"{name}" {shown(value)} holds white space or a control character',
            "replace it, here and in the qrels",
        )
    if "\ufffd" in value:
        return Fault(
            "wrong id", f'"{name}" {shown(value)} holds a broken character', "replace it, here and in the qrels"
        )
    return value


def _read_text(values: dict[str, Any], name: str, other_names: Sequence[str], notes: Counter[str]) -> str | Fault:
    used = _field_name(values, name, other_names, notes)
    if isinstance(used, Fault):
        return used
    if used not in values:
        return Fault("missing text", f'no "{name}"', f'give the line a "{name}", a string')
    value = "" if values[used] is None else values[used]
    if not isinstance(value, str):
        return Fault("wrong type", f'"{used}" is {shown(value)}', "make it a string")
    # isprintable is one pass in C and true for most texts; the pattern decides about the others.
    if not value.isprintable() and (match := _NOT_IN_TEXT.search(value)):
        problem = f'"{used}" holds control character U+{ord(match[0]):04X} at character {match.start() + 1}'
        return Fault("control character", problem, "remove it")
    return value


def _field_name(values: dict[str, Any], name: str, other_names: Sequence[str], notes: Counter[str]) -> str | Fault:
    """The name under which a field stands: its own, or the only one of those that other tools give it."""
    if name in values:
        return name
    present = [other for other in other_names if other in values]
    if len(present) > 1:
        problem = f'no "{name}", and both "{present[0]}" and "{present[1]}" could be it'
        return Fault("two fields for one", problem, f'rename the right one to "{name}"')
    if not present:
        return name
    notes[f'"{present[0]}" read as "{name}"'] += 1
    return present[0]
