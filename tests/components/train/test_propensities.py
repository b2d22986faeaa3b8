"""Propensities: what made simulated clicks comes back, and a log that says nothing invents nothing."""

import numpy as np
import pytest

from components.train.labels import propensities
from components.train.labels.propensities import FLOOR, estimate_propensities

NUM_RANKS = 10


def simulated(theta: np.ndarray, *, num_sessions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sessions of 20 queries with 15 passages each, in an order that prefers what is liked: as rankers do."""
    generator = np.random.default_rng(seed)
    liking = generator.beta(1, 2, size=(20, 15))
    queries = generator.integers(0, 20, num_sessions)
    order = np.argsort(generator.random((num_sessions, 15)) - liking[queries], axis=1)[:, :NUM_RANKS]
    clicked = generator.random(order.shape) < theta * liking[queries[:, None], order]
    ranks = np.tile(np.arange(1, NUM_RANKS + 1), num_sessions)
    return (queries[:, None] * 15 + order).ravel(), ranks, clicked.ravel()


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_known_propensities_are_recovered_within_5_percent(power: float) -> None:
    theta = 1 / np.arange(1, NUM_RANKS + 1) ** power
    estimated = estimate_propensities(*simulated(theta, num_sessions=100_000))
    np.testing.assert_allclose(estimated, theta, rtol=0.05)


def test_where_every_passage_is_seen_once_they_are_the_click_rates_over_the_first() -> None:
    # 1,000 passages a rank; 40, 20 and 1 % of them are clicked.
    ranks = np.repeat([1, 2, 3], 1000)
    clicked = np.concatenate([np.arange(1000) < number for number in (400, 200, 10)])
    estimated = estimate_propensities(np.arange(3000), ranks, clicked)
    np.testing.assert_allclose(estimated, [1.0, 0.5, FLOOR], atol=0.01)


def test_the_size_of_a_block_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = simulated(1 / np.arange(1, NUM_RANKS + 1), num_sessions=500)
    whole = estimate_propensities(*inputs)
    monkeypatch.setattr(propensities, "_BLOCK_CELLS", 7)
    np.testing.assert_allclose(estimate_propensities(*inputs), whole, rtol=1e-6)


def test_without_a_click_every_rank_weighs_the_same() -> None:
    nothing = np.zeros(3, dtype=bool)
    assert estimate_propensities(np.arange(3), np.array([1, 2, 3]), nothing).tolist() == [1.0, 1.0, 1.0]
