"""Rows of qrels as the usual tools write them: how a file is laid out is read from its first line.

Columns are separated by tabs, commas, or other white space. A header names them, in any order, by the names that BEIR,
MS MARCO, ir_datasets and pandas give; without a header the columns are query, passage, grade, or as in TREC query, an
unused column, passage, grade. A grade is a whole number, which may be written as 1.0; 0.5 is refused, because rounding
would make it useful or useless at will.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass

from components.prepare.beir import bad_utf8, shown
from components.prepare.problems import Fault
from components.shared.records import Qrel

_NAMES = {
    "query": {"query_id", "queryid", "qid", "query", "topic", "topic_id", "q_id"},
    "passage": {"corpus_id", "doc_id", "docid", "docno", "document_id", "passage_id", "pid", "corpusid", "p_id", "did"},
    "grade": {"score", "relevance", "rel", "label", "grade", "rating", "judgment", "judgement", "relevancy"},
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}(?:\.0*)?")
_LAYOUT_REMEDY = "make it query-id, corpus-id, score with tabs between"
# Of a run in TREC's format: query, Q0, passage, rank, score, name.
_RUN_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class QrelsLayout:
    """Where a file's columns stand; `separator` is empty for white space."""

    separator: str
    num_columns: int
    query: int
    passage: int
    grade: int
    has_header: bool


def read_layout(first_line: bytes) -> QrelsLayout | Fault:
    """The layout that the first line of a file that is not blank shows."""
    try:
        row = first_line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        return bad_utf8(first_line, error)
    separator = "\t" if "\t" in row else "," if "," in row else ""
    columns = _split(row, separator)
    names = [_normalised(column) for column in columns]
    known = {role: [position for position, name in enumerate(names) if name in _NAMES[role]] for role in _NAMES}
    if all(len(positions) == 1 for positions in known.values()):
        return QrelsLayout(separator, len(columns), known["query"][0], known["passage"][0], known["grade"][0], True)
    if len(columns) == _RUN_COLUMNS and columns[1].upper() == "Q0":
        return Fault("run", "is a run (the hits of a system) and holds no grades", "put the human judgements here")
    if len(columns) in (3, 4) and read_grade(columns[-1]) is not None:
        return QrelsLayout(separator, len(columns), 0, len(columns) - 2, len(columns) - 1, False)
    if len(columns) in (3, 4) and _is_number(columns[-1]):
        return QrelsLayout(separator, len(columns), 0, len(columns) - 2, len(columns) - 1, False)
    return Fault("wrong header", f"the header is {shown(row)}", _LAYOUT_REMEDY)


def parse_qrel(line: bytes, layout: QrelsLayout) -> Qrel | Fault:
    """A row of a qrels file, its grade as it stands there."""
    try:
        row = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        return bad_utf8(line, error)
    columns = _split(row, layout.separator)
    if len(columns) != layout.num_columns:
        separator = {"\t": "tabs", ",": "commas", "": "white space"}[layout.separator]
        return Fault(
            "wrong columns",
            f"{len(columns)} column(s), not {layout.num_columns}",
            f"write all rows alike, here with {separator} between the columns",
        )
    query_id, passage_id = columns[layout.query], columns[layout.passage]
    if not query_id or not passage_id:
        return Fault("missing id", "the query or the passage has no id", "name both, or delete the row")
    grade = read_grade(columns[layout.grade])
    if grade is None:
        return Fault(
            "wrong score",
            f"score {shown(columns[layout.grade])} is not a whole number",
            "write a whole number: 0 not relevant, 1 or more relevant",
        )
    return Qrel(query_id, passage_id, grade)


def read_grade(text: str) -> int | None:
    """A whole number, also where it is written as 1.0 or 1e0; None for everything else."""
    if _WHOLE.fullmatch(text):
        return int(float(text))
    value = float(text) if _is_number(text) else math.nan
    return int(value) if math.isfinite(value) and value.is_integer() and abs(value) < 1e9 else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not text.strip().lower().lstrip("+-").startswith(("nan", "inf")) and "_" not in text


def _split(row: str, separator: str) -> list[str]:
    if separator == ",":
        return [column.strip() for column in next(csv.reader([row]))]
    return [column.strip() for column in row.split(separator)] if separator else row.split()


def _normalised(name: str) -> str:
    return re.sub(r"[-. ]", "_", name.strip().strip('"#').strip().lower())
