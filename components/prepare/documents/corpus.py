"""All parts as one corpus: which passages are kept, what their ids are, and which of them the qrels mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from components.prepare.collection import JudgedRow, Judgements, check_qrels
from components.prepare.documents.parts import SIGNATURES_NAME, Part
from components.prepare.documents.repeats import Rows, boilerplate_rows, count_near, first_rows, hash_of
from components.prepare.documents.walk import DocumentFile, LeftOut
from components.prepare.problems import Fault, Problems
from components.shared import log
from components.shared.dataset import Provenance
from components.shared.language.detection import SAMPLE_CHARACTERS, SAMPLE_TEXTS
from components.shared.records import Passage


@dataclass(frozen=True)
class Corpus:
    """All parts as one list of passages, numbered from 0."""

    parts: list[Part]
    groups: list[list[DocumentFile]]
    drops_same: bool

    def name_problems(self, problems: Problems) -> None:
        """Hands over the faults of all files, and the records whose id stood in an earlier one."""
        for part in self.parts:
            for name, line_number, kind, problem, remedy in part.findings.faults:
                problems.add_line(name, line_number, Fault(kind, problem, remedy))
        for document, first in sorted(self._repeated_documents.items()):
            fault = Fault(
                "duplicate id",
                f"the record's id stands in {self._place(first)} already",
                "rename or delete one of the two",
            )
            problems.add_line(self._file(document), int(self._all("line")[document]), fault)

    def left_out(self) -> Iterator[LeftOut]:
        """The files in which nothing was there to read."""
        for part in self.parts:
            yield from (LeftOut(name, kind) for name, kind in part.findings.left_out)

    def judged(self, judgements: Judgements, problems: Problems) -> list[JudgedRow]:
        """The qrels that can be used; one that names a file or a record becomes one for each of its passages."""
        wanted = {row.qrel.passage_id for row in judgements.rows}
        rows_of = {name: self._rows_of(name) for name in wanted}
        named = {name for name, rows in rows_of.items() if rows}
        empty = {name for name, rows in rows_of.items() if rows is not None and not rows}
        usable = check_qrels(judgements, problems, named=named, empty=empty)
        by_pair: dict[tuple[str, int], JudgedRow] = {}
        # A row that names one passage says more than one that names all of a file, and so comes last.
        for row in sorted(usable, key=lambda row: len(rows_of[row.qrel.passage_id] or ()), reverse=True):
            for number in rows_of[row.qrel.passage_id] or ():
                by_pair[row.qrel.query_id, number] = row
        if len(by_pair) != len(usable):
            log.event(
                "qrels that name a file or a record count for each of its passages",
                num_rows=len(usable),
                num_qrels=len(by_pair),
            )
        return [
            replace(row, qrel=replace(row.qrel, passage_id=self._passage_id(number)))
            for (_, number), row in sorted(by_pair.items(), key=lambda item: (item[1].split, item[0]))
        ]

    def passages(self) -> Iterator[tuple[Passage, Provenance]]:
        """The passages that are kept, in the order of their files."""
        rows = chain.from_iterable(part.rows() for part in self.parts)
        for number, row in enumerate(rows):
            if self._is_kept[number]:
                passage = Passage(row["passage_id"] + self._suffixes.get(number, ""), row["title"], row["text"])
                names = ("file", "record", "start", "end", "page")
                yield passage, Provenance(headings=tuple(row["headings"]), **{name: row[name] for name in names})

    def sample(self) -> tuple[str, ...]:
        """Beginnings of passages, drawn evenly (seeded)."""
        rows = np.flatnonzero(self._is_kept)
        drawn = np.random.default_rng(0).permutation(rows)[:SAMPLE_TEXTS]
        return tuple(self._row(number)["text"][:SAMPLE_CHARACTERS] for number in sorted(drawn.tolist()))

    def metrics(self, signatures: Path, *, min_documents: int) -> dict[str, Any]:
        """What the manifest says of the documents; `signatures` is a file to work in."""
        with signatures.open("wb") as file:
            for part in self.parts:
                file.write((part.folder / SIGNATURES_NAME).read_bytes())
        distinct = np.flatnonzero(self._is_good & (self._firsts == np.arange(len(self._firsts))))
        is_boilerplate = boilerplate_rows(
            self._all("block_hash"),
            self._all("block_size"),
            self._shifted("block_passage", "id_hash"),
            self._documents,
            min_documents=min_documents,
        )
        documents = np.unique(self._documents)
        new = np.bincount(self._documents[distinct], minlength=len(self._all("line")))
        num_files: Counter[str] = Counter()
        for part in self.parts:
            num_files.update(part.findings.num_files)
        return {
            "num_files": dict(num_files),
            "num_documents": len(documents),
            "num_passages": self.num_passages,
            "num_same_passages": int(self._is_good.sum()) - len(distinct),
            "num_same_documents": int((new[documents] == 0).sum()),
            "num_near_passages": count_near(signatures, distinct),
            "num_boilerplate_passages": int((is_boilerplate & self._is_kept).sum()),
        }

    @property
    def num_passages(self) -> int:
        """Passages that are kept."""
        return int(self._is_kept.sum())

    def _all(self, name: str) -> np.ndarray:
        return np.concatenate([part.arrays[name] for part in self.parts])

    def _shifted(self, name: str, of: str) -> np.ndarray:
        """Numbers within each part as numbers within all; `of` has one entry a thing that is numbered."""
        lengths = [len(part.arrays[of]) for part in self.parts]
        starts = np.cumsum([0, *lengths[:-1]])
        pairs = zip(self.parts, starts, strict=True)
        return np.concatenate([part.arrays[name].astype(np.int64) + start for part, start in pairs])

    @cached_property
    def _documents(self) -> np.ndarray:
        return self._shifted("document", "line")

    @cached_property
    def _repeated_documents(self) -> dict[int, int]:
        """Records whose id stood in an earlier one: their number -> that one's."""
        hashes = self._all("record_hash")
        rows = np.flatnonzero(hashes)
        _, first, inverse = np.unique(hashes[rows], return_index=True, return_inverse=True)
        firsts = rows[first[inverse]]
        return {int(row): int(earlier) for row, earlier in zip(rows, firsts, strict=True) if row != earlier}

    @cached_property
    def _is_good(self) -> np.ndarray:
        bad = np.fromiter(self._repeated_documents, np.int64, len(self._repeated_documents))
        return ~np.isin(self._documents, bad)

    @cached_property
    def _firsts(self) -> Rows:
        return first_rows(self._all("text_hash"), self._is_good)

    @cached_property
    def _is_kept(self) -> np.ndarray:
        is_first = self._firsts == np.arange(len(self._firsts))
        return self._is_good & is_first if self.drops_same else self._is_good

    @cached_property
    def _suffixes(self) -> dict[int, str]:
        """What is put behind the id of a kept passage that stood before, such as -2: the same text in one file."""
        hashes = self._all("id_hash")
        rows = np.flatnonzero(self._is_kept)
        values, counts = np.unique(hashes[rows], return_counts=True)
        repeated = rows[np.isin(hashes[rows], values[counts > 1])]
        num_before: Counter[int] = Counter()
        suffixes = {}
        for row in repeated.tolist():
            number = int(hashes[row])
            num_before[number] += 1
            if num_before[number] > 1:
                suffixes[row] = f"-{num_before[number]}"
        return suffixes

    def _rows_of(self, name: str) -> list[int] | None:
        """Rows of the passage, record or file of a name, of dropped ones those kept instead; None where it is none."""
        wanted = np.uint64(hash_of(name))
        rows = np.flatnonzero((self._all("id_hash") == wanted) & self._is_good)
        if not len(rows):
            documents = np.flatnonzero((self._all("record_hash") == wanted) | (self._all("file_hash") == wanted))
            if not len(documents):
                return None
            rows = np.flatnonzero(np.isin(self._documents, documents) & self._is_good)
        kept = self._firsts[rows] if self.drops_same else rows
        return sorted(set(kept.tolist()))

    def _row(self, number: int) -> dict[str, Any]:
        for part in self.parts:
            if number < (count := len(part.arrays["id_hash"])):
                return part.row_at(number)
            number -= count
        raise AssertionError("a row beyond the last one")

    def _passage_id(self, number: int) -> str:
        return str(self._row(number)["passage_id"]) + self._suffixes.get(number, "")

    def _file(self, document: int) -> str:
        for part, group in zip(self.parts, self.groups, strict=True):
            if document < (count := len(part.arrays["line"])):
                return str(group[int(part.arrays["file_number"][document])].name)
            document -= count
        raise AssertionError("a document beyond the last one")

    def _place(self, document: int) -> str:
        return f"{self._file(document)}:{int(self._all('line')[document])}"
