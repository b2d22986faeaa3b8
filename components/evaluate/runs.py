"""Runs: what a system retrieves for each query, as any TREC evaluator reads it, measured as it is written.

trec_eval keeps scores in 32 bits, ignores ranks and breaks ties by descending passage id; others break them otherwise.
So a run's scores are strictly decreasing 32-bit numbers, and what is measured here is exactly what the file holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TextIO

import numpy as np
from ir_measures import Measure

from components.evaluate.judgements import Grades
from components.evaluate.measures import Values, per_query
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.own_passage import is_own_passage, same_text
from components.shared.records import Hit, Query

# Queries, depth, and for each query the passages that it is: what a search cannot leave out itself is left out here.
Search = Callable[[Sequence[Query], int, list[set[str]]], list[list[Hit]]]

SHOWN_HITS = 3
_BLOCK_QUERIES = 128
# Between two equal scores of 0: far below any score and still a normal 32-bit number.
_SMALLEST_GAP = 1e-30
_WHITE_SPACE = re.compile(r"\s")


@dataclass(frozen=True)
class SystemRun:
    """What is kept of a run when its file is written.

    Attributes:
        query_ids: Judged queries, the rows of `values`.
        values: One column a measure.
        top: First hits of each judged query.
        first_relevant: Rank of the first relevant passage, 0 where none was retrieved.
        num_self_matches: Hits left out because they are the query itself; a hybrid search leaves them out itself, since
            their scores would squeeze those of all others, and counts none.
        num_without_hits: Judged queries for which nothing was retrieved.
    """

    query_ids: tuple[str, ...]
    values: Values
    top: dict[str, tuple[str, ...]]
    first_relevant: dict[str, int]
    num_self_matches: int
    num_without_hits: int


@dataclass(frozen=True)
class RunWriter:
    """Runs one system after another over the same queries; memory holds the hits of one block of queries.

    `drops_self` leaves out hits that are the query itself.
    """

    dataset: Dataset
    queries: Sequence[Query]
    grades: Grades
    measures: Sequence[Measure]
    depth: int
    min_grade: int
    drops_self: bool = True

    def run(self, system: str, search: Search, path: Path) -> SystemRun:
        """Searches all queries, writes the TREC run, measures the judged queries."""
        blocks: list[Values] = []
        top: dict[str, tuple[str, ...]] = {}
        first_relevant: dict[str, int] = {}
        num_self_matches = 0
        for runs, num_left_out in self.write(system, search, path):
            num_self_matches += num_left_out
            judged = {query_id: run for query_id, run in runs.items() if query_id in self.grades}
            if judged:
                blocks.append(per_query(judged, grades=self.grades, measures=self.measures))
            top.update({query_id: tuple(run)[:SHOWN_HITS] for query_id, run in judged.items()})
            first_relevant.update(
                {query_id: self._first_relevant(query_id, list(run)) for query_id, run in judged.items()}
            )
        num_without_hits = sum(not hits for hits in top.values())
        return SystemRun(tuple(top), np.concatenate(blocks), top, first_relevant, num_self_matches, num_without_hits)

    def write(self, system: str, search: Search, path: Path) -> Iterator[tuple[dict[str, dict[str, float]], int]]:
        """Searches block by block and writes the TREC run; gives each block's runs and the self-matches left out."""
        with (
            path.open("w", encoding="utf-8") as file,
            log.Progress(f"searching with {system}", total=len(self.queries), unit="query") as bar,
        ):
            for start in range(0, len(self.queries), _BLOCK_QUERIES):
                block = self.queries[start : start + _BLOCK_QUERIES]
                # One hit more than wanted, for the place of a self-match.
                own = [self._own_passages_of(query) for query in block]
                hits = search(block, self.depth + 1, own)
                kept = [
                    [hit for hit in ranked if hit.passage_id not in left_out]
                    for ranked, left_out in zip(hits, own, strict=True)
                ]
                runs = {
                    query.query_id: strictly_decreasing(ranked[: self.depth])
                    for query, ranked in zip(block, kept, strict=True)
                }
                _write_block(file, system, runs)
                yield runs, sum(len(before) - len(after) for before, after in zip(hits, kept, strict=True))
                bar.add(len(block))

    def _own_passages_of(self, query: Query) -> set[str]:
        """The passages that a query is, without those that were judged relevant, which stay."""
        if not self.drops_self:
            return set()
        grades = self.grades.get(query.query_id, {})
        own = self._own_passages.get(query.query_id, set())
        return {passage_id for passage_id in own if grades.get(passage_id, 0) <= 0}

    @cached_property
    def _own_passages(self) -> dict[str, set[str]]:
        """The passages that each query is, by the rule by which mining leaves them out; one pass over the corpus."""
        by_id = {query.query_id: query for query in self.queries}
        by_text: dict[str, list[Query]] = {}
        for query in self.queries:
            by_text.setdefault(same_text(query.text), []).append(query)
        own: dict[str, set[str]] = {}
        for passage in self.dataset.iter_passages():
            asked = {*by_text.get(same_text(passage.full_text), ()), *by_text.get(same_text(passage.text), ())}
            if passage.passage_id in by_id:
                asked.add(by_id[passage.passage_id])
            for query in asked:
                if is_own_passage(query, passage):
                    own.setdefault(query.query_id, set()).add(passage.passage_id)
        return own

    def _first_relevant(self, query_id: str, ranking: Sequence[str]) -> int:
        grades = self.grades[query_id]
        return next((rank for rank, hit in enumerate(ranking, start=1) if grades.get(hit, 0) >= self.min_grade), 0)


def strictly_decreasing(hits: Sequence[Hit]) -> dict[str, float]:
    """Passage ids with their scores in 32 bits, each lowered as little as makes it smaller than the one before."""
    scores = np.array([hit.score for hit in hits], dtype=np.float32)
    for place in range(1, len(scores)) if np.any(scores[1:] >= scores[:-1]) else ():
        last = scores[place - 1]
        if scores[place] >= last:
            scores[place] = last - max(np.spacing(np.abs(last)), np.float32(_SMALLEST_GAP))
    return {hit.passage_id: score for hit, score in zip(hits, scores.tolist(), strict=True)}


def trec_id(name: str) -> str:
    """An id as one field of a TREC file: white space, which separates fields, is percent-encoded."""
    return _WHITE_SPACE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match.group().encode()), name)


def _write_block(file: TextIO, system: str, runs: dict[str, dict[str, float]]) -> None:
    for query_id, run in runs.items():
        field = trec_id(query_id)
        # Nine digits give a 32-bit number back exactly.
        file.writelines(
            f"{field} Q0 {trec_id(passage_id)} {rank} {score:.9g} {system}\n"
            for rank, (passage_id, score) in enumerate(run.items(), start=1)
        )


def write_qrels(path: Path, grades: Grades) -> None:
    """The judgements in TREC format: with them and a run anybody can measure again."""
    with path.open("w", encoding="utf-8") as file:
        for query_id, judged in grades.items():
            file.writelines(
                f"{trec_id(query_id)} 0 {trec_id(passage_id)} {grade}\n" for passage_id, grade in judged.items()
            )
