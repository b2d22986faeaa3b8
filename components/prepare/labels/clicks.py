"""clicks.tsv -> the click log of the dataset; what cannot be true of a log is named by its line and counted by kind.

A header names the columns, in any order: query, passage, rank, clicked (0 or 1), and where the log has them session and
dwell seconds. Without a session every query is a session of its own. Kinds that every log has a few of (a passage that
left the corpus, a lost row, a robot) are warnings up to a share of the rows; robots always are.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from components.prepare.beir import CORPUS_NAME, QUERIES_NAME, bad_utf8, shown
from components.prepare.files import TextFile, check_encoding, find_file
from components.prepare.problems import Fault, Problems
from components.shared.clicks import ClickLog

CLICKS_FILE = "clicks.tsv"

_NAMES = {
    "session": {"session", "session_id", "sid"},
    "query": {"query_id", "qid", "query"},
    "passage": {"corpus_id", "passage_id", "doc_id", "docid", "docno", "pid"},
    "rank": {"rank", "position"},
    "clicked": {"clicked", "click", "is_clicked"},
    "dwell": {"dwell_seconds", "dwell", "dwell_time"},
}
_NEEDED = ("query", "passage", "rank", "clicked")
_RANK = re.compile(r"[1-9][0-9]{0,5}")
_NO_RANK = ("", "null", "none", "na", "nan", "\\n")

_ROBOT = "clicks: session with every result clicked"
_CONTENT = (
    "clicks: click without an impression",
    "clicks: missing rank",
    "clicks: dwell without a click",
    "clicks: unknown query",
    "clicks: unknown passage",
    "clicks: empty passage",
    "clicks: repeated row",
    "clicks: passage shown twice",
    "clicks: two passages at one rank",
    "clicks: showing with ranks missing",
)
_UNJOINED, _NO_RANK_KIND, _IDLE, _UNKNOWN_QUERY, _UNKNOWN, _EMPTY, _REPEATED, _TWICE, _ONE_RANK, _GAP = _CONTENT
_LARGEST_SHARE = 0.05
# Whoever clicks all of fewer results may be a thorough person.
_ROBOT_RESULTS = 5


@dataclass(frozen=True)
class _Row:
    session: str
    query: str
    passage: str
    rank: int
    clicked: bool
    dwell_seconds: float


@dataclass
class RawClicks:
    """The rows that can be read, as they stand in the file; whether they can be true is checked with the corpus."""

    log: ClickLog
    line_numbers: Int64[np.ndarray, " row"]
    name: str
    num_read: int = 0
    # Showings of which a row could not be read: their ranks have a gap that has been named.
    broken: frozenset[tuple[str, str]] = frozenset()


@dataclass
class _Ids:
    """Numbers in place of ids."""

    numbers: dict[str, int] = field(default_factory=dict)
    codes: array[int] = field(default_factory=lambda: array("i"))

    def add(self, name: str) -> None:
        self.codes.append(self.numbers.setdefault(name, len(self.numbers)))


def read_click_rows(folder: Path, problems: Problems) -> RawClicks | None:
    """The rows of clicks.tsv, plain or compressed; None where a collection has no clicks."""
    file = find_file(folder, CLICKS_FILE, problems)
    if file is None or not check_encoding(file, problems):
        return None
    lines = file.lines(f"reading {CLICKS_FILE}")
    header = next(lines, None)
    columns = _read_header(file, header[2] if header else b"", problems)
    if columns is None:
        return None
    sessions, queries, passages = _Ids(), _Ids(), _Ids()
    ranks, clicked, dwell, numbers = array("i"), array("b"), array("f"), array("q")
    broken: set[tuple[str, str]] = set()
    num_read = 0
    for line_number, _, line in lines:
        num_read += 1
        row = _parse(line, columns, broken)
        if isinstance(row, Fault):
            problems.add_line(file.name, line_number, row)
            continue
        for ids, name in ((sessions, row.session), (queries, row.query), (passages, row.passage)):
            ids.add(name)
        ranks.append(row.rank)
        clicked.append(row.clicked)
        dwell.append(row.dwell_seconds)
        numbers.append(line_number)
    log = ClickLog(
        tuple(sessions.numbers),
        tuple(queries.numbers),
        tuple(passages.numbers),
        sessions=np.array(sessions.codes, dtype=np.int32),
        queries=np.array(queries.codes, dtype=np.int32),
        passages=np.array(passages.codes, dtype=np.int32),
        ranks=np.array(ranks, dtype=np.int32),
        clicked=np.array(clicked, dtype=bool),
        dwell_seconds=np.array(dwell, dtype=np.float32),
    )
    return RawClicks(log, np.array(numbers, dtype=np.int64), file.name, num_read, frozenset(broken))


def check_clicks(
    raw: RawClicks, problems: Problems, *, query_ids: Collection[str], named: Collection[str], empty: Collection[str]
) -> ClickLog:
    """The rows that can be true.

    Args:
        raw: The rows.
        problems: Where the others go.
        query_ids: Of the queries that can be used.
        named: Those of the rows' passage ids that the corpus has.
        empty: Ids of passages in which there is nothing to read.
    """
    log, checks = raw.log, _Checks(raw, problems)
    first_of_pair, first_of_rank = _firsts(log.sessions, log.queries, log.passages), _showing_ranks(log)
    checks.refuse(~_known(log.query_ids, query_ids)[log.queries], _UNKNOWN_QUERY)
    is_empty = _known(log.passage_ids, empty)[log.passages]
    checks.refuse(~(_known(log.passage_ids, named)[log.passages] | is_empty), _UNKNOWN)
    checks.refuse(is_empty, _EMPTY)
    rows = np.arange(log.num_rows)
    again = first_of_pair != rows
    checks.refuse(again & (log.ranks == log.ranks[first_of_pair]), _REPEATED)
    checks.refuse(again, _TWICE)
    checks.refuse(first_of_rank != rows, _ONE_RANK)
    checks.refuse_groups(_gaps(log, raw.broken), _GAP)
    checks.refuse_groups(_robots(log), _ROBOT)
    problems.tolerate(_ROBOT)
    if sum(problems.skipped[kind] for kind in _CONTENT) <= _LARGEST_SHARE * raw.num_read:
        problems.tolerate(*_CONTENT)
    return _compact(log.rows(checks.kept))


class _Checks:
    """The rows that are still good, and what is said of the others: the first thing that is wrong with each."""

    def __init__(self, raw: RawClicks, problems: Problems) -> None:
        self._raw, self._problems = raw, problems
        self.kept = np.ones(raw.log.num_rows, dtype=bool)

    def refuse(self, bad: Bool[np.ndarray, " row"], kind: str) -> None:
        """Leaves rows out, each named."""
        for row in np.flatnonzero(bad & self.kept).tolist():
            self._problems.add_line(self._raw.name, int(self._raw.line_numbers[row]), self._fault(kind, row))
        self.kept &= ~bad

    def refuse_groups(self, groups: Int64[np.ndarray, " row"], kind: str) -> None:
        """Leaves whole showings or sessions out, each named once; rows of group -1 stay."""
        bad = (groups >= 0) & self.kept
        _, firsts = np.unique(groups[bad], return_index=True)
        for row in np.flatnonzero(bad)[firsts].tolist():
            self._problems.add_line(self._raw.name, int(self._raw.line_numbers[row]), self._fault(kind, row))
        self.kept &= ~bad

    def _fault(self, kind: str, row: int) -> Fault:
        log = self._raw.log
        session, query = shown(log.session_ids[log.sessions[row]]), shown(log.query_ids[log.queries[row]])
        passage, rank = shown(log.passage_ids[log.passages[row]]), log.ranks[row]
        said: Mapping[str, tuple[str, str]] = {
            _UNKNOWN_QUERY: (f"query {query} is not in {QUERIES_NAME}", "add the query or delete the row"),
            _UNKNOWN: (f"passage {passage} is not in {CORPUS_NAME}", "add the passage or delete the row"),
            _EMPTY: (f"passage {passage} has neither title nor text", "give it text, or delete the row"),
            _REPEATED: (f"session {session} shows {passage} for {query} in an earlier row", "delete the row"),
            _TWICE: (f"session {session} shows {passage} for {query} at another rank too", "delete the lower one"),
            _ONE_RANK: (f"session {session} shows two passages for {query} at rank {rank}", "mend the rank"),
            _GAP: (
                f"session {session} has no row for some rank above its last one of query {query}",
                "log every result that was shown, clicked or not",
            ),
            _ROBOT: (f"session {session} clicks every result that it was shown", "leave the session out"),
        }
        return Fault(kind, *said[kind])


def _read_header(file: TextFile, line: bytes, problems: Problems) -> Mapping[str, int] | None:
    text = line.decode(errors="replace").rstrip("\r\n")
    names = [re.sub(r"[-. ]", "_", name.strip().lower()) for name in text.split("\t")]
    columns = {role: names.index(name) for role, known in _NAMES.items() for name in names if name in known}
    if missing := [role for role in _NEEDED if role not in columns]:
        remedy = "write session, query-id, corpus-id, rank, clicked, dwell-seconds with tabs between"
        problem = f"the header {shown(text)} names no column of {', '.join(missing)}"
        problems.add_file(f"{file.name}:1", problem, remedy)
        return None
    return {**columns, "number": len(names)}


def _parse(line: bytes, columns: Mapping[str, int], broken: set[tuple[str, str]]) -> _Row | Fault:
    try:
        cells = [cell.strip() for cell in line.decode().rstrip("\r\n").split("\t")]
    except UnicodeDecodeError as error:
        return replace(bad_utf8(line, error), kind="clicks: bad UTF-8")
    if len(cells) != columns["number"]:
        problem = f"{len(cells)} column(s), not {columns['number']}"
        return Fault("clicks: wrong columns", problem, "write all rows alike, with tabs between the columns")
    query, passage = cells[columns["query"]], cells[columns["passage"]]
    session = cells[columns["session"]] if "session" in columns else query
    if not (session and query and passage):
        return Fault("clicks: missing id", "the session, query or passage has no id", "name all three")
    rank, clicked = cells[columns["rank"]], cells[columns["clicked"]]
    dwell = cells[columns["dwell"]] if "dwell" in columns else ""
    if fault := _fault_of(rank, clicked, dwell):
        broken.add((session, query))
        return fault
    return _Row(session, query, passage, int(rank), clicked == "1", float(dwell or 0))


def _fault_of(rank: str, clicked: str, dwell: str) -> Fault | None:
    """What is wrong with a row that has its ids; a click comes first, because it says what the row means."""
    if clicked not in ("0", "1"):
        return Fault("clicks: wrong click", f"clicked {shown(clicked)} is neither 0 nor 1", "write 1 for a click")
    if rank.lower() in _NO_RANK and clicked == "1":
        return Fault(_UNJOINED, "a click on a passage that has no rank, so was not shown", "join it to its impression")
    if rank.lower() in _NO_RANK:
        return Fault(_NO_RANK_KIND, "the row has no rank", "write where the passage stood, from 1")
    if not _RANK.fullmatch(rank):
        return Fault("clicks: wrong rank", f"rank {shown(rank)} is no whole number from 1 on", "count ranks from 1")
    try:
        seconds = float(dwell or 0)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        return Fault("clicks: wrong dwell", f"dwell {shown(dwell)} is no time in seconds", "write seconds, 0 or more")
    if seconds > 0 and clicked == "0":
        return Fault(_IDLE, f"{seconds:g} seconds on a passage that was not clicked", "write 0, or 1 for the click")
    return None


def _known(ids: tuple[str, ...], known: Collection[str]) -> Bool[np.ndarray, " id"]:
    return np.array([one in known for one in ids], dtype=bool)


def _showings(log: ClickLog) -> Int64[np.ndarray, " row"]:
    showings: Int64[np.ndarray, " row"] = log.sessions.astype(np.int64) * max(1, len(log.query_ids)) + log.queries
    return showings


def _firsts(*columns: np.ndarray) -> Int64[np.ndarray, " row"]:
    """For each row the first row that is equal to it in all columns."""
    if not len(columns[0]):
        return np.empty(0, dtype=np.int64)
    _, firsts, groups = np.unique(np.stack(columns, axis=1), axis=0, return_index=True, return_inverse=True)
    first: Int64[np.ndarray, " row"] = firsts[groups.ravel()]
    return first


def _showing_ranks(log: ClickLog) -> Int64[np.ndarray, " row"]:
    return _firsts(log.sessions, log.queries, log.ranks)


def _gaps(log: ClickLog, broken: Collection[tuple[str, str]]) -> Int64[np.ndarray, " row"]:
    """Number of the showing for rows of one in which a rank above the last is missing; -1 for all others."""
    showings = _showings(log)
    names, groups = np.unique(showings, return_inverse=True)
    distinct = _showing_ranks(log) == np.arange(log.num_rows)
    num_ranks = np.bincount(groups, weights=distinct, minlength=len(names))
    last = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(last, groups, log.ranks)
    has_gap = last > num_ranks
    for number in np.flatnonzero(has_gap).tolist():
        session, query = divmod(int(names[number]), max(1, len(log.query_ids)))
        has_gap[number] = (log.session_ids[session], log.query_ids[query]) not in broken
    return np.where(has_gap[groups], groups, -1)


def _robots(log: ClickLog) -> Int64[np.ndarray, " row"]:
    """Number of the session for rows of one that clicked everything; -1 for all others."""
    shown_results = np.bincount(log.sessions, minlength=len(log.session_ids))
    clicks = np.bincount(log.sessions, weights=log.clicked, minlength=len(log.session_ids))
    is_robot = (shown_results >= _ROBOT_RESULTS) & (clicks == shown_results)
    return np.where(is_robot[log.sessions], log.sessions, -1).astype(np.int64)


def _compact(log: ClickLog) -> ClickLog:
    """The log without ids that no row names."""

    def renumbered(codes: np.ndarray, ids: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
        used, numbers = np.unique(codes, return_inverse=True)
        return numbers.astype(np.int32), tuple(ids[number] for number in used.tolist())

    sessions, session_ids = renumbered(log.sessions, log.session_ids)
    queries, query_ids = renumbered(log.queries, log.query_ids)
    passages, passage_ids = renumbered(log.passages, log.passage_ids)
    return replace(
        log,
        session_ids=session_ids,
        query_ids=query_ids,
        passage_ids=passage_ids,
        sessions=sessions,
        queries=queries,
        passages=passages,
    )
