"""Hybrid search over a BM25 index and a dense index of the same passages.

The candidates of a query are the best of both rankings; the score that one retriever did not return is computed, never
taken for 0. So what is ranked is ranked by the two true scores, and a filter makes a search what it would be if the
corpus held nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from components.shared.bm25 import BM25
from components.shared.fusion.arithmetic import fuse
from components.shared.fusion.tuned import Fusion
from components.shared.index import PassageIndex
from components.shared.records import Hit

Rows = Int64[np.ndarray, " _"]
Scores = Float32[np.ndarray, " _"]
Vectors = Float32[np.ndarray, "query dimension"]
_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Candidates:
    """Passages of one query with the exact scores of both retrievers; each row once."""

    rows: Rows
    bm25: Scores
    dense: Scores


class Hybrid:
    """Searches with both retrievers and fuses what they find."""

    def __init__(self, bm25: BM25, index: PassageIndex, fusion: Fusion) -> None:
        """Takes the two indexes.

        Raises:
            ValueError: Where they do not hold the same passages in the same order.
        """
        if not index.holds(bm25.passage_ids):
            raise ValueError(
                "the BM25 index and the dense index do not hold the same passages in the same order; build the index "
                "over this dataset"
            )
        self._bm25, self._index, self.fusion = bm25, index, fusion

    def search(
        self, queries: Sequence[str], vectors: Vectors, depth: int, *, excluded: Sequence[Rows] | None = None
    ) -> list[list[Hit]]:
        """The best `depth` passages of each query, best first; equal scores in passage-id order.

        A ranking does not depend on `depth` until that is beyond the candidates: what follows then comes from deeper in
        the two rankings, and stands behind all of them.

        Args:
            queries: Texts, for BM25.
            vectors: The same queries, encoded.
            depth: Hits of each query.
            excluded: For each query the rows that are no hits, and count for no scale; None: no row.
        """
        return self.search_scored(queries, vectors, depth, excluded=excluded)[0]

    def search_scored(
        self, queries: Sequence[str], vectors: Vectors, depth: int, *, excluded: Sequence[Rows] | None = None
    ) -> tuple[list[list[Hit]], Scores]:
        """As `search`, and the inner product of each query's best hit by vectors; nan where those have no weight."""
        skipped = excluded or [_NO_ROWS] * len(queries)
        lists, best = self._lists(queries, vectors, max(depth, self.fusion.depth), skipped)
        heads = [np.union1d(lexical[: self.fusion.depth], dense[: self.fusion.depth]) for lexical, dense in lists]
        rankings = [self.ranked(scored) for scored in self.scored(queries, vectors, heads)]
        if any(len(head) < depth for head in heads):
            tails = [
                np.setdiff1d(np.union1d(*both), head) if len(head) < depth else _NO_ROWS
                for both, head in zip(lists, heads, strict=True)
            ]
            behind = [self.ranked(scored) for scored in self.scored(queries, vectors, tails)]
            rankings = [_joined(*both) for both in zip(rankings, behind, strict=True)]
        return [hits[:depth] for hits in rankings], best

    def search_among(self, queries: Sequence[str], vectors: Vectors, rows: Rows, depth: int) -> list[list[Hit]]:
        """The best `depth` of the given rows, best first; every row is scored by both."""
        scored = self.scored(queries, vectors, [rows] * len(queries))
        return [self.ranked(candidates)[:depth] for candidates in scored]

    def first_rows(self, queries: Sequence[str], vectors: Vectors, depth: int) -> list[Rows]:
        """The rows of the best `depth` of both rankings of each query, together and ascending."""
        lists, _ = self._lists(queries, vectors, depth, [_NO_ROWS] * len(queries), weighted=False)
        return [np.union1d(*both) for both in lists]

    def candidates(self, queries: Sequence[str], vectors: Vectors, excluded: Sequence[Rows]) -> list[Candidates]:
        """What `search` ranks where both retrievers have weight: for whoever looks for the best one."""
        lists, _ = self._lists(queries, vectors, self.fusion.depth, excluded, weighted=False)
        return self.scored(queries, vectors, [np.union1d(*both) for both in lists], weighted=False)

    def scored(
        self, queries: Sequence[str], vectors: Vectors, rows: Sequence[Rows], *, weighted: bool = True
    ) -> list[Candidates]:
        """The rows of each query with their scores; `weighted`: one without weight is not asked, and gives 0."""
        weight = self.fusion.weight
        zeros = [np.zeros(len(of_query), dtype=np.float32) for of_query in rows]
        bm25 = self._bm25.scores_of(queries, rows) if not weighted or weight > 0 else zeros
        dense = zeros
        if not weighted or weight < 1:
            dense = [self._dense_scores(vector, of_query) for of_query, vector in zip(rows, vectors, strict=True)]
        return [Candidates(*parts) for parts in zip(rows, bm25, dense, strict=True)]

    def ranked(self, candidates: Candidates, *, weight: float | None = None) -> list[Hit]:
        """All candidates as hits, best first; with BM25 alone those without a shared word are none.

        Args:
            candidates: Of one query.
            weight: BM25's share; None: that of the fusion.
        """
        share = self.fusion.weight if weight is None else weight
        scores = fuse(candidates.bm25, candidates.dense, method=self.fusion.method, weight=share)
        is_hit = candidates.bm25 > 0 if share == 1 else np.ones(len(scores), dtype=bool)
        return self._index.hits(scores[is_hit], candidates.rows[is_hit])

    def _dense_scores(self, vector: Float32[np.ndarray, " dimension"], rows: Rows) -> Scores:
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        # Summed row by row: a matrix product may round equal vectors differently, and then chance would order them.
        scores: Scores = (self._index.vectors_of(rows) * vector).sum(axis=1)
        return scores

    def _lists(
        self,
        queries: Sequence[str],
        vectors: Vectors,
        depth: int,
        excluded: Sequence[Rows],
        *,
        weighted: bool = True,
    ) -> tuple[list[tuple[Rows, Rows]], Scores]:
        """The rows of BM25's and of the dense ranking of each query, best first, and the best score of the latter."""
        # As many more as may fall out.
        deeper = depth + max(map(len, excluded), default=0)
        lexical = dense = [_NO_ROWS] * len(queries)
        best = np.full(len(queries), np.nan, dtype=np.float32)
        if not weighted or self.fusion.weight > 0:
            lexical = [rows for rows, _ in self._bm25.search_rows(queries, deeper)]
        if not weighted or self.fusion.weight < 1:
            scores, ranked = self._index.search_rows(vectors, deeper)
            dense, best = [rows[rows >= 0] for rows in ranked], scores[:, 0]
        lists = [
            (_without(by_words, skipped)[:depth], _without(by_vector, skipped)[:depth])
            for by_words, by_vector, skipped in zip(lexical, dense, excluded, strict=True)
        ]
        return lists, best


def _without(rows: Rows, skipped: Rows) -> Rows:
    return rows[~np.isin(rows, skipped)] if len(skipped) else rows


def _joined(hits: list[Hit], behind: list[Hit]) -> list[Hit]:
    """The second ranking behind the first, its scores shifted to end where those of the first begin."""
    if not hits or not behind:
        return hits + behind
    last, first = hits[-1].score, behind[0].score
    # So subtracted, rounding lifts none above the last.
    return hits + [Hit(hit.passage_id, last - (first - hit.score)) for hit in behind]
