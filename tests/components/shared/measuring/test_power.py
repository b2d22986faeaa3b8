import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from components.shared.measuring.power import chance_of_noticing, detectable_effect, power_of, queries_for


@pytest.mark.parametrize(("effect", "num_queries"), [(0.1, 50), (0.2, 300), (0.5, 20), (0.05, 5000)])
def test_the_chance_of_noticing_agrees_with_statsmodels(effect: float, num_queries: int) -> None:
    for level in (0.05, 0.05 / 8):
        reference = TTestPower().power(effect, num_queries, level, alternative="two-sided")
        assert chance_of_noticing(effect, num_queries, level=level) == pytest.approx(reference, abs=1e-9)


def test_without_an_effect_the_chance_is_the_level() -> None:
    assert chance_of_noticing(0.0, 30, level=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize("num_queries", [10, 100, 1000])
def test_the_smallest_effect_agrees_with_statsmodels(num_queries: int) -> None:
    reference = TTestPower().solve_power(nobs=num_queries, alpha=0.01, power=0.8, alternative="two-sided")
    assert detectable_effect(num_queries, level=0.01) == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("effect", [0.1, 0.25, 1.0])
def test_the_number_of_queries_agrees_with_statsmodels(effect: float) -> None:
    reference = TTestPower().solve_power(effect_size=effect, alpha=0.05, power=0.8, alternative="two-sided")
    assert queries_for(effect, level=0.05) == int(np.ceil(reference))


def test_half_of_the_difference_takes_about_four_times_the_queries() -> None:
    differences = np.random.default_rng(0).normal(0, 0.2, 300)
    power = power_of(differences, level=0.05)
    assert power.smallest is not None
    assert power.queries_for_half is not None
    # 2.8 standard errors of the mean, by the normal distribution.
    assert power.smallest == pytest.approx(2.8 * differences.std(ddof=1) / np.sqrt(300), rel=0.01)
    assert power.queries_for_half == pytest.approx(4 * 300, rel=0.02)


def test_a_difference_of_that_size_is_noticed_four_times_of_five() -> None:
    generator = np.random.default_rng(1)
    differences = generator.normal(0, 0.2, 100)
    power = power_of(differences, level=0.05)
    assert power.smallest is not None
    draws = generator.normal(power.smallest, differences.std(ddof=1), (2000, 100))
    statistics = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / 10)
    assert np.mean(np.abs(statistics) > 1.984) == pytest.approx(0.8, abs=0.06)


def test_equal_systems_have_no_spread_to_judge_by() -> None:
    assert power_of(np.zeros(50), level=0.05).smallest is None
    assert power_of(np.array([0.5]), level=0.05).queries_for_half is None


def test_topics_are_what_is_counted() -> None:
    values = np.repeat(np.random.default_rng(3).normal(0, 0.2, 40), 5)
    topics = np.repeat(np.arange(40), 5)
    alone, together = power_of(values, level=0.05), power_of(values, level=0.05, topics=topics)
    assert (alone.num_units, together.num_units) == (200, 40)
    assert alone.smallest is not None
    assert together.smallest is not None
    # Five equal queries say as much as one.
    assert together.smallest == pytest.approx(np.sqrt(5) * alone.smallest, rel=0.05)
