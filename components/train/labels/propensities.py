"""How likely a result is looked at, by its rank, estimated from clicks: the position-based model.

A click is a look and a liking: P(click) = theta(rank) x gamma(query, passage). Where a passage is seen at several
ranks, these tell the two apart. Where every passage is seen once, as in a small log, nothing does: so gamma is not one
number a passage but has a distribution over all of them, which is estimated too. Such a log gives the click rate of a
rank over that of rank 1, and a large one the truth.

Source: the model is that of Craswell et al. 2008 (WSDM) and Richardson et al. 2007; expectation maximisation for its
examination is Wang et al. 2018 (WSDM). The mixture in the place of a number a passage is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

# A weight of at most 20: one click at a rank that nobody looks at would be a whole batch's gradient.
FLOOR = 0.05
_NUM_LEVELS, _MOST_ROUNDS, _TOLERANCE = 32, 500, 1e-5
# (pair, rank) cells looked at together: 16 MiB a table of levels.
_BLOCK_CELLS = 65_536
_SMALLEST = 1e-4


@dataclass(frozen=True)
class _Cells:
    """How often a pair was shown and clicked at a rank; rows are in the order of their pairs.

    `starts`: the first row of each pair. `ranks` from 0.
    """

    starts: Int64[np.ndarray, " pair"]
    pairs: Int64[np.ndarray, " cell"]
    ranks: Int64[np.ndarray, " cell"]
    clicks: Float64[np.ndarray, " cell"]
    skips: Float64[np.ndarray, " cell"]

    def blocks(self) -> Iterator[_Cells]:
        """Whole pairs, about as many cells at a time as fit."""
        first = 0
        while first < len(self.starts):
            limit = self.starts[first] + _BLOCK_CELLS
            last = max(first + 1, int(np.searchsorted(self.starts, limit)))
            stop = self.starts[last] if last < len(self.starts) else len(self.pairs)
            rows = slice(int(self.starts[first]), int(stop))
            columns = (self.ranks[rows], self.clicks[rows], self.skips[rows])
            yield _Cells(self.starts[first:last] - self.starts[first], self.pairs[rows] - first, *columns)
            first = last


def estimate_propensities(
    pairs: Int64[np.ndarray, " row"], ranks: Int64[np.ndarray, " row"], clicked: Bool[np.ndarray, " row"]
) -> Float64[np.ndarray, " rank"]:
    """Examination of ranks 1, 2, ... over that of rank 1, clipped to between FLOOR and 1.

    Args:
        pairs: Number of each row's query (or topic) and passage.
        ranks: From 1.
        clicked: Whether it was clicked.
    """
    if not len(ranks) or not clicked.any():
        return np.ones(int(ranks.max()) if len(ranks) else 0)
    cells, num_ranks = _count(pairs, ranks, clicked), int(ranks.max())
    shown = np.bincount(cells.ranks, weights=cells.clicks + cells.skips, minlength=num_ranks)
    theta = 1 / np.sqrt(np.arange(1, num_ranks + 1))
    levels = ((np.arange(_NUM_LEVELS) + 0.5) / _NUM_LEVELS) ** 2
    shares = np.full(_NUM_LEVELS, 1 / _NUM_LEVELS)
    for _ in range(_MOST_ROUNDS):
        examined, shares = _round(cells, theta, levels, shares)
        seen = np.divide(examined, shown, out=theta.copy(), where=shown > 0).clip(_SMALLEST, 1.0)
        moved = np.abs(seen / seen[0] - theta / theta[0]).max()
        theta = seen
        if moved < _TOLERANCE:
            break
    clipped: Float64[np.ndarray, " rank"] = np.clip(theta / theta[0], FLOOR, 1.0)
    return clipped


def _count(
    pairs: Int64[np.ndarray, " row"], ranks: Int64[np.ndarray, " row"], clicked: Bool[np.ndarray, " row"]
) -> _Cells:
    num_ranks = int(ranks.max())
    names, groups = np.unique(pairs * num_ranks + ranks - 1, return_inverse=True)
    of_pair, of_rank = np.divmod(names, num_ranks)
    _, starts, numbers = np.unique(of_pair, return_index=True, return_inverse=True)
    clicks = np.bincount(groups, weights=clicked)
    return _Cells(starts, numbers, of_rank, clicks, np.bincount(groups) - clicks)


def _round(
    cells: _Cells,
    theta: Float64[np.ndarray, " rank"],
    levels: Float64[np.ndarray, " level"],
    shares: Float64[np.ndarray, " level"],
) -> tuple[Float64[np.ndarray, " rank"], Float64[np.ndarray, " level"]]:
    """Looks at each rank that the data expect under this theta, and the shares of the levels of liking."""
    examined, liked = np.zeros(len(theta)), np.zeros(len(levels))
    for block in cells.blocks():
        seen = theta[block.ranks][:, None]
        passed = 1 - seen * levels
        rows = block.clicks[:, None] * np.log(seen * levels) + block.skips[:, None] * np.log(passed)
        weights = np.add.reduceat(rows, block.starts, axis=0) + np.log(shares)
        weights = np.exp(weights - weights.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        # Of a result that was not clicked: looked at and not liked, over not clicked.
        unclicked = (weights[block.pairs] * seen * (1 - levels) / passed).sum(axis=1)
        examined += np.bincount(block.ranks, weights=block.clicks + block.skips * unclicked, minlength=len(theta))
        liked += weights.sum(axis=0)
    return examined, np.maximum(liked / liked.sum(), 1e-12)
