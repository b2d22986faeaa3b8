"""What a test set could have shown: the smallest difference it would notice, and how many queries show half of it.

Of the paired t-test, at the level that a comparison must reach among all that are corrected together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from components.shared.measuring.statistics import Differences, Topics, standard_error

# The usual chance of noticing a difference that is there.
# Source: Cohen 1988, Statistical power analysis for the behavioral sciences.
POWER = 0.8
_MOST_QUERIES = 10**9


@dataclass(frozen=True)
class Power:
    """What a comparison could have shown.

    Attributes:
        smallest: Smallest difference that is noticed with a chance of 80 %; None where the queries say nothing about
            the spread of differences.
        queries_for_half: Queries (topics, where queries share them) that would show half of it as often.
        num_units: Queries or topics that there are.
        level: Level of the two-sided test.
    """

    smallest: float | None
    queries_for_half: int | None
    num_units: int
    level: float


def power_of(differences: Differences, *, level: float, topics: Topics | None = None) -> Power:
    """What a comparison with these differences could have shown, whatever it did show.

    Args:
        differences: Of each query.
        level: Chance of a false claim of this comparison: the whole table's over the number of its comparisons is the
            one that the first of Holm's steps asks for.
        topics: Topic of each query; None: each is its own.
    """
    num_units = len(differences) if topics is None else int(topics.max()) + 1
    error = standard_error(differences, topics)
    if not error > 0:
        return Power(None, None, num_units, level)
    deviation = error * math.sqrt(num_units)
    smallest = deviation * detectable_effect(num_units, level=level)
    return Power(smallest, queries_for(smallest / 2 / deviation, level=level), num_units, level)


def chance_of_noticing(effect_size: float, num_units: int, *, level: float) -> float:
    """Chance that the two-sided t-test of so many units reaches the level.

    Source: Cohen 1988, by the noncentral t distribution.

    Args:
        effect_size: Mean difference over the standard deviation of the differences.
        num_units: At least 2.
        level: Of the test.
    """
    shift, freedom = effect_size * math.sqrt(num_units), num_units - 1
    limit = float(stats.t.isf(level / 2, freedom))
    above, below = stats.nct.sf(limit, freedom, shift), stats.nct.cdf(-limit, freedom, shift)
    # SciPy's tail on the other side is nan where it is nothing.
    return float(np.nan_to_num(above, nan=1.0)) + float(np.nan_to_num(below))


def detectable_effect(num_units: int, *, level: float) -> float:
    """The effect size that so many units notice with a chance of 80 %."""
    highest = 1.0
    while chance_of_noticing(highest, num_units, level=level) < POWER:
        highest *= 2
    return float(optimize.brentq(lambda d: chance_of_noticing(d, num_units, level=level) - POWER, 1e-9, highest))


def queries_for(effect_size: float, *, level: float) -> int:
    """The smallest number of queries that notices an effect of this size with a chance of 80 %."""
    low, high = 1, 2
    while high < _MOST_QUERIES and chance_of_noticing(effect_size, high, level=level) < POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if chance_of_noticing(effect_size, middle, level=level) < POWER:
            low = middle
        else:
            high = middle
    return high
