"""The lines of a collection in BEIR layout, checked as a whole: which ids repeat, and what the qrels name.

Queries and qrels are held in memory; of a passage only 16 bytes are (the hash of its id, the offset of its line), so
the corpus may be larger than memory. Equal hashes only raise a suspicion: the ids themselves are read again and
compared.

A passage without title and text is left out with a warning, and its rows of qrels with it. So are rows that name an
unknown query or passage, as long as they are few; where they are many, the files do not belong together, and the
collection is refused.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as Ids
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components.prepare.beir import CORPUS_NAME, QUERIES_NAME, EmptyPassage, parse_passage, parse_query, shown
from components.prepare.files import TextFile
from components.prepare.labels.qrels import parse_qrel
from components.prepare.layout import QRELS_FOLDER, Layout, QrelsFiles
from components.prepare.problems import Fault, Problems
from components.shared.clicks import ClickLog
from components.shared.dataset import Provenance
from components.shared.language.detection import SAMPLE_CHARACTERS, SAMPLE_TEXTS
from components.shared.records import Passage, Qrel, Query
from components.shared.splits import hash_split

# Kinds of lines that are left out with a warning; the last two only up to a share of all rows.
_EMPTY_PASSAGE, _OF_EMPTY_PASSAGE = "empty passage", "row of an empty passage"
_UNKNOWN = ("unknown query", "unknown passage")
_LARGEST_UNKNOWN_SHARE = 0.05


@dataclass(frozen=True)
class Collection:
    """What a dataset is made of, checked as a whole; passages are still where they were read from.

    Attributes:
        passages: Gives the good passages in order, each with its provenance where it was cut from a document.
        sample: Beginnings of passages drawn evenly, for the detection of the language.
        queries: By id.
        judgements: Of all qrels files.
        rows: Those judgements that can be used.
        metrics: Facts for the manifest.
        clicks: What people clicked; None where the collection has no log.
        notes: Lines or files that were read in another form than they stand there, by what it is.
    """

    passages: Callable[[], Iterator[tuple[Passage, Provenance | None]]]
    sample: tuple[str, ...]
    queries: dict[str, Query]
    judgements: Judgements
    rows: list[JudgedRow]
    metrics: dict[str, Any]
    notes: Counter[str]
    clicks: ClickLog | None = None


@dataclass(frozen=True)
class CheckedCorpus:
    """What one reading of the corpus found; passages are in the file still.

    Attributes:
        file: The corpus.
        num_passages: Passages that can be used.
        named: Those of the wanted ids that are there.
        empty: Ids of passages without title and text.
        repeated: Numbers of the lines whose id stood in an earlier line.
        sample: Beginnings of passages drawn evenly, for the detection of the language.
    """

    file: TextFile
    num_passages: int
    named: frozenset[str]
    empty: frozenset[str]
    repeated: frozenset[int]
    sample: tuple[str, ...]

    def passages(self) -> Iterator[tuple[Passage, None]]:
        """The good passages in the file's order; they were not cut from anything."""
        notes: Counter[str] = Counter()
        for line_number, _, line in self.file.lines(f"writing {CORPUS_NAME}"):
            passage = parse_passage(line, notes)
            if isinstance(passage, Passage) and line_number not in self.repeated:
                yield passage, None


@dataclass(frozen=True, slots=True)
class JudgedRow:
    """A qrel and where it stands."""

    qrel: Qrel
    split: str
    name: str
    line_number: int


@dataclass
class Judgements:
    """The good rows of all qrels files, in order; `splits` has every query that a row judges."""

    rows: list[JudgedRow]
    splits: dict[str, str]
    num_read: int = 0
    num_clamped: int = 0
    num_repeated: int = 0
    num_files: int = 0


def read_queries(files: Sequence[TextFile], notes: Counter[str], problems: Problems) -> dict[str, Query]:
    """Queries of all query files by id; of an id that repeats, the first. Without a file there are none."""
    queries: dict[str, Query] = {}
    first_lines: dict[str, str] = {}
    for file in files:
        for line_number, _, line in file.lines():
            query = parse_query(line, notes)
            if isinstance(query, Fault):
                problems.add_line(file.name, line_number, query)
            elif query.query_id in queries:
                problems.add_line(file.name, line_number, _repeated_id(query.query_id, first_lines[query.query_id]))
            else:
                queries[query.query_id] = query
                first_lines[query.query_id] = f"{file.name}:{line_number}"
    if files and not queries:
        problems.add_file(
            files[0].name, "holds no query that can be used", 'write one {"_id": ..., "text": ...} a line'
        )
    return queries


def read_qrels(files: QrelsFiles, queries: Mapping[str, Query], problems: Problems) -> Judgements:
    """Rows whose query is known; grades below 0 (spam, in TREC's files) become 0.

    Where the files are not split, a hash of the query's topic or id decides.
    """
    judged: dict[tuple[str, str], JudgedRow] = {}
    homes: dict[str, JudgedRow] = {}
    judgements = Judgements([], {}, num_files=len(files))
    for file, columns, split in files:
        has_header = columns.has_header
        for line_number, _, line in file.lines():
            if has_header:
                has_header = False
                continue
            judgements.num_read += 1
            qrel = parse_qrel(line, columns)
            if isinstance(qrel, Fault):
                problems.add_line(file.name, line_number, qrel)
                continue
            judgements.num_clamped += qrel.grade < 0
            topic = queries[qrel.query_id].topic if qrel.query_id in queries else ""
            own_split = split or hash_split(topic or qrel.query_id)
            row = JudgedRow(replace(qrel, grade=max(qrel.grade, 0)), own_split, file.name, line_number)
            earlier = judged.get((qrel.query_id, qrel.passage_id))
            home = homes.setdefault(qrel.query_id, row)
            if fault := _conflict(row, queries, home, earlier):
                problems.add_line(file.name, line_number, fault)
            elif earlier:
                judgements.num_repeated += 1
            else:
                judged[qrel.query_id, qrel.passage_id] = row
    judgements.rows = list(judged.values())
    judgements.splits = {query_id: row.split for query_id, row in homes.items() if query_id in queries}
    return judgements


def check_corpus(layout: Layout, named: Ids[str], problems: Problems) -> CheckedCorpus:
    """Reads the corpus once; `named` are the passage ids that matter to the qrels."""
    file = layout.corpus
    present: set[str] = set()
    empty: set[str] = set()
    sample = _Sample()
    hashes, offsets = array("q"), array("q")
    for line_number, offset, line in file.lines(f"checking {CORPUS_NAME}"):
        # Blank lines are not among those read: they keep their numbers.
        while len(offsets) < line_number:
            hashes.append(0)
            offsets.append(-1)
        passage = parse_passage(line, layout.notes)
        if isinstance(passage, Fault):
            problems.add_line(file.name, line_number, passage)
            continue
        if isinstance(passage, EmptyPassage):
            problems.add_line(file.name, line_number, _empty_passage(passage))
            empty.add(passage.passage_id)
            continue
        hashes[line_number - 1] = hash(passage.passage_id)
        offsets[line_number - 1] = offset
        sample.add(passage.full_text)
        if passage.passage_id in named:
            present.add(passage.passage_id)
    problems.tolerate(_EMPTY_PASSAGE, _OF_EMPTY_PASSAGE)
    repeated = find_repeated(file, np.asarray(hashes), np.asarray(offsets))
    for line_number, (passage_id, first) in repeated.items():
        problems.add_line(file.name, line_number, _repeated_id(passage_id, f"{file.name}:{first}"))
    num_passages = int(np.count_nonzero(np.asarray(offsets) >= 0)) - len(repeated)
    if not num_passages:
        problems.add_file(
            file.name, "holds no passage that can be used", 'write one {"_id": ..., "title": ..., "text": ...} a line'
        )
    return CheckedCorpus(
        file, num_passages, frozenset(present), frozenset(empty - present), frozenset(repeated), tuple(sample.texts)
    )


def find_repeated(file: TextFile, hashes: np.ndarray, offsets: np.ndarray) -> dict[int, tuple[str, int]]:
    """Lines whose passage id stood in an earlier line: line number -> id and the first line that has it.

    Args:
        file: The corpus.
        hashes: Of the passage id of each line, int64; different ids may share one.
        offsets: Where each line begins, in bytes; -1 for a line without a passage.
    """
    ordered = np.sort(hashes[offsets >= 0])
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    suspects = np.flatnonzero(np.isin(hashes, shared) & (offsets >= 0)) if len(shared) else shared
    wanted = {row + 1: int(offsets[row]) for row in suspects.tolist()}
    first: dict[str, int] = {}
    repeated = {}
    notes: Counter[str] = Counter()
    for line_number, line in file.lines_at(wanted) if wanted else ():
        passage = parse_passage(line, notes)
        assert isinstance(passage, Passage)
        if (first_line := first.setdefault(passage.passage_id, line_number)) != line_number:
            repeated[line_number] = (passage.passage_id, first_line)
    return repeated


def check_qrels(judgements: Judgements, problems: Problems, *, named: Ids[str], empty: Ids[str]) -> list[JudgedRow]:
    """The rows whose passage is in the corpus too.

    Args:
        judgements: The rows.
        problems: Where those that cannot be used go.
        named: Those of the rows' passage ids that the corpus has.
        empty: Ids of passages in which there is nothing to read.
    """
    rows = []
    for row in judgements.rows:
        passage_id = row.qrel.passage_id
        if passage_id in named:
            rows.append(row)
        elif passage_id in empty:
            problem = f"passage {shown(passage_id)} has neither title nor text"
            fault = Fault(_OF_EMPTY_PASSAGE, problem, "give the passage text, or delete the row")
            problems.add_line(row.name, row.line_number, fault)
        else:
            problem = f"passage {shown(passage_id)} is not in {CORPUS_NAME}, or its line is bad"
            fault = Fault("unknown passage", problem, "add the passage or delete the row")
            problems.add_line(row.name, row.line_number, fault)
    if sum(problems.skipped[kind] for kind in _UNKNOWN) <= _LARGEST_UNKNOWN_SHARE * judgements.num_read:
        problems.tolerate(*_UNKNOWN)
    if judgements.num_files and not rows:
        problems.add_file(
            QRELS_FOLDER, "no row can be used", "mend the files, or move them away to go without human labels"
        )
    return rows


class _Sample:
    """The beginnings of a bounded number of texts, each text equally likely (seeded), whatever their number."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._num_seen = 0
        self._draw = random.Random(0)

    def add(self, text: str) -> None:
        self._num_seen += 1
        if len(self.texts) < SAMPLE_TEXTS:
            self.texts.append(text[:SAMPLE_CHARACTERS])
        elif (position := self._draw.randrange(self._num_seen)) < SAMPLE_TEXTS:
            self.texts[position] = text[:SAMPLE_CHARACTERS]


def _empty_passage(passage: EmptyPassage) -> Fault:
    problem = f"passage {shown(passage.passage_id)} has neither title nor text"
    return Fault(_EMPTY_PASSAGE, problem, "delete the line or give it text")


def _conflict(row: JudgedRow, query_ids: Ids[str], home: JudgedRow, earlier: JudgedRow | None) -> Fault | None:
    query_id = shown(row.qrel.query_id)
    if row.qrel.query_id not in query_ids:
        return Fault(
            "unknown query",
            f"query {query_id} is not in {QUERIES_NAME}, or its line is bad",
            "add the query or delete the row",
        )
    if home.split != row.split:
        problem = (
            f"query {query_id} is judged in {home.name}:{home.line_number} too, "
            f"so {row.split} and {home.split} would share it"
        )
        return Fault("query in two splits", problem, "delete it from one of the two")
    if earlier and earlier.qrel.grade != row.qrel.grade:
        problem = (
            f"grade {row.qrel.grade} where {earlier.name}:{earlier.line_number} gives the same pair "
            f"{earlier.qrel.grade}"
        )
        return Fault("two grades", problem, "delete one of the two rows")
    return None


def _repeated_id(the_id: str, first: str) -> Fault:
    return Fault("duplicate id", f'"_id" {shown(the_id)} stands in {first} already', "rename or delete one of the two")
