"""Position bias: a planted one is flagged, an unbiased annotator is not, at the level that the test states."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from components.annotate.quality.position import LEVEL, PositionReport, Positions

_RUNS = 400


def position_report(prompts: list[tuple[int, list[int]]]) -> PositionReport:
    positions = Positions()
    for length, selected in prompts:
        positions.add(length, selected)
    return positions.report()


def _annotate(seed: int, *, weights: np.ndarray, num_prompts: int = 100) -> PositionReport:
    """An annotator that selects 1 to 4 of 8 passages, each place with its weight: equal weights are no bias."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 5, num_prompts)
    prompts = [(8, generator.choice(8, size=size, replace=False, p=weights / weights.sum()).tolist()) for size in sizes]
    return position_report(prompts)


def test_an_unbiased_annotator_is_flagged_no_more_often_than_the_level_says() -> None:
    flagged = sum(_annotate(seed, weights=np.ones(8)).biased is True for seed in range(_RUNS))
    # A binomial of 400 with p = 0.01 exceeds 11 once in 1,000 times.
    assert flagged <= stats.binom.ppf(0.999, _RUNS, LEVEL)


@pytest.mark.parametrize(
    ("weights", "pattern"),
    [
        (np.linspace(2.2, 1.0, 8), "the first are preferred"),
        (np.linspace(1.0, 2.2, 8), "the last are preferred"),
        (np.array([2.5, 1.5, 1, 1, 1, 1, 1.5, 2.5]), "the middle is lost"),
        (np.array([1, 1, 1, 4, 1, 1, 1, 1]), "one place is preferred"),
    ],
    ids=lambda its: its if isinstance(its, str) else "",
)
def test_a_planted_bias_is_flagged(weights: np.ndarray, pattern: str) -> None:
    flagged = sum(_annotate(seed, weights=weights, num_prompts=200).biased is True for seed in range(100))
    assert flagged >= 90, pattern


def test_the_direction_of_a_trend_is_told() -> None:
    assert _annotate(0, weights=np.linspace(3, 1, 8)).trend_z < -2.5
    assert _annotate(0, weights=np.linspace(1, 3, 8)).trend_z > 2.5


def test_prompts_of_any_length_count_together() -> None:
    generator = np.random.default_rng(0)

    def prompts(first: float) -> list[tuple[int, list[int]]]:
        found = []
        for _ in range(300):
            length = int(generator.integers(2, 17))
            weights = np.ones(length)
            weights[0] = first
            size = int(generator.integers(1, length))
            found.append(
                (length, generator.choice(length, size=size, replace=False, p=weights / weights.sum()).tolist())
            )
        return found

    assert position_report(prompts(6.0)).biased is True
    assert np.mean([position_report(prompts(1.0)).p_value < 0.05 for _ in range(100)]) <= 0.12


def test_equal_lengths_give_cochrans_q() -> None:
    # Cochran's Q = (n - 1) * sum of (column - mean)^2 / sum over rows of k (n - k) / n, by hand for four prompts of
    # three.
    selected = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]])
    columns, sizes = selected.sum(axis=0), selected.sum(axis=1)
    by_hand = 2 * ((columns - columns.mean()) ** 2).sum() / (sizes * (3 - sizes) / 3).sum()
    its = position_report([(3, np.flatnonzero(row).tolist()) for row in selected])
    assert its.places_statistic == pytest.approx(by_hand)
    assert its.places_freedom == 2
    assert its.rates == (0.75, 0.5, 0.0)


def test_too_few_prompts_prove_nothing() -> None:
    assert position_report([(8, [0])] * 10).biased is None
    assert position_report([(8, [0])] * 30).biased is True
    assert position_report([]).biased is None
    # All selected, or none: nothing could have fallen elsewhere.
    assert position_report([(3, [0, 1, 2]), (3, [])] * 50).biased is None


def test_the_p_values_are_those_of_the_normal_and_the_chi_squared_distribution() -> None:
    its = _annotate(1, weights=np.linspace(1.3, 1.0, 8))
    assert its.trend_p_value == pytest.approx(math.erfc(abs(its.trend_z) / math.sqrt(2)), rel=1e-9)
    # An integral of the density instead of its distribution function.
    assert its.places_freedom == 7
    tail, _ = integrate.quad(lambda x: stats.chi2.pdf(x, 7), its.places_statistic, np.inf)
    assert its.places_p_value == pytest.approx(tail, rel=1e-6)
    assert its.p_value == pytest.approx(min(1.0, 2 * min(its.trend_p_value, its.places_p_value)))
