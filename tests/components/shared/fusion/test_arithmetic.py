"""Two scores become one: by hand, and what must hold whatever the scores are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.shared.fusion.arithmetic import Method, fuse, minmax, zscore

METHODS: tuple[Method, ...] = ("minmax", "zscore", "rrf")
# Multiples of an eighth: sums and shifts of them are exact, so that equal scores stay equal.
EIGHTHS = st.integers(-800, 800).map(lambda number: number / 8)
SCORES = arrays.arrays(np.float64, st.integers(1, 12), elements=EIGHTHS)
PAIRS = st.integers(1, 12).flatmap(
    lambda size: st.tuples(
        arrays.arrays(np.float64, size, elements=EIGHTHS.map(abs)), arrays.arrays(np.float64, size, elements=EIGHTHS)
    )
)


def order(scores: np.ndarray) -> list[int]:
    """Passages from the highest score on; equal ones as they stand."""
    return np.argsort(-scores, kind="stable").tolist()


def test_minmax_is_the_weighted_sum_of_both_on_a_line_from_0_to_1() -> None:
    # BM25 from its minimum 0 to 8: 1, 0.25, 0. Dense from .2 to .6: 0, 1, 0.5.
    # Weight .3: .3 * 1 + .7 * 0 = .3; .3 * .25 + .7 * 1 = .775; .3 * 0 + .7 * .5 = .35.
    fused = fuse(np.array([8.0, 2.0, 0.0]), np.array([0.2, 0.6, 0.4]), method="minmax", weight=0.3)
    assert fused == pytest.approx([0.3, 0.775, 0.35])


def test_the_lowest_candidate_is_not_bm25s_zero() -> None:
    # Both share a word: 4 of 8 is a half, although it is the lowest here.
    assert fuse(np.array([8.0, 4.0]), np.zeros(2), method="minmax", weight=1.0) == pytest.approx([1.0, 0.5])


def test_zscore_is_the_weighted_sum_of_standard_deviations() -> None:
    # BM25: mean 4, deviation 4 -> 1, -1. Dense: mean .5, deviation .1 -> -1, 1. Weight .75: .75 - .25 = .5, then -.5.
    fused = fuse(np.array([8.0, 0.0]), np.array([0.4, 0.6]), method="zscore", weight=0.75)
    assert fused == pytest.approx([0.5, -0.5])


def test_rrf_is_the_weighted_sum_of_reciprocal_ranks_and_without_a_shared_word_there_is_no_rank() -> None:
    # BM25's ranks 1, 2, none; dense 3, 1, 2.
    fused = fuse(np.array([8.0, 2.0, 0.0]), np.array([0.2, 0.6, 0.4]), method="rrf", weight=0.5)
    assert fused == pytest.approx([0.5 / 61 + 0.5 / 63, 0.5 / 62 + 0.5 / 61, 0.5 / 62])


def test_equal_scores_share_the_better_rank() -> None:
    assert fuse(np.array([3.0, 3.0, 1.0]), np.zeros(3), method="rrf", weight=1.0) == pytest.approx(
        [1 / 61, 1 / 61, 1 / 63]
    )


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_tell_nothing_apart_change_nothing(method: Method) -> None:
    dense = np.array([0.3, 0.1, 0.2])
    assert order(fuse(np.zeros(3), dense, method=method, weight=0.5)) == [0, 2, 1]
    assert order(fuse(np.array([1.0, 3.0, 2.0]), np.full(3, 0.7), method=method, weight=0.5)) == [1, 2, 0]


@pytest.mark.parametrize("method", METHODS)
def test_no_passage_has_no_score(method: Method) -> None:
    assert len(fuse(np.empty(0), np.empty(0), method=method, weight=0.5)) == 0


@given(PAIRS, st.sampled_from(METHODS))
def test_weight_0_is_the_dense_ranking_and_weight_1_bm25s(pair: tuple[np.ndarray, np.ndarray], method: Method) -> None:
    bm25, dense = pair
    assert order(fuse(bm25, dense, method=method, weight=0.0)) == order(dense)
    assert order(fuse(bm25, dense, method=method, weight=1.0)) == order(bm25)


@given(PAIRS, st.sampled_from(METHODS), st.floats(0, 1))
def test_a_passage_that_both_retrievers_prefer_never_ranks_behind(
    pair: tuple[np.ndarray, np.ndarray], method: Method, weight: float
) -> None:
    bm25, dense = pair
    fused = fuse(bm25, dense, method=method, weight=weight)
    for better in range(len(fused)):
        behind = (bm25 <= bm25[better]) & (dense <= dense[better])
        assert np.all(fused[behind] <= fused[better] + 1e-12)


@given(SCORES, st.integers(1, 9), EIGHTHS)
def test_neither_a_shift_nor_a_scale_changes_minmax_and_zscore(scores: np.ndarray, scale: int, shift: float) -> None:
    assert minmax(scores * scale + shift) == pytest.approx(minmax(scores), abs=1e-9)
    assert zscore(scores * scale + shift) == pytest.approx(zscore(scores), abs=1e-9)


@given(SCORES)
def test_minmax_ends_at_1_and_begins_at_0_unless_all_are_equal(scores: np.ndarray) -> None:
    scaled = minmax(scores)
    expected = (0.0, 1.0) if np.ptp(scores) else (0.0, 0.0)
    assert (scaled.min(), scaled.max()) == expected
