"""What is compared, and when a difference is drift: more than chance, large enough to matter, and to the worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64
from scipy import stats

from components.evaluate.drift.config import DriftConfig
from components.shared.measuring.statistics import bootstrap_means, holm

Verdict = Literal["drift", "no drift", "too few queries"]
Scores = Float64[np.ndarray, " query"]


@dataclass(frozen=True)
class Queries:
    """One side of the comparison, a row a query.

    Attributes:
        texts: As they were asked.
        scores: Inner product of each query's best hit.
        is_cut: Whether the encoder reads only its beginning.
        languages: Code of its language; empty where the text does not say.
        unknown: Its words that no passage holds.
    """

    texts: list[str]
    scores: Scores
    is_cut: list[bool]
    languages: list[str]
    unknown: list[list[str]]


@dataclass(frozen=True)
class Comparison:
    """One property of the queries: the release's own and the sampled ones.

    Attributes:
        name: Of the property.
        own: Mean or share among the release's own queries.
        sampled: Among the sampled ones.
        low: Lower end of the interval of the difference.
        high: Its upper end.
        num_own: Own queries that it is known of.
        num_sampled: Sampled ones.
        test: What gave the p value.
        p_value: Two-sided, corrected for the number of properties.
        distance: Of the distributions (Kolmogorov-Smirnov); None of a share.
        is_drift: More than chance, large enough, and to the worse.
    """

    name: str
    own: float
    sampled: float
    low: float
    high: float
    num_own: int
    num_sampled: int
    test: str
    p_value: float
    distance: float | None = None
    is_drift: bool = False


def compare(
    own: Queries, sampled: Queries, seen: Sequence[str], good_score: float, config: DriftConfig
) -> list[Comparison]:
    """All properties, p values corrected together, and what of it is drift.

    Args:
        own: The release's own queries.
        sampled: Those that servers sampled.
        seen: Languages of the release.
        good_score: Smallest best score that is a good hit.
        config: What counts.
    """
    told = [[code not in seen for code in queries.languages if code] for queries in (own, sampled)]
    comparisons = [
        _scores(own.scores, sampled.scores, config),
        _share("without a good hit", own.scores < good_score, ~(sampled.scores >= good_score), config),
        _share("longer than the encoder reads", np.array(own.is_cut), np.array(sampled.is_cut), config),
        _share("in another language", np.array(told[0], dtype=bool), np.array(told[1], dtype=bool), config),
        _share(
            "with a word that no passage holds",
            np.array([bool(words) for words in own.unknown]),
            np.array([bool(words) for words in sampled.unknown]),
            config,
        ),
    ]
    corrected = holm([comparison.p_value for comparison in comparisons])
    return [
        _decided(replace(comparison, p_value=p_value), config)
        for comparison, p_value in zip(comparisons, corrected, strict=True)
    ]


def verdict(comparisons: Sequence[Comparison], own: Queries, sampled: Queries, config: DriftConfig) -> Verdict:
    """What all comparisons say together."""
    if min(len(own.texts), len(sampled.texts)) < config.fewest_queries:
        return "too few queries"
    return "drift" if any(comparison.is_drift for comparison in comparisons) else "no drift"


def _decided(comparison: Comparison, config: DriftConfig) -> Comparison:
    """Scores are worse where they are lower, shares where they are larger."""
    difference = comparison.sampled - comparison.own
    if comparison.distance is not None:
        matters = comparison.distance >= config.smallest_distance and difference < 0
    else:
        matters = difference >= config.smallest_difference
    return replace(comparison, is_drift=bool(matters and comparison.p_value < 1 - config.confidence))


def _scores(
    own: Float64[np.ndarray, " own"], sampled: Float64[np.ndarray, " sampled"], config: DriftConfig
) -> Comparison:
    tested = stats.ks_2samp(own, sampled)
    means = [
        bootstrap_means(values[:, None], num_resamples=config.num_resamples, seed=config.seed + number)[:, 0]
        for number, values in enumerate((own, sampled))
    ]
    low, high = np.quantile(means[1] - means[0], [(1 - config.confidence) / 2, (1 + config.confidence) / 2])
    return Comparison(
        name="score of the best hit",
        own=float(own.mean()),
        sampled=float(sampled.mean()),
        low=float(low),
        high=float(high),
        num_own=len(own),
        num_sampled=len(sampled),
        test="Kolmogorov-Smirnov",
        p_value=float(tested.pvalue),
        distance=float(tested.statistic),
    )


def _share(
    name: str, own: Bool[np.ndarray, " own"], sampled: Bool[np.ndarray, " sampled"], config: DriftConfig
) -> Comparison:
    counts = [[int(side.sum()), int((~side).sum())] for side in (own, sampled)]
    low, high = _interval(counts, config.confidence)
    return Comparison(
        name=name,
        own=float(own.mean()) if len(own) else 0.0,
        sampled=float(sampled.mean()) if len(sampled) else 0.0,
        low=low,
        high=high,
        num_own=len(own),
        num_sampled=len(sampled),
        test="Fisher's exact test",
        p_value=float(stats.fisher_exact(counts).pvalue) if len(own) and len(sampled) else 1.0,
    )


def _interval(counts: Sequence[Sequence[int]], confidence: float) -> tuple[float, float]:
    """Of the second share minus the first, from the intervals of both; from -1 to 1 where one is of no query.

    Source: Newcombe 1998, Interval estimation for the difference between independent proportions, method 10.
    """
    if not all(map(sum, counts)):
        return -1.0, 1.0
    shares = [yes / (yes + no) for yes, no in counts]
    (own_low, own_high), (low, high) = (
        stats.binomtest(yes, yes + no).proportion_ci(confidence, method="wilson") for yes, no in counts
    )
    difference = shares[1] - shares[0]
    below = np.hypot(shares[1] - low, own_high - shares[0])
    above = np.hypot(high - shares[1], shares[0] - own_low)
    return float(difference - below), float(difference + above)
