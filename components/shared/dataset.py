"""Dataset: corpus, queries and qrels as memory-mapped Arrow, with random access by passage id.

Queries and their qrels are people's, or an LLM wrote the query for a passage (`ask`), which then counts as relevant.
Every reader can tell which: what rests on asked queries must never pass for people's judgement.

Opening reads no passage: a passage is found by binary search over the sorted hashes of all passage ids
(`passage_order.npy`, memory-mapped), so a million passages open at once and memory stays flat however many are read.
Passages that were cut from documents have a row each in `provenance.arrow`, in the same order; a dataset of passages
that came as they are has no such file.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.shared.clicks import CLICKS_NAME
from components.shared.records import Passage, Qrel, Query

SPLITS = ("train", "dev", "test")
CORPUS_NAME, QUERIES_NAME, QRELS_NAME, ORDER_NAME = "corpus.arrow", "queries.arrow", "qrels.arrow", "passage_order.npy"
PROVENANCE_NAME = "provenance.arrow"

_CORPUS = pa.schema([("passage_id", pa.string()), ("title", pa.string()), ("text", pa.string())])
_QUERIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("text", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("split", pa.string()),
        ("is_asked", pa.bool_()),
        ("topic", pa.string()),
    ]
)
_QRELS = pa.schema(
    [("query_id", pa.string()), ("passage_id", pa.string()), ("grade", pa.int32()), ("split", pa.string())]
)
_PROVENANCE = pa.schema(
    [
        ("file", pa.string()),
        ("record", pa.string()),
        ("headings", pa.list_(pa.string())),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("page", pa.int32()),
    ]
)
# What ask keeps beside the queries: everything that it asked, kept or rejected.
ASKED_NAME = "asked.jsonl"
# Files that say what is looked for; all others of a dataset are its corpus.
OF_QUERIES = (QUERIES_NAME, QRELS_NAME, ASKED_NAME, CLICKS_NAME)
# Key of the corpus file's own metadata.
_LANGUAGE = b"language"
_ORDER = np.dtype([("hash", "<u8"), ("row", "<i8")])
# Rows a batch: fixed, so that a row's batch is a division; small enough to keep 32-bit string offsets safe.
_BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a passage was cut from.

    Attributes:
        file: Path of the file below the folder of documents, with slashes.
        record: Id, or else line number, of the record in a file of many records; empty where the file is one document.
        headings: Titles of the sections that it stands in, outermost first.
        start: First character, from 0, in the decoded file (of a record: in its text; of a PDF: in the text of its
            pages with a form feed between two).
        end: Character behind the last one.
        page: Of a PDF, from 1; 0 elsewhere.
    """

    file: str
    record: str
    headings: tuple[str, ...]
    start: int
    end: int
    page: int = 0


def _id_hash(passage_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(passage_id.encode(), digest_size=8).digest(), "little")


class DatasetWriter:
    """Writes a dataset folder passage by passage; memory is one batch plus 16 bytes a passage."""

    def __init__(self, folder: Path, *, language: str = "") -> None:
        """Starts the corpus file in an existing folder.

        Args:
            folder: Where the dataset goes.
            language: Code of the language of its passages, `other` for a mixture; empty: not known.
        """
        self._folder = folder
        self._sink = pa.OSFile(str(folder / CORPUS_NAME), "wb")
        self._writer = pa.ipc.new_file(self._sink, _CORPUS.with_metadata({_LANGUAGE: language.encode()}))
        self._batch: list[Passage] = []
        self._hashes = array("Q")
        self._provenance: _ProvenanceWriter | None = None

    def add_passage(self, passage: Passage, provenance: Provenance | None = None) -> None:
        """Appends a passage; the caller answers for unique ids, and for a provenance of every passage or of none."""
        if provenance is not None:
            self._provenance = self._provenance or _ProvenanceWriter(self._folder)
            self._provenance.add(provenance)
        self._batch.append(passage)
        self._hashes.append(_id_hash(passage.passage_id))
        if len(self._batch) == _BATCH_ROWS:
            self._flush()

    def finish(self, queries: Iterable[tuple[Query, str]], qrels: Iterable[tuple[Qrel, str]]) -> None:
        """Writes the queries and qrels of people, each with its split ('' = no split), and closes the corpus."""
        self._flush()
        self._writer.close()
        self._sink.close()
        if self._provenance is not None:
            self._provenance.close()
            assert self._provenance.num_rows == len(self._hashes), "a passage has no provenance and others have one"
        order = np.empty(len(self._hashes), dtype=_ORDER)
        order["hash"], order["row"] = self._hashes, np.arange(len(self._hashes))
        np.save(self._folder / ORDER_NAME, np.sort(order, order="hash"))
        write_queries(self._folder, queries, qrels)

    def _flush(self) -> None:
        if self._batch:
            columns = [[getattr(passage, name) for passage in self._batch] for name in _CORPUS.names]
            self._writer.write_batch(pa.record_batch(columns, schema=_CORPUS))
            self._batch = []


class _ProvenanceWriter:
    """Rows of provenance in batches of the same size as those of the corpus."""

    def __init__(self, folder: Path) -> None:
        self._sink = pa.OSFile(str(folder / PROVENANCE_NAME), "wb")
        self._writer = pa.ipc.new_file(self._sink, _PROVENANCE)
        self._batch: list[Provenance] = []
        self.num_rows = 0

    def add(self, provenance: Provenance) -> None:
        self._batch.append(provenance)
        self.num_rows += 1
        if len(self._batch) == _BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()

    def _flush(self) -> None:
        if self._batch:
            columns = [list(column) for column in zip(*map(astuple, self._batch), strict=True)]
            arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _PROVENANCE, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, schema=_PROVENANCE))
            self._batch = []


def write_queries(
    folder: Path,
    queries: Iterable[tuple[Query, str]],
    qrels: Iterable[tuple[Qrel, str]],
    *,
    asked: Collection[str] = frozenset(),
) -> None:
    """Writes the queries and qrels of a dataset, each with its split; `asked` are the ids of queries of an LLM."""
    query_rows = [
        {
            "query_id": query.query_id,
            "text": query.text,
            "answers": list(query.answers),
            "split": split,
            "is_asked": query.query_id in asked,
            "topic": query.topic,
        }
        for query, split in queries
    ]
    _write_table(folder / QUERIES_NAME, query_rows, _QUERIES)
    qrel_rows = [
        {"query_id": q.query_id, "passage_id": q.passage_id, "grade": q.grade, "split": split} for q, split in qrels
    ]
    _write_table(folder / QRELS_NAME, qrel_rows, _QRELS)


def _write_table(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(table)


class Dataset:
    """A finished dataset folder; passages come from the memory map, queries and qrels are read when first asked for."""

    def __init__(self, folder: Path) -> None:
        """Maps the corpus; does not read it."""
        self._folder = folder
        self._reader = pa.ipc.open_file(pa.memory_map(str(folder / CORPUS_NAME)))
        # Views into the map, not copies: kept, a passage by its id costs 65 microseconds of CPU, else 260.
        self._batches: dict[int, pa.RecordBatch] = {}
        self._order = np.load(folder / ORDER_NAME, mmap_mode="r")
        has_provenance = (folder / PROVENANCE_NAME).exists()
        source = pa.memory_map(str(folder / PROVENANCE_NAME)) if has_provenance else None
        self._provenance = pa.ipc.open_file(source) if has_provenance else None
        self._queries: dict[str, tuple[Query, str]] | None = None
        self._asked: frozenset[str] = frozenset()
        self._query_table: pa.Table | None = None
        self._query_order = np.empty(0, dtype=_ORDER)
        self._qrels: dict[str, dict[str, dict[str, int]]] | None = None

    @property
    def folder(self) -> Path:
        """Where the dataset lies."""
        return self._folder

    @property
    def num_passages(self) -> int:
        """Passages in the corpus; their rows are 0 .. num_passages - 1 in the collection's order."""
        return len(self._order)

    @property
    def language(self) -> str:
        """Code of the language that prepare found or was told; empty where the dataset does not say."""
        return ((self._reader.schema.metadata or {}).get(_LANGUAGE) or b"").decode()

    def passage_at(self, row: int) -> Passage:
        """The passage of a row."""
        batch, offset = self._batch(row // _BATCH_ROWS), row % _BATCH_ROWS
        return Passage(*(batch.column(column)[offset].as_py() for column in range(len(_CORPUS))))

    @property
    def has_provenance(self) -> bool:
        """Whether the passages were cut from documents."""
        return self._provenance is not None

    def provenance_at(self, row: int) -> Provenance | None:
        """Where the passage of a row was cut from; None where the passages came as they are."""
        if self._provenance is None:
            return None
        batch, offset = self._provenance.get_batch(row // _BATCH_ROWS), row % _BATCH_ROWS
        values = {declared.name: batch.column(declared.name)[offset].as_py() for declared in fields(Provenance)}
        return Provenance(**{**values, "headings": tuple(values["headings"])})

    def provenance(self, passage_id: str) -> Provenance | None:
        """Where a passage was cut from; None where the passages came as they are, KeyError where there is none."""
        return self.provenance_at(self.row(passage_id)) if self._provenance is not None else None

    def passage_id_at(self, row: int) -> str:
        """The passage id of a row; cheaper than the passage."""
        passage_id: str = self._batch(row // _BATCH_ROWS).column(0)[row % _BATCH_ROWS].as_py()
        return passage_id

    def row(self, passage_id: str) -> int:
        """The row of a passage id.

        Raises:
            KeyError: Where the corpus holds no such passage.
        """
        for row in _rows(self._order, passage_id):
            if self.passage_id_at(row) == passage_id:
                return row
        raise KeyError(passage_id)

    def passage(self, passage_id: str) -> Passage:
        """The passage of an id; KeyError where there is none."""
        return self.passage_at(self.row(passage_id))

    def iter_passages(self, start: int = 0, stop: int | None = None) -> Iterator[Passage]:
        """Passages of rows start .. stop - 1 in order, a batch in memory at a time."""
        stop = self.num_passages if stop is None else min(stop, self.num_passages)
        for first in range(start - start % _BATCH_ROWS if start < stop else stop, stop, _BATCH_ROWS):
            columns = (
                self._batch(first // _BATCH_ROWS).slice(max(start - first, 0), stop - max(first, start)).to_pydict()
            )
            yield from map(Passage, columns["passage_id"], columns["title"], columns["text"])

    def _batch(self, number: int) -> pa.RecordBatch:
        if number not in self._batches:
            self._batches[number] = self._reader.get_batch(number)
        return self._batches[number]

    def queries(self, split: str | None = None) -> list[Query]:
        """Queries in the collection's order; of one split ('' = those without), or all."""
        return [query for query, query_split in self._read_queries().values() if split in (None, query_split)]

    @property
    def splits(self) -> dict[str, str]:
        """Split of each query by its id, '' where it has none."""
        return {query_id: split for query_id, (_, split) in self._read_queries().items()}

    @property
    def asked_ids(self) -> frozenset[str]:
        """Ids of the queries that an LLM wrote."""
        self._read_queries()
        return self._asked

    def _read_queries(self) -> dict[str, tuple[Query, str]]:
        if self._queries is None:
            self._queries, asked = {}, []
            for row in _read_table(self._folder / QUERIES_NAME):
                query = _query(row)
                self._queries[query.query_id] = (query, row["split"])
                # Datasets of earlier versions do not say: all their queries are people's.
                asked += [query.query_id] if row.get("is_asked") else []
            self._asked = frozenset(asked)
        return self._queries

    def query(self, query_id: str) -> Query:
        """The query of an id, read from the memory map: memory holds 16 bytes a query of the collection.

        Raises:
            KeyError: Where there is none.
        """
        if self._query_table is None:
            self._query_table = pa.ipc.open_file(pa.memory_map(str(self._folder / QUERIES_NAME))).read_all()
            self._query_order = _order(query_id.as_py() for query_id in self._query_table.column("query_id"))
        table = self._query_table
        for row in _rows(self._query_order, query_id):
            if table.column("query_id")[row].as_py() == query_id:
                return _query(table.slice(row, 1).to_pylist()[0])
        raise KeyError(query_id)

    def qrels(self, split: str) -> dict[str, dict[str, int]]:
        """Grades of a split: query id -> passage id -> grade; zero grades included.

        For queries of people they are people's; for asked queries the source passages have grade 1.
        """
        if self._qrels is None:
            self._qrels = {}
            for row in _read_table(self._folder / QRELS_NAME):
                self._qrels.setdefault(row["split"], {}).setdefault(row["query_id"], {})[row["passage_id"]] = row[
                    "grade"
                ]
        return self._qrels.get(split, {})

    def positives(self, split: str) -> dict[str, list[str]]:
        """Positives (grade above 0) of each query of a split that has any; of asked queries their source passages."""
        positives = {
            query_id: [p for p, grade in grades.items() if grade > 0] for query_id, grades in self.qrels(split).items()
        }
        return {query_id: passage_ids for query_id, passage_ids in positives.items() if passage_ids}

    def human_qrels(self, split: str) -> dict[str, dict[str, int]]:
        """The grades of a split that people gave."""
        if not self.asked_ids:
            return self.qrels(split)
        return {query_id: grades for query_id, grades in self.qrels(split).items() if query_id not in self.asked_ids}

    def human_positives(self, split: str) -> dict[str, list[str]]:
        """The positives of a split that people named."""
        positives = self.positives(split)
        return {query_id: positives[query_id] for query_id in positives if query_id not in self.asked_ids}


def _query(row: dict[str, Any]) -> Query:
    # Datasets of earlier versions know no topics.
    return Query(row["query_id"], row["text"], tuple(row["answers"]), row.get("topic") or "")


def _order(ids: Iterable[str]) -> np.ndarray:
    """Hashes of the ids in ascending order, each with its row."""
    hashes = np.fromiter(map(_id_hash, ids), np.uint64)
    order = np.empty(len(hashes), dtype=_ORDER)
    order["hash"], order["row"] = hashes, np.arange(len(hashes))
    return np.sort(order, order="hash")


def _rows(order: np.ndarray, wanted_id: str) -> Iterator[int]:
    """Rows whose id has the hash of the wanted one: almost always one or none."""
    wanted = np.uint64(_id_hash(wanted_id))
    position = int(np.searchsorted(order["hash"], wanted))
    while position < len(order) and order["hash"][position] == wanted:
        yield int(order["row"][position])
        position += 1


def _read_table(path: Path) -> Iterator[dict[str, Any]]:
    """Its rows; a few thousand at a time, because as dictionaries they take ten times the room."""
    with pa.memory_map(str(path)) as source:
        for batch in pa.ipc.open_file(source).read_all().to_batches(max_chunksize=_BATCH_ROWS // 4):
            yield from batch.to_pylist()
