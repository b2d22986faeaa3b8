"""Agreement with people: by hand, against references, and by simulation of what an interval promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.annotate.quality.agreement import (
    count_pairs,
    jaccard,
    kappa,
    mean,
    paired_p_value,
    precision,
    prediction_powered_mean,
    ratio,
    recall,
)


def test_pairs_are_counted_over_the_judged_passages_only() -> None:
    # selected a, b, c; useful b, d; e is judged and neither, x is selected and nobody judged it.
    assert count_pairs({"a", "b", "c", "x"}, {"b", "d"}, ["a", "b", "c", "d", "e"]) == (1, 2, 1, 1)


def test_precision_and_recall_by_hand() -> None:
    # 3 of 5 selected are useful; 3 of 4 useful are selected.
    counts = np.array([[2.0, 1, 0, 5], [1, 1, 1, 5]])
    assert precision(counts, 0.95).value == pytest.approx(3 / 5)
    assert recall(counts, 0.95).value == pytest.approx(3 / 4)


def test_wilson_interval_of_independent_trials_by_hand() -> None:
    # One trial a query, 8 of 10 succeed. z = 1.959964: (0.8 + 0.19207) / 1.38415 = 0.71674;
    # reach = z / 1.38415 * sqrt(0.016 + 0.00960) = 0.22659 (design effect of one trial a query, 10/9: n = 9, so
    # slightly wider).
    parts, wholes = np.array([1.0] * 8 + [0.0] * 2), np.ones(10)
    its = ratio(parts, wholes, 0.95)
    n, z = 9.0, 1.959964
    middle = (0.8 + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(0.16 / n + z * z / (4 * n * n))
    assert (its.low, its.high) == (pytest.approx(middle - reach, abs=1e-6), pytest.approx(middle + reach, abs=1e-6))


def test_an_interval_at_the_border_is_not_a_point() -> None:
    its = ratio(np.zeros(20), np.ones(20), 0.95)
    assert (its.value, its.low) == (0.0, 0.0)
    assert its.high is not None
    # The rule of three says 0.15, Wilson 0.161.
    assert its.high == pytest.approx(0.161, abs=1e-3)


def test_nothing_selected_has_no_precision() -> None:
    assert precision(np.array([[0.0, 0, 2, 5]]), 0.95).value is None


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says_when_queries_differ() -> None:
    generator, held = np.random.default_rng(0), 0
    for _ in range(400):
        # Each query has its own rate around 0.7: passages of a query are alike.
        rates = generator.beta(3.5, 1.5, size=80)
        wholes = generator.integers(1, 6, size=80).astype(float)
        parts = generator.binomial(wholes.astype(int), rates).astype(float)
        its = ratio(parts, wholes, 0.95)
        assert its.low is not None
        assert its.high is not None
        held += its.low <= 0.7 <= its.high
    # Standard error of a coverage of 0.95 over 400 trials: 0.011.
    assert 0.92 <= held / 400 <= 0.985


def test_kappa_by_hand() -> None:
    # Cohen's textbook table: 20 both, 5 and 10 alone, 15 neither: observed 0.7, by chance 0.5, kappa 0.4.
    counts = np.array([[20.0, 5, 10, 15]])
    assert kappa(counts, 0.95).value == pytest.approx(0.4)


def test_kappa_is_undefined_where_both_always_say_the_same_one_thing() -> None:
    assert kappa(np.array([[0.0, 0, 0, 9], [0, 0, 0, 3]]), 0.95).value is None


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=2, max_size=8))
def test_kappa_lies_within_its_interval_and_bounds(rows: list[tuple[int, ...]]) -> None:
    its = kappa(np.array(rows, dtype=float), 0.95)
    if its.value is not None and its.low is not None and its.high is not None:
        assert -1 <= its.low <= its.value <= its.high <= 1


def test_the_interval_of_kappa_is_that_of_many_resamples() -> None:
    generator = np.random.default_rng(1)
    useful = generator.random((300, 6)) < 0.3
    selected = np.where(generator.random((300, 6)) < 0.8, useful, generator.random((300, 6)) < 0.3)
    rows = [
        [(u & s).sum(), (~u & s).sum(), (u & ~s).sum(), (~u & ~s).sum()] for u, s in zip(useful, selected, strict=True)
    ]
    counts = np.array(rows, dtype=float)
    its = kappa(counts, 0.95)
    resampled = [kappa(counts[generator.integers(0, 300, 300)], 0.95).value for _ in range(1000)]
    low, high = np.quantile(np.array(resampled, dtype=float), [0.025, 0.975])
    assert (its.low, its.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_jaccard_of_nothing_and_nothing_is_agreement() -> None:
    assert (jaccard(set(), set()), jaccard({"a"}, {"b"}), jaccard({"a", "b"}, {"b", "c"})) == (
        1.0,
        0.0,
        pytest.approx(1 / 3),
    )


def _population(generator: np.random.Generator, *, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """What people say of 2,000 queries (mean 2) and an LLM that sees it through noise and says one too many."""
    truth = generator.poisson(2.0, 2000).astype(float)
    return truth, truth + 1 + generator.normal(0, noise, 2000)


def test_prediction_powered_intervals_hold_the_truth_although_the_annotator_is_biased() -> None:
    generator, held = np.random.default_rng(2), 0
    for _ in range(300):
        truth, predicted = _population(generator, noise=0.5)
        its = prediction_powered_mean(truth[:100], predicted[:100], predicted[100:], 0.95)
        assert its.low is not None
        assert its.high is not None
        held += its.low <= 2.0 <= its.high
    assert 0.92 <= held / 300 <= 0.985


def test_prediction_powered_intervals_are_narrower_where_the_annotator_knows_and_never_much_wider() -> None:
    generator = np.random.default_rng(3)

    def width(noise: float) -> tuple[float, float]:
        truth, predicted = _population(generator, noise=noise)
        powered, plain = (
            prediction_powered_mean(truth[:100], predicted[:100], predicted[100:], 0.95),
            mean(truth[:100], 0.95),
        )
        assert powered.low is not None
        assert powered.high is not None
        assert plain.low is not None
        assert plain.high is not None
        return powered.high - powered.low, plain.high - plain.low

    good, plain = width(0.3)
    assert good < 0.5 * plain
    useless, plain = width(50.0)
    assert useless < 1.05 * plain


def test_change_between_runs_is_tested_by_query() -> None:
    assert paired_p_value(np.array([1.0, 2, 3]), np.array([1.0, 2, 3])) == 1.0
    generator = np.random.default_rng(4)
    before = generator.poisson(3, 200).astype(float)
    assert paired_p_value(before, before + generator.integers(0, 2, 200)) < 1e-6
    p_values = [paired_p_value(generator.normal(size=60), generator.normal(size=60)) for _ in range(400)]
    assert np.mean([p < 0.05 for p in p_values]) < 0.09


def test_change_between_runs_has_the_p_value_of_the_paired_t_test() -> None:
    # Differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees of freedom, whose distribution function is
    # 1/2 + t / (2 sqrt(2 + t^2)) = 0.962910: two-sided 0.074180.
    assert paired_p_value(np.array([1.0, 1, 1]), np.array([2.0, 3, 4])) == pytest.approx(0.074180, abs=1e-6)
    # All of ten changed by the same amount: 2 * (1/2)^10.
    assert paired_p_value(np.zeros(10), np.ones(10)) == pytest.approx(2 / 1024)
    assert paired_p_value(np.array([1.0]), np.array([2.0])) == 1.0
