"""The three ways in which a release ranks its passages: by vectors, by words, and by both.

A filter makes a search what it would be if the corpus held nothing else. Scores are those of the way: inner products of
vectors, BM25's sums, or the fused scores of fusion.json's method (minmax: 0 to 1); those of two ways do not compare,
nor do those of two queries where passages are ranked by both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from components.serve.protocols.bodies import SearchFields
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.fusion.hybrid import Hybrid
from components.shared.fusion.tuned import MODES, Fusion, Mode
from components.shared.index import PassageIndex
from components.shared.records import Hit

Vectors = Float32[np.ndarray, "text dimension"]


@dataclass(frozen=True)
class Rankings:
    """The hits of each query, best first; `best` is the inner product of the best passage of each, or is empty.

    It is known where all passages were searched by vectors: a filter chooses other passages, and BM25 scores words.
    """

    hits: list[list[Hit]]
    best: list[float]


class Ranker:
    """Ranks passages in the modes that are possible; without a dataset there are no words to search by.

    Attributes:
        modes: What may be asked for.
        default_mode: What is done where nobody says.
    """

    def __init__(self, index: PassageIndex, fusion: Fusion, dataset: Dataset | None) -> None:
        """Takes the opened parts.

        Raises:
            ValueError: Where dataset and index do not hold the same passages.
        """
        self._index, self.fusion = index, fusion
        self._bm25 = BM25(dataset) if dataset else None
        self._hybrid = Hybrid(self._bm25, index, fusion) if self._bm25 else None
        self.modes: tuple[Mode, ...] = MODES if dataset else ("dense",)
        self.default_mode: Mode = fusion.default_mode if dataset else "dense"

    def rank(self, mode: Mode, queries: Sequence[str], vectors: Vectors | None, wanted: SearchFields) -> Rankings:
        """The best passages of each query; `vectors` are the same queries, which bm25 does not need."""
        if mode == "bm25":
            return Rankings(self._by_words(queries, wanted), [])
        assert vectors is not None, "only bm25 searches without vectors"
        return self._by_both(queries, vectors, wanted) if mode == "hybrid" else self._by_vectors(vectors, wanted)

    def _by_vectors(self, vectors: Vectors, wanted: SearchFields) -> Rankings:
        if wanted.passage_ids:
            return Rankings(self._index.search_among(vectors, self._allowed_rows(wanted), wanted.depth), [])
        # As many more as may fall out: every index can do that, and it loses nothing.
        excluded = frozenset(wanted.exclude_passage_ids or ())
        rankings = self._index.search(vectors, wanted.depth + len(excluded))
        best = [max((hit.score for hit in hits[:1]), default=math.nan) for hits in rankings]
        return Rankings(_without(rankings, excluded, wanted.depth), best)

    def _by_words(self, queries: Sequence[str], wanted: SearchFields) -> list[list[Hit]]:
        assert self._bm25 is not None, "asked for only where it is among the modes"
        if wanted.passage_ids:
            rows = self._allowed_rows(wanted)
            scored = self._bm25.scores_of(queries, [rows] * len(queries))
            return [self._index.hits(scores[scores > 0], rows[scores > 0])[: wanted.depth] for scores in scored]
        excluded = frozenset(wanted.exclude_passage_ids or ())
        return _without(self._bm25.search(queries, wanted.depth + len(excluded)), excluded, wanted.depth)

    def _by_both(self, queries: Sequence[str], vectors: Vectors, wanted: SearchFields) -> Rankings:
        assert self._hybrid is not None, "asked for only where it is among the modes"
        if wanted.passage_ids:
            return Rankings(self._hybrid.search_among(queries, vectors, self._allowed_rows(wanted), wanted.depth), [])
        excluded = self._index.rows_of(wanted.exclude_passage_ids) if wanted.exclude_passage_ids else None
        rows = None if excluded is None else [excluded] * len(queries)
        hits, best = self._hybrid.search_scored(queries, vectors, wanted.depth, excluded=rows)
        return Rankings(hits, best.tolist())

    def _allowed_rows(self, wanted: SearchFields) -> np.ndarray:
        excluded = frozenset(wanted.exclude_passage_ids or ())
        return self._index.rows_of([name for name in wanted.passage_ids or () if name not in excluded])


def _without(rankings: list[list[Hit]], excluded: frozenset[str], depth: int) -> list[list[Hit]]:
    return [[hit for hit in hits if hit.passage_id not in excluded][:depth] for hits in rankings]
