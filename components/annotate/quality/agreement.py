"""How far labels agree with people, with themselves and with earlier labels; every number with an interval.

The unit of all intervals is the query: passages of one pool are judged together, so they are not independent.
Everything is a closed formula over counts per query, so half a million queries cost as little as sixty.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import stats

# Columns of the counts: passages of one query that are selected and useful, selected only, useful only, neither.
Counts = Float64[np.ndarray, "query 4"]
Column = Float64[np.ndarray, " query"]


@dataclass(frozen=True)
class Estimate:
    """A value and the interval it lies in at the stated confidence; None where there is nothing to divide by."""

    value: float | None
    low: float | None
    high: float | None


UNDEFINED = Estimate(None, None, None)


def count_pairs(
    selected: Collection[str], useful: Collection[str], judged: Collection[str]
) -> tuple[int, int, int, int]:
    """One query's row of `Counts`, over the judged passages."""
    both = sum(passage_id in useful for passage_id in judged if passage_id in selected)
    only_selected = sum(passage_id in selected for passage_id in judged) - both
    only_useful = sum(passage_id in useful for passage_id in judged) - both
    return both, only_selected, only_useful, len(judged) - both - only_selected - only_useful


def precision(counts: Counts, confidence: float) -> Estimate:
    """Share of the selected passages that people find useful, over all queries together."""
    return ratio(counts[:, 0], counts[:, 0] + counts[:, 1], confidence)


def recall(counts: Counts, confidence: float) -> Estimate:
    """Share of the passages that people find useful that is selected."""
    return ratio(counts[:, 0], counts[:, 0] + counts[:, 2], confidence)


def ratio(parts: Column, wholes: Column, confidence: float) -> Estimate:
    """Sum of parts over sum of wholes, parts <= wholes, within 0..1.

    Wilson's interval, its number of trials divided by the design effect of drawing whole queries: unlike the normal
    interval it stays within 0..1 and does not shrink to nothing where every or no trial succeeds.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference; Kish 1965, Survey
        Sampling (design effect).
    """
    trials = float(wholes.sum())
    if not trials:
        return UNDEFINED
    share = float(parts.sum()) / trials
    effective = trials / _design_effect(parts, wholes, share)
    z = _quantile(confidence)
    middle = (share + z * z / (2 * effective)) / (1 + z * z / effective)
    reach = (
        z / (1 + z * z / effective) * math.sqrt(share * (1 - share) / effective + z * z / (4 * effective * effective))
    )
    # Rounding must not put the share itself outside.
    return Estimate(share, min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach)))


def _design_effect(parts: Column, wholes: Column, share: float) -> float:
    """How much wider than independent trials; never below 1, where few queries would feign certainty."""
    num_queries = len(parts)
    if num_queries < 2 or not 0 < share < 1:
        return 1.0
    of_queries = num_queries / (num_queries - 1) * float(((parts - share * wholes) ** 2).sum())
    return max(1.0, of_queries / (float(wholes.sum()) * share * (1 - share)))


def mean(values: Column, confidence: float) -> Estimate:
    """Mean over queries with the normal interval."""
    if not len(values):
        return UNDEFINED
    middle = float(values.mean())
    if len(values) < 2:
        return Estimate(middle, None, None)
    reach = _quantile(confidence) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(middle, middle - reach, middle + reach)


def kappa(counts: Counts, confidence: float) -> Estimate:
    """Cohen's kappa of two annotators over all pairs: 1 is full agreement, 0 that of chance.

    It is undefined where both always say the same one thing. The interval is the delta method's over queries.

    Source: Cohen 1960, A coefficient of agreement for nominal scales.
    """
    both, selected, useful, neither = (float(column) for column in counts.sum(axis=0))
    wholes = (both + selected) * (selected + neither) + (both + useful) * (useful + neither)
    if not wholes:
        return UNDEFINED
    value = 2 * (both * neither - selected * useful) / wholes
    of_parts = 2 * np.array([neither, -useful, -selected, both])
    crossed = selected + useful
    of_wholes = np.array(
        [crossed + 2 * neither, both + 2 * selected + neither, both + 2 * useful + neither, 2 * both + crossed]
    )
    influences = counts @ ((of_parts - value * of_wholes) / wholes)
    if len(counts) < 2:
        return Estimate(value, None, None)
    reach = _quantile(confidence) * math.sqrt(len(counts) / (len(counts) - 1) * float((influences**2).sum()))
    return Estimate(value, max(-1.0, value - reach), min(1.0, value + reach))


def jaccard(first: Collection[str], second: Collection[str]) -> float:
    """Size of the intersection over size of the union; 1 where both are empty."""
    union = set(first) | set(second)
    return len(set(first) & set(second)) / len(union) if union else 1.0


def prediction_powered_mean(
    gold: Float64[np.ndarray, " gold"],
    gold_predictions: Float64[np.ndarray, " gold"],
    predictions: Float64[np.ndarray, " other"],
    confidence: float,
) -> Estimate:
    """Mean that people would give over all queries, from people's values on a few and the LLM's on all.

    The LLM's mean over the queries without people's values, corrected by its error where there are both: unbiased
    however wrong the LLM is, and narrower than people's values alone where it is informative. The LLM's weight is
    chosen for the smallest variance, 0 where it knows nothing.

    Args:
        gold: People's value of each of the few queries, drawn at random from all.
        gold_predictions: The LLM's values of the same queries.
        predictions: The LLM's values of all other queries.
        confidence: Of the interval.

    Source: Angelopoulos et al. 2023, Prediction-powered inference; the weight: Angelopoulos et al. 2023, PPI++.
    """
    if len(gold) < 2 or len(predictions) < 2:
        return mean(gold, confidence)
    share = len(gold) / len(predictions)
    spread = float(np.concatenate([gold_predictions, predictions]).var(ddof=1))
    weight = min(1.0, max(0.0, float(np.cov(gold, gold_predictions)[0, 1]) / ((1 + share) * spread))) if spread else 0.0
    errors = gold - weight * gold_predictions
    middle = weight * float(predictions.mean()) + float(errors.mean())
    variance = weight**2 * float(predictions.var(ddof=1)) / len(predictions) + float(errors.var(ddof=1)) / len(gold)
    reach = _quantile(confidence) * math.sqrt(variance)
    return Estimate(middle, middle - reach, middle + reach)


def paired_p_value(before: Column, after: Column) -> float:
    """Two-sided p value of no change in the mean, by the paired t-test; by the sign test where all changed alike."""
    differences = after - before
    if len(differences) < 2 or not differences.any():
        return 1.0
    if not differences.std():
        return float(stats.binomtest(len(differences), len(differences)).pvalue)
    return float(stats.ttest_rel(after, before).pvalue)


def _quantile(confidence: float) -> float:
    return float(stats.norm.ppf((1 + confidence) / 2))
