"""The teacher of a distilled stage: BM25, the untrained encoder and, where it helps, the LLM, fused into one score.

For each query every voice is scaled to 0..1: BM25 by its best hit in the corpus, the encoder from the lowest to the
best of the passages that it was asked about and of a seeded sample, the LLM over its own pool. So a passage that BM25
does not find has 0 of its voice, not a missing value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from components.shared import log
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.train.labels.dev import DevSet, ndcg
from components.train.labels.groups import TrainingGroup

Scores = Float32[np.ndarray, "query passage"]
Vectors = Float[np.ndarray, "text dimension"]
# The LLM's score and the known grade of each passage that has one.
JudgedPool = tuple[Mapping[str, float], Mapping[str, int]]

# Where no label may tune it: on five collections the best share was .1 to .4 (shared measurements in RESULTS.md).
DEFAULT_BM25_SHARE = 0.3
_BM25_GRID = tuple(round(0.05 * step, 2) for step in range(21))
_LLM_GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
# Fewer judged pools say too little of a voice of its own.
_FEWEST_POOLS = 20


@dataclass(frozen=True)
class Shares:
    """Weights of the voices: BM25 against the encoder, and the LLM against both."""

    bm25: float
    llm: float = 0.0


@dataclass(frozen=True)
class Tuned:
    """What the shares are, and what they were chosen by: nDCG@10 by share, as text; empty where they were given."""

    shares: Shares
    bm25_curve: dict[str, float]
    llm_curve: dict[str, float]
    num_dev_queries: int = 0
    num_pools: int = 0


class Voices:
    """The scores of BM25 and of the untrained encoder, each from 0 to 1, for any of the known queries and passages."""

    def __init__(
        self,
        bm25: BM25,
        dataset: Dataset,
        *,
        queries: Mapping[str, str],
        query_vectors: Float[np.ndarray, "query dimension"],
        passage_ids: Sequence[str],
        passage_vectors: Float[np.ndarray, "passage dimension"],
        num_sampled: int,
    ) -> None:
        """Takes what the untrained encoder made.

        Args:
            bm25: Index of the dataset.
            dataset: Where a passage's row is looked up.
            queries: Texts by query id; row i of query_vectors is the i-th.
            query_vectors: Of the untrained encoder.
            passage_ids: Every passage that will be asked about; row i of passage_vectors is the i-th.
            passage_vectors: Of the untrained encoder.
            num_sampled: Number of passages, from the end of the list, that the lowest score is looked for in.
        """
        self._bm25, self._texts = bm25, list(queries.values())
        self._query_rows = {query_id: row for row, query_id in enumerate(queries)}
        self._passage_rows = {passage_id: row for row, passage_id in enumerate(passage_ids)}
        self._rows = np.array([dataset.row(passage_id) for passage_id in passage_ids], dtype=np.int64)
        self._query_vectors, self._passage_vectors = query_vectors, passage_vectors
        best = bm25.search(self._texts, 1)
        self._best_bm25 = np.array([hits[0].score if hits else 1.0 for hits in best], dtype=np.float32)
        sampled = passage_vectors[max(0, len(passage_vectors) - num_sampled) :].astype(np.float32)
        self._lowest = np.full(len(query_vectors), np.inf, dtype=np.float32)
        self._highest = np.full(len(query_vectors), -np.inf, dtype=np.float32)
        for start in range(0, len(query_vectors), 1024):
            dots = query_vectors[start : start + 1024].astype(np.float32) @ sampled.T
            self._lowest[start : start + 1024], self._highest[start : start + 1024] = dots.min(1), dots.max(1)

    def knows_best_of(self, query_id: str, passage_ids: Sequence[str]) -> None:
        """Lets a query's own pool, which holds the encoder's first hit, set the upper end of its scale."""
        row = self._query_rows[query_id]
        dots = self._dots([row], self._columns(passage_ids))
        self._lowest[row] = min(self._lowest[row], dots.min())
        self._highest[row] = max(self._highest[row], dots.max())

    def of(self, query_ids: Sequence[str], passage_ids: Sequence[str]) -> tuple[Scores, Scores]:
        """BM25's scores and the encoder's, each from 0 to 1."""
        rows, columns = [self._query_rows[query_id] for query_id in query_ids], self._columns(passage_ids)
        words = np.stack(self._bm25.scores_of([self._texts[row] for row in rows], [self._rows[columns]] * len(rows)))
        lowest, highest = self._lowest[rows, None], self._highest[rows, None]
        dense = (self._dots(rows, columns) - lowest) / np.maximum(highest - lowest, 1e-6)
        return np.clip(words / self._best_bm25[rows, None], 0, 1), np.clip(dense, 0, 1)

    def _columns(self, passage_ids: Sequence[str]) -> list[int]:
        return [self._passage_rows[passage_id] for passage_id in passage_ids]

    def _dots(self, rows: Sequence[int], columns: Sequence[int]) -> Scores:
        dots: Scores = (
            self._query_vectors[rows].astype(np.float32) @ self._passage_vectors[columns].astype(np.float32).T
        )
        return dots


class Teacher:
    """The fused score of any known query and passage, and the order that it gives a pool."""

    def __init__(self, voices: Voices, shares: Shares, llm_scores: Mapping[str, Mapping[str, float]]) -> None:
        """Takes the voices, their weights, and the LLM's scores of the pools that it has judged, by query id."""
        self._voices, self.shares = voices, shares
        self._llm = {query_id: scaled(scores) for query_id, scores in llm_scores.items()} if shares.llm else {}

    def scores(self, query_ids: Sequence[str], passage_ids: Sequence[str]) -> Scores:
        """Fused scores from 0 to 1; queries whose pool the LLM did not judge have the two other voices only."""
        words, dense = self._voices.of(query_ids, passage_ids)
        fused = self.shares.bm25 * words + (1 - self.shares.bm25) * dense
        for row, query_id in enumerate(query_ids):
            if judged := self._llm.get(query_id):
                llm = np.array([judged.get(passage_id, 0.0) for passage_id in passage_ids], dtype=np.float32)
                fused[row] = (1 - self.shares.llm) * fused[row] + self.shares.llm * llm
        return fused.astype(np.float32)

    def ordered(self, group: TrainingGroup) -> TrainingGroup:
        """The group with its pool best first."""
        if not group.hard_negatives:
            return group
        (scores,) = self.scores([group.query_id], group.hard_negatives)
        order = sorted(range(len(scores)), key=lambda place: (-scores[place], group.hard_negatives[place]))
        return replace(group, hard_negatives=tuple(group.hard_negatives[place] for place in order))


def tune(
    voices: Voices,
    dev: DevSet,
    pools: Mapping[str, JudgedPool],
    *,
    bm25_share: float,
    llm_share: float,
) -> Tuned:
    """The shares that order the known labels best; a share that is given (not negative) stays as it is.

    Args:
        voices: Know the dev queries and passages, and the pools.
        dev: BM25's share is the one with the highest nDCG@10 over it.
        pools: Query id -> the LLM's scores and the known grades of its pool; the LLM's share is raised above 0 only
            where it is better by more than a standard error.
        bm25_share: As the stage says.
        llm_share: As the stage says.
    """
    curve: dict[float, float] = {}
    if bm25_share < 0:
        bm25_share = DEFAULT_BM25_SHARE
        if dev.queries:
            curve = _bm25_curve(voices, dev)
            bm25_share = max(curve, key=lambda share: (curve[share], -share))
    llm_curve: dict[float, float] = {}
    if llm_share < 0:
        llm_share = 0.0
        if len(pools) >= _FEWEST_POOLS:
            llm_curve, llm_share = _llm_curve(voices, pools, bm25_share)
    num_dev = len(dev.queries) if curve else 0
    tuned = Tuned(Shares(bm25_share, llm_share), _named(curve), _named(llm_curve), num_dev, len(pools))
    measured: dict[str, Any] = (
        {"fused": curve[bm25_share], "dense_alone": curve[0.0], "bm25_alone": curve[1.0]} if curve else {}
    )
    log.event("teacher", bm25_share=bm25_share, llm_share=llm_share, dev_queries=tuned.num_dev_queries, **measured)
    return tuned


def _named(curve: Mapping[float, float]) -> dict[str, float]:
    return {f"{share:.2f}": value for share, value in curve.items()}


def scaled(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores from 0 for the lowest to 1 for the best; all 0 where they are equal."""
    lowest, highest = min(scores.values()), max(scores.values())
    width = highest - lowest
    return {name: (score - lowest) / width if width > 0 else 0.0 for name, score in scores.items()}


def _bm25_curve(voices: Voices, dev: DevSet) -> dict[float, float]:
    query_ids, passage_ids = list(dev.queries), list(dev.passages)
    words, dense = voices.of(query_ids, passage_ids)
    return {
        share: round(float(_gains(share * words + (1 - share) * dense, query_ids, passage_ids, dev.qrels).mean()), 6)
        for share in _BM25_GRID
    }


def _gains(
    fused: Scores, query_ids: Sequence[str], passage_ids: Sequence[str], qrels: Mapping[str, Mapping[str, int]]
) -> Float32[np.ndarray, " query"]:
    """NDCG@10 of each query."""
    best = np.argsort(-fused, axis=1, kind="stable")[:, :10]
    return np.array(
        [
            ndcg([passage_ids[column] for column in row], qrels[query_id])
            for row, query_id in zip(best, query_ids, strict=True)
        ],
        dtype=np.float32,
    )


def _llm_curve(voices: Voices, pools: Mapping[str, JudgedPool], bm25_share: float) -> tuple[dict[float, float], float]:
    """NDCG@10 of reranked pools by share, and the share chosen."""
    gains: dict[float, list[float]] = {share: [] for share in _LLM_GRID}
    for query_id, (scores, grades) in pools.items():
        passage_ids, llm = list(scores), np.array(list(scaled(scores).values()), dtype=np.float32)
        words, dense = (voice[0] for voice in voices.of([query_id], passage_ids))
        fused = bm25_share * words + (1 - bm25_share) * dense
        for share in _LLM_GRID:
            mixed = (1 - share) * fused + share * llm
            gains[share].append(float(_gains(mixed[None], [query_id], passage_ids, {query_id: grades})[0]))
    curve = {share: float(np.mean(values)) for share, values in gains.items()}
    best = max(curve, key=lambda share: (curve[share], -share))
    difference = np.array(gains[best]) - np.array(gains[0.0])
    is_better = difference.mean() > difference.std(ddof=1) / np.sqrt(len(difference))
    return {share: round(value, 6) for share, value in curve.items()}, best if is_better else 0.0
