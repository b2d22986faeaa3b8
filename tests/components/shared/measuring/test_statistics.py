import gc
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from components.shared.measuring.statistics import (
    bootstrap_means,
    compare,
    corrected,
    holm,
    number_topics,
    paired_t_test,
    standard_error,
)


def test_the_t_test_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard deviation 1, t = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees of freedom. The
    # distribution function is then 1/2 + t / (2 sqrt(2 + t^2)) = 0.962910, so the two-sided p value is 0.074180;
    # Cohen's d is 2 / 1.
    p_value, effect_size, name = paired_t_test(np.array([1.0, 2.0, 3.0]))
    assert p_value == pytest.approx(0.074180, abs=1e-6)
    assert effect_size == pytest.approx(2.0)
    assert name == "paired t-test"


def test_the_t_test_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    for num_queries in (2, 5, 50, 500):
        first, second = generator.random(num_queries), generator.random(num_queries)
        assert paired_t_test(first - second)[0] == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)


def test_no_difference_anywhere_has_p_1_and_no_effect() -> None:
    assert paired_t_test(np.zeros(9)) == (1.0, 0.0, "no difference on any query")


def test_a_constant_difference_is_left_to_the_sign_test() -> None:
    # All of 10 queries better by the same amount: 2 * (1/2)^10.
    assert paired_t_test(np.full(10, 0.1)) == (pytest.approx(2 / 1024), None, "sign test (all differences equal)")


def test_one_query_proves_nothing() -> None:
    assert paired_t_test(np.array([0.7]))[0] == 1.0


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04; never falling: 0.04, 0.06, 0.06, 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stops_at_1() -> None:
    # 0.6 * 2 = 1.2 is cut at 1, and 0.7 * 1 may not be smaller.
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_never_helps(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_the_bootstrap_gives_the_same_numbers_again_and_other_ones_with_another_seed() -> None:
    values = np.random.default_rng(1).random((30, 2))
    first = bootstrap_means(values, num_resamples=50, seed=3)
    assert np.array_equal(first, bootstrap_means(values, num_resamples=50, seed=3))
    assert not np.array_equal(first, bootstrap_means(values, num_resamples=50, seed=4))


def test_the_bootstrap_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).random((40, 3))
    generator = np.random.default_rng(3)
    reference = stats.bootstrap(
        (values,), np.mean, axis=0, n_resamples=500, method="percentile", vectorized=True, rng=generator
    )
    ours = bootstrap_means(values, num_resamples=500, seed=3)
    np.testing.assert_allclose(ours, reference.bootstrap_distribution.T, rtol=1e-12)
    low, high = np.quantile(ours, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(low, reference.confidence_interval.low, rtol=1e-12)
    np.testing.assert_allclose(high, reference.confidence_interval.high, rtol=1e-12)


def test_the_bootstrap_draws_the_same_queries_for_all_columns() -> None:
    values = np.random.default_rng(1).random((30, 1))
    means = bootstrap_means(np.hstack([values, 2 * values, 1 - values]), num_resamples=40, seed=0)
    assert means[:, 1] == pytest.approx(2 * means[:, 0])
    assert means[:, 2] == pytest.approx(1 - means[:, 0])


def test_the_bootstrap_is_the_same_in_small_and_large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).random((30, 2))
    whole = bootstrap_means(values, num_resamples=50, seed=3)
    monkeypatch.setattr("components.shared.measuring.statistics._BLOCK_CELLS", 7 * 30)
    # The same draws; BLAS may add the same numbers in another order where the block has another shape.
    np.testing.assert_allclose(whole, bootstrap_means(values, num_resamples=50, seed=3), rtol=1e-13)


def test_the_bootstrap_interval_is_near_the_normal_one() -> None:
    values = np.random.default_rng(5).normal(0.5, 0.2, (400, 1))
    low, high = np.quantile(bootstrap_means(values, num_resamples=4000, seed=0), [0.025, 0.975])
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def compare_two(trained: list[float], base: list[float]) -> dict[str, object]:
    values = {"trained": np.array([trained]).T, "base": np.array([base]).T}
    _, (found,) = compare(
        values, measures=["RR@10"], pairs=[("trained", "base")], num_resamples=200, confidence=0.95, seed=1
    )
    return vars(found)


def test_a_comparison_counts_wins_ties_and_losses() -> None:
    found = compare_two([1.0, 0.5, 0.0, 1.0], [0.0, 0.5, 1.0, 0.5])
    assert (found["wins"], found["ties"], found["losses"], found["num_queries"]) == (2, 1, 1, 4)
    # One query gains 1, one loses 1, one gains a half, of four.
    assert found["difference"] == pytest.approx(0.125)


def test_equal_systems_compare_without_a_nan() -> None:
    found = compare_two([1.0, 0.5, 0.25], [1.0, 0.5, 0.25])
    assert (found["difference"], found["low"], found["high"]) == (0.0, 0.0, 0.0)
    assert (found["p_value"], found["p_holm"], found["effect_size"], found["ties"]) == (1.0, 1.0, 0.0, 3)


def test_rounding_is_a_tie() -> None:
    assert compare_two([0.1 + 0.2, 1.0], [0.3, 0.0])["ties"] == 1


def test_swapping_the_systems_turns_the_interval_around() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.random(40).tolist(), generator.random(40).tolist()
    one, other = compare_two(first, second), compare_two(second, first)
    assert (one["difference"], one["low"], one["high"]) == pytest.approx(
        (-other["difference"], -other["high"], -other["low"])
    )
    assert one["p_value"] == pytest.approx(other["p_value"])


def test_holm_covers_every_pair_and_measure() -> None:
    generator = np.random.default_rng(2)
    values = {name: generator.random((20, 2)) for name in ("trained", "base", "bm25")}
    pairs = [("trained", "base"), ("trained", "bm25"), ("base", "bm25")]
    systems, comparisons = compare(values, measures=["a", "b"], pairs=pairs, num_resamples=100, confidence=0.9, seed=1)
    assert [(its.system, its.against, its.measure) for its in comparisons] == [
        (*pair, measure) for pair in pairs for measure in "ab"
    ]
    assert [its.p_holm for its in comparisons] == holm([its.p_value for its in comparisons])
    assert systems["base"]["b"].mean == pytest.approx(values["base"][:, 1].mean())
    assert all(its.low <= its.mean <= its.high for row in systems.values() for its in row.values())


@pytest.fixture(scope="module")
def _little_garbage() -> None:
    """statsmodels collects garbage before every correction, for which all that other tests left is looked at."""
    gc.freeze()


@pytest.mark.usefixtures("_little_garbage")
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_only_the_primary_measure_is_corrected() -> None:
    generator = np.random.default_rng(4)
    values = {name: generator.random((30, 3)) for name in ("one", "two", "three")}
    pairs = [("one", "two"), ("one", "three"), ("two", "three")]
    _, rows = compare(
        values, measures=["a", "b", "c"], pairs=pairs, num_resamples=50, confidence=0.95, seed=0, primary="b"
    )
    claims = [row for row in rows if row.measure == "b"]
    assert [row.p_holm for row in claims] == holm([row.p_value for row in claims])
    assert all(row.p_holm is None for row in rows if row.measure != "b")
    # Of several collections together: the family is what is given.
    assert [row.p_holm for row in corrected([*claims, *claims], primary="b")] == holm([r.p_value for r in claims] * 2)


def test_p_values_of_equal_systems_are_uniform() -> None:
    """Two systems that differ only in which of them is called which: each query's two values are swapped at random."""
    generator = np.random.default_rng(5)
    both = np.clip(generator.normal(0.6, 0.35, (300, 2)), 0, 1)
    p_values = []
    for _ in range(1500):
        swapped = generator.random(300) < 0.5
        differences = np.where(swapped, -1.0, 1.0) * (both[:, 0] - both[:, 1])
        p_values.append(paired_t_test(differences)[0])
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_p_values_of_equal_systems_are_uniform_where_queries_share_topics() -> None:
    generator = np.random.default_rng(6)
    topics = np.repeat(np.arange(60), 5)
    clustered, naive = [], []
    for _ in range(800):
        differences = np.repeat(generator.normal(0, 0.1, 60), 5) + generator.normal(0, 0.05, 300)
        clustered.append(paired_t_test(differences, topics)[0])
        naive.append(paired_t_test(differences)[0])
    assert np.mean(np.array(clustered) < 0.05) == pytest.approx(0.05, abs=0.025)
    assert stats.kstest(clustered, "uniform").pvalue > 0.01
    # What counting five queries of a topic as five would have claimed.
    assert np.mean(np.array(naive) < 0.05) > 0.2


def test_the_test_over_topics_agrees_with_statsmodels() -> None:
    generator = np.random.default_rng(7)
    topics = np.sort(generator.integers(0, 25, 200))
    topics = np.unique(topics, return_inverse=True)[1]
    differences = generator.normal(0.02, 0.1, 200) + generator.normal(0, 0.1, 25)[topics]
    fitted = OLS(differences, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": topics}, use_t=True)
    assert standard_error(differences, topics) == pytest.approx(float(fitted.bse[0]), rel=1e-9)
    assert paired_t_test(differences, topics)[0] == pytest.approx(float(fitted.pvalues[0]), rel=1e-9)


def test_topics_of_one_query_are_no_topics() -> None:
    differences = np.random.default_rng(8).normal(0, 1, 40)
    one_each = np.arange(40)
    assert paired_t_test(differences, one_each)[0] == pytest.approx(paired_t_test(differences)[0], rel=1e-12)
    values = differences[:, None]
    np.testing.assert_allclose(
        bootstrap_means(values, num_resamples=30, seed=1, topics=one_each),
        bootstrap_means(values, num_resamples=30, seed=1),
    )
    assert number_topics(["a", "b", "c"]) is None
    assert (number_topics(["a", "b", "a"]) == [0, 1, 0]).all()


def test_the_bootstrap_of_topics_agrees_with_scipy_on_equal_topics() -> None:
    generator = np.random.default_rng(9)
    by_topic = generator.random((12, 4))
    reference = stats.bootstrap(
        (by_topic.mean(axis=1),), np.mean, n_resamples=400, method="percentile", rng=np.random.default_rng(3)
    )
    means = bootstrap_means(by_topic.reshape(-1, 1), num_resamples=400, seed=3, topics=np.repeat(np.arange(12), 4))
    np.testing.assert_allclose(means[:, 0], reference.bootstrap_distribution, rtol=1e-12)


def test_a_large_topic_counts_by_its_queries() -> None:
    # Topic 0 has three queries of 1, topic 1 one of 0: drawn are both of one, or each once (3 of 4 queries are 1).
    means = bootstrap_means(
        np.array([[1.0], [1.0], [1.0], [0.0]]), num_resamples=200, seed=0, topics=np.array([0, 0, 0, 1])
    )
    assert set(np.round(means[:, 0], 6)) == {0.0, 0.75, 1.0}
