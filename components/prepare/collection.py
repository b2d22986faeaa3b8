"""The files of a collection in BEIR layout, checked as a whole: what is there, which ids repeat, what the qrels name.

Queries and qrels are held in memory; of a passage only 16 bytes are (the hash of its id, the offset of its line), so
the corpus may be larger than memory. Equal hashes only raise a suspicion: the ids themselves are read again and
compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.prepare.beir import (
    CORPUS_NAME,
    QRELS_HEADER,
    QUERIES_NAME,
    UNLABELED_NAME,
    parse_passage,
    parse_qrel,
    parse_query,
    shown,
)
from components.prepare.problems import Fault, Problems
from components.prepare.splits import hash_split
from components.shared import log, storage
from components.shared.dataset import SPLITS
from components.shared.manifest import open_artifact
from components.shared.records import Passage, Qrel, Query

_QRELS_FOLDER, _UNSPLIT_NAME = "qrels", "all.tsv"
# First bytes of a file that is no plain UTF-8, and what to do about it.
_NOT_PLAIN = (
    (b"\x1f\x8b", "is compressed by gzip", "unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "unpack it with unzstd"),
    (b"PK\x03\x04", "is a zip archive", "unpack it with unzip"),
    (
        b"\xef\xbb\xbf",
        "begins with a byte order mark",
        "save it as UTF-8 without one, for example with sed -i '1s/^\\xEF\\xBB\\xBF//'",
    ),
    (b"\xff\xfe", "is UTF-16", "convert it with iconv -f utf-16 -t utf-8"),
    (b"\xfe\xff", "is UTF-16", "convert it with iconv -f utf-16 -t utf-8"),
)
# A progress bar costs more than a line: it moves once per so many lines.
_LINES_PER_MOVE = 1024


@dataclass(frozen=True)
class Layout:
    """The files of a collection; `qrels` maps a file's name to its split, and to '' where its queries are split by hash."""

    folder: Path
    queries: tuple[str, ...]
    qrels: dict[str, str]


@dataclass(frozen=True)
class CheckedCorpus:
    """What one reading of the corpus found; passages are in the file still."""

    path: Path
    num_passages: int
    named: frozenset[str]
    repeated: frozenset[int]

    def passages(self) -> Iterator[Passage]:
        """The good passages in the file's order."""
        for line_number, _, line in _numbered_lines(self.path, f"writing {CORPUS_NAME}"):
            passage = parse_passage(line)
            if isinstance(passage, Passage) and line_number not in self.repeated:
                yield passage


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
    num_clamped: int = 0
    num_repeated: int = 0


def find_layout(collection_uri: str, problems: Problems) -> Layout:
    """The files of a collection, each with the form it must have before a line is read.

    Raises:
        ValueError: Where the collection is not a folder, is an artifact that was changed, or lacks a file.
    """
    if not storage.exists(collection_uri):
        raise ValueError(
            f"{collection_uri}: nothing here; name a folder with {CORPUS_NAME}, {QUERIES_NAME} and, if there is one, qrels/"
        )
    is_artifact = storage.exists(f"{collection_uri.rstrip('/')}/{storage.MANIFEST_NAME}")
    folder = open_artifact(collection_uri) if is_artifact else storage.fetch(collection_uri)
    if not folder.is_dir():
        raise ValueError(f"{collection_uri}: is a file; name the folder that holds {CORPUS_NAME} and {QUERIES_NAME}")
    layout = Layout(folder, (QUERIES_NAME, *_present(folder, UNLABELED_NAME)), _find_qrels(folder, problems))
    for name in (CORPUS_NAME, *layout.queries, *layout.qrels):
        _check_file(folder, name, problems)
    for name in layout.qrels:
        _check_header(folder, name, problems)
    problems.refuse_files()
    return layout


def read_queries(layout: Layout, problems: Problems) -> dict[str, Query]:
    """Queries of all query files by id; of an id that repeats, the first."""
    queries: dict[str, Query] = {}
    places: dict[str, str] = {}
    for name in layout.queries:
        for line_number, _, line in _numbered_lines(layout.folder / name):
            query = parse_query(line)
            if isinstance(query, Fault):
                problems.add_line(name, line_number, query)
            elif query.query_id in queries:
                problems.add_line(name, line_number, _repeated_id(query.query_id, places[query.query_id]))
            else:
                queries[query.query_id] = query
                places[query.query_id] = f"{name}:{line_number}"
    if not queries:
        problems.add_file(QUERIES_NAME, "holds no query that can be used", 'write one {"_id": ..., "text": ...} a line')
    return queries


def read_qrels(layout: Layout, query_ids: Collection[str], problems: Problems) -> Judgements:
    """Rows whose query is known; grades below 0 (spam, in TREC's files) become 0."""
    judged: dict[tuple[str, str], JudgedRow] = {}
    homes: dict[str, JudgedRow] = {}
    found = Judgements([], {})
    for name, split in layout.qrels.items():
        for line_number, _, line in _numbered_lines(layout.folder / name, skip=1):
            qrel = parse_qrel(line)
            if isinstance(qrel, Fault):
                problems.add_line(name, line_number, qrel)
                continue
            found.num_clamped += qrel.grade < 0
            row = JudgedRow(
                replace(qrel, grade=max(qrel.grade, 0)), split or hash_split(qrel.query_id), name, line_number
            )
            earlier = judged.get((qrel.query_id, qrel.passage_id))
            home = homes.setdefault(qrel.query_id, row)
            if fault := _conflict(row, query_ids, home, earlier):
                problems.add_line(name, line_number, fault)
            elif earlier:
                found.num_repeated += 1
            else:
                judged[qrel.query_id, qrel.passage_id] = row
    found.rows = list(judged.values())
    found.splits = {query_id: row.split for query_id, row in homes.items() if query_id in query_ids}
    return found


def check_corpus(layout: Layout, named: Collection[str], problems: Problems) -> CheckedCorpus:
    """Reads the corpus once; `named` are the passage ids that matter to the qrels."""
    path = layout.folder / CORPUS_NAME
    found: set[str] = set()
    hashes, offsets = array("q"), array("q")
    for line_number, offset, line in _numbered_lines(path, f"checking {CORPUS_NAME}"):
        passage = parse_passage(line)
        if isinstance(passage, Fault):
            problems.add_line(CORPUS_NAME, line_number, passage)
            hashes.append(0)
            offsets.append(-1)
            continue
        hashes.append(hash(passage.passage_id))
        offsets.append(offset)
        if passage.passage_id in named:
            found.add(passage.passage_id)
    repeated = find_repeated(path, np.asarray(hashes), np.asarray(offsets))
    for line_number, (passage_id, first) in repeated.items():
        problems.add_line(CORPUS_NAME, line_number, _repeated_id(passage_id, f"{CORPUS_NAME}:{first}"))
    num_passages = int(np.count_nonzero(np.asarray(offsets) >= 0)) - len(repeated)
    if not num_passages:
        problems.add_file(
            CORPUS_NAME, "holds no passage that can be used", 'write one {"_id": ..., "title": ..., "text": ...} a line'
        )
    return CheckedCorpus(path, num_passages, frozenset(found), frozenset(repeated))


def find_repeated(path: Path, hashes: np.ndarray, offsets: np.ndarray) -> dict[int, tuple[str, int]]:
    """Lines whose passage id stood in an earlier line: line number -> id and the first line that has it.

    Args:
        path: The corpus.
        hashes: Of the passage id of each line, int64; different ids may share one.
        offsets: Where each line begins, in bytes; -1 for a line without a passage.
    """
    ordered = np.sort(hashes[offsets >= 0])
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    suspects = np.flatnonzero(np.isin(hashes, shared) & (offsets >= 0)) if len(shared) else shared
    first: dict[str, int] = {}
    repeated = {}
    with path.open("rb") as file:
        for row in suspects.tolist():
            file.seek(int(offsets[row]))
            passage = parse_passage(file.readline())
            assert isinstance(passage, Passage)
            if (line_number := first.setdefault(passage.passage_id, row + 1)) != row + 1:
                repeated[row + 1] = (passage.passage_id, line_number)
    return repeated


def check_qrels(judgements: Judgements, corpus: CheckedCorpus, layout: Layout, problems: Problems) -> list[JudgedRow]:
    """The rows whose passage is in the corpus too."""
    rows = []
    for row in judgements.rows:
        if row.qrel.passage_id in corpus.named:
            rows.append(row)
        else:
            problem = f"passage {shown(row.qrel.passage_id)} is not in {CORPUS_NAME}, or its line is bad"
            problems.add_line(
                row.name, row.line_number, Fault("unknown passage", problem, "add the passage or delete the row")
            )
    if layout.qrels and not rows:
        problems.add_file(
            _QRELS_FOLDER, "no row can be used", "mend the files, or move them away to go without human labels"
        )
    return rows


def _find_qrels(folder: Path, problems: Problems) -> dict[str, str]:
    """Held-out files first: where a query stands in two splits and bad lines are skipped, it stays held out."""
    names = (
        sorted(path.name for path in (folder / _QRELS_FOLDER).glob("[!.]*"))
        if (folder / _QRELS_FOLDER).is_dir()
        else []
    )
    splits = {f"{split}.tsv": split for split in reversed(SPLITS)}
    given = {f"{_QRELS_FOLDER}/{name}": split for name, split in splits.items() if name in names}
    others = [name for name in names if name not in splits and name != _UNSPLIT_NAME]
    if not given and not others and _UNSPLIT_NAME in names:
        return {f"{_QRELS_FOLDER}/{_UNSPLIT_NAME}": ""}
    if not given and len(names) == 1 and names[0].endswith(".tsv"):
        return {f"{_QRELS_FOLDER}/{names[0]}": ""}
    for name in others:
        remedy = f"rename it to train.tsv, dev.tsv, test.tsv or {_UNSPLIT_NAME} (not split), or move it away"
        problems.add_file(f"{_QRELS_FOLDER}/{name}", "is not the name of a split", remedy)
    return given


def _present(folder: Path, name: str) -> tuple[str, ...]:
    return (name,) if (folder / name).exists() else ()


def _check_file(folder: Path, name: str, problems: Problems) -> None:
    if not (folder / name).is_file():
        beside = sorted(path.name for path in folder.glob(f"{Path(name).stem}.*"))
        problems.add_file(
            name, "is missing", f"{beside[0]} is there: convert it" if beside else "write it, one JSON object a line"
        )
        return
    with (folder / name).open("rb") as file:
        first_bytes = file.read(4)
    for magic, problem, remedy in _NOT_PLAIN:
        if first_bytes.startswith(magic):
            problems.add_file(name, problem, remedy)
            return


def _check_header(folder: Path, name: str, problems: Problems) -> None:
    with (folder / name).open("rb") as file:
        header = file.readline().decode(errors="replace").rstrip("\r\n")
    if header != QRELS_HEADER:
        remedy = "make it query-id, corpus-id, score with tabs between"
        problems.add_file(f"{name}:1", f"the header is {shown(header)}", remedy)


def _conflict(row: JudgedRow, query_ids: Collection[str], home: JudgedRow, earlier: JudgedRow | None) -> Fault | None:
    query_id = shown(row.qrel.query_id)
    if row.qrel.query_id not in query_ids:
        return Fault(
            "unknown query",
            f"query {query_id} is not in {QUERIES_NAME}, or its line is bad",
            "add the query or delete the row",
        )
    if home.split != row.split:
        problem = f"query {query_id} is judged in {home.name}:{home.line_number} too, so {row.split} and {home.split} would share it"
        return Fault("query in two splits", problem, "delete it from one of the two")
    if earlier and earlier.qrel.grade != row.qrel.grade:
        problem = f"grade {row.qrel.grade} where {earlier.name}:{earlier.line_number} gives the same pair {earlier.qrel.grade}"
        return Fault("two grades", problem, "delete one of the two rows")
    return None


def _repeated_id(the_id: str, first: str) -> Fault:
    return Fault("duplicate id", f'"_id" {shown(the_id)} stands in {first} already', "rename or delete one of the two")


def _numbered_lines(path: Path, label: str = "", *, skip: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Line number from 1, offset in bytes, line with its end; with a label, progress is shown."""
    bar = log.Progress(label, total=path.stat().st_size, unit="bytes") if label else None
    offset = shown_offset = 0
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            if line_number > skip:
                yield line_number, offset, line
            offset += len(line)
            if bar and line_number % _LINES_PER_MOVE == 0:
                bar.add(offset - shown_offset)
                shown_offset = offset
    if bar:
        bar.add(offset - shown_offset)
        bar.close()
