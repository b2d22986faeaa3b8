"""Two scores of a passage -> one: weighted min-max or z-score sum, and weighted reciprocal ranks. Pure numpy.

All of it is of one query and over its candidates: the passages that at least one of the two retrievers ranks high, each
with the exact scores of both.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Float64

Method = Literal["minmax", "zscore", "rrf"]
Scores = Float[np.ndarray, " passage"]
Fused = Float64[np.ndarray, " passage"]

# Source: Cormack, Clarke and Buettcher 2009, Reciprocal rank fusion outperforms Condorcet and individual rank learning
# methods, who fixed it in a pilot and left it there.
RRF_K = 60


def fuse(bm25: Scores, dense: Scores, *, method: Method, weight: float) -> Fused:
    """One score a passage; higher is better, and scores of different queries do not compare.

    Args:
        bm25: BM25's scores, 0 where query and passage share no word.
        dense: The encoder's scores of the same passages.
        method: minmax and zscore add the scores up on a common scale, rrf adds up reciprocal ranks.
        weight: BM25's share of the sum, from 0 (the dense ranking) to 1 (BM25's).
    """
    if method == "rrf":
        return weight * _reciprocal_ranks(bm25, unranked=bm25 <= 0) + (1 - weight) * _reciprocal_ranks(dense)
    if method == "zscore":
        return weight * zscore(bm25) + (1 - weight) * zscore(dense)
    # Nothing scores below 0 in BM25, and almost every passage of a corpus scores 0.
    return weight * minmax(bm25, low=0.0) + (1 - weight) * minmax(dense)


def minmax(scores: Scores, *, low: float | None = None) -> Fused:
    """The scores on a line from 0, where `low` lies, to 1, where the highest lies; all 0 where none is above `low`.

    Args:
        scores: Of one query.
        low: Score that becomes 0; None: the lowest of the scores.
    """
    values = scores.astype(np.float64)
    if not len(values):
        return values
    lowest = float(values.min()) if low is None else low
    span = float(values.max()) - lowest
    return (values - lowest) / span if span > 0 else np.zeros(len(values))


def zscore(scores: Scores) -> Fused:
    """How many standard deviations each score lies above their mean; all 0 where they are equal."""
    values = scores.astype(np.float64)
    if not len(values):
        return values
    deviation = float(values.std())
    return (values - values.mean()) / deviation if deviation > 0 else np.zeros(len(values))


def _reciprocal_ranks(scores: Scores, unranked: np.ndarray | None = None) -> Fused:
    """1 / (k + rank); equal scores share the best of their ranks, so that no order of the passages decides."""
    ordered = np.sort(-scores)
    shares = 1.0 / (RRF_K + 1 + np.searchsorted(ordered, -scores, side="left"))
    return shares if unranked is None else np.where(unranked, 0.0, shares)
