"""Whether an annotator prefers positions in the prompt: selection rate by position, tested.

Pools are shuffled, so where a passage stands says nothing of its worth: given how many of n passages an unbiased
annotator selects, every choice of positions is equally likely. That makes two exact expectations and covariances,
summed over prompts of any length.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

# Chance of flagging an unbiased annotator; both tests together stay below it (Bonferroni).
LEVEL = 0.01
# With fewer telling prompts the approximations are not to be trusted.
_LEAST_PROMPTS = 20


@dataclass(frozen=True)
class PositionReport:
    """Selection rate at each position (0 = first shown) and what the tests say.

    `trend_z` is positive where later positions are preferred. `p_value` is that of both tests together. `num_prompts`
    counts those in which some but not all passages were selected: only they tell. `biased` is None where too little was
    selected to know.
    """

    rates: tuple[float, ...]
    expected: tuple[float, ...]
    shown: tuple[int, ...]
    num_prompts: int
    num_selected: int
    trend_z: float
    trend_p_value: float
    places_statistic: float
    places_freedom: int
    places_p_value: float
    p_value: float
    level: float
    biased: bool | None


class Positions:
    """Selections by position, over prompts of any lengths; memory does not grow with their number."""

    def __init__(self) -> None:
        self._tallies: dict[int, _Tally] = {}

    def add(self, length: int, selected: Collection[int]) -> None:
        """Adds a prompt that showed `length` passages, and the 0-based positions selected."""
        if length:
            self._tallies.setdefault(length, _Tally(np.zeros(length))).add(selected)

    def report(self) -> PositionReport:
        """Tests whether selections depend on positions.

        Two tests share the level: one for a trend from first to last position, one for any pattern (first and last,
        lost in the middle).

        Source: Cochran 1950, The comparison of percentages in matched samples (equal lengths); Landis, Heyman, Koch
            1978, Average partial association in three-way contingency tables (any lengths).
        """
        longest = max(self._tallies, default=0)
        seen, shown, expected, covariance = (
            np.zeros(longest),
            np.zeros(longest),
            np.zeros(longest),
            np.zeros((longest, longest)),
        )
        trend, trend_variance = 0.0, 0.0
        for length, tally in self._tallies.items():
            seen[:length] += tally.seen
            shown[:length] += tally.num_prompts
            expected[:length] += tally.seen.sum() / length
            if length > 1:
                covariance[:length, :length] += tally.spread * (np.eye(length) - 1 / length)
                places = np.linspace(-1, 1, length)
                trend += float(tally.seen @ places)
                trend_variance += tally.spread * float((places**2).sum())
        z = trend / math.sqrt(trend_variance) if trend_variance else 0.0
        statistic, freedom = _omnibus(seen - expected, covariance)
        p_values = float(2 * stats.norm.sf(abs(z))), float(stats.chi2.sf(statistic, freedom)) if freedom else 1.0
        p_value = min(1.0, 2 * min(p_values))
        num_telling = sum(tally.num_telling for tally in self._tallies.values())
        return PositionReport(
            rates=tuple((seen / np.maximum(shown, 1)).tolist()),
            expected=tuple((expected / np.maximum(shown, 1)).tolist()),
            shown=tuple(shown.astype(int).tolist()),
            num_prompts=num_telling,
            num_selected=int(seen.sum()),
            trend_z=z,
            trend_p_value=p_values[0],
            places_statistic=statistic,
            places_freedom=freedom,
            places_p_value=p_values[1],
            p_value=p_value,
            level=LEVEL,
            biased=p_value < LEVEL if num_telling >= _LEAST_PROMPTS else None,
        )


@dataclass
class _Tally:
    """How often each position was selected, over all prompts of one length n, and the spread of their selections.

    The spread sums k(n-k)/(n(n-1)) over prompts with k selected. Drawing k of n positions without replacement has that
    spread times (identity - 1/n) as its covariance.
    """

    seen: Float64[np.ndarray, " place"]
    spread: float = 0.0
    num_prompts: int = 0
    num_telling: int = 0

    def add(self, selected: Collection[int]) -> None:
        size, length = len(selected), len(self.seen)
        self.seen[list(selected)] += 1
        self.num_prompts += 1
        self.num_telling += 0 < size < length
        self.spread += size * (length - size) / (length * max(1, length - 1))


def _omnibus(
    differences: Float64[np.ndarray, " place"], covariance: Float64[np.ndarray, "place place"]
) -> tuple[float, int]:
    """The quadratic form d' V^- d and the rank of V."""
    if not covariance.any():
        return 0.0, 0
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 1e-9 * values.max()
    along = vectors[:, kept].T @ differences
    return float((along**2 / values[kept]).sum()), int(kept.sum())
