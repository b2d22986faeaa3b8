"""Losses against closed forms, F.cross_entropy, and the cases where a textbook version fails."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.train.loss import LOSSES, Loss, conj_infonce, disj_infonce, infonce


def test_disj_by_hand() -> None:
    # softmax of (1, 2, 3): e + e^2 + e^3 = 30.1929; positives are the first two: -log((e + e^2) / 30.1929) = 1.0945
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    positive = torch.tensor([[True, True, False]])
    expected = -math.log((math.e + math.e**2) / (math.e + math.e**2 + math.e**3))
    assert disj_infonce(scores, positive, torch.ones_like(positive), 1.0).item() == pytest.approx(expected, abs=1e-6)


def test_conj_by_hand() -> None:
    # -log P(1) - log P(2) over the same softmax: 2 log(30.1929) - 1 - 2
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    positive = torch.tensor([[True, True, False]])
    expected = 2 * math.log(math.e + math.e**2 + math.e**3) - 3
    assert conj_infonce(scores, positive, torch.ones_like(positive), 1.0).item() == pytest.approx(expected, abs=1e-5)


def test_loss_temperature_divides_the_scores() -> None:
    scores, positive = torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]])
    everything = torch.ones_like(positive)
    assert torch.equal(disj_infonce(scores, positive, everything, 0.5), disj_infonce(scores * 2, positive, everything, 1.0))


@given(st.integers(0, 10_000))
def test_with_one_positive_all_losses_are_cross_entropy(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 9, generator=generator)
    target = torch.randint(9, (5,), generator=generator)
    positive = torch.nn.functional.one_hot(target, 9).bool()
    expected = torch.nn.functional.cross_entropy(scores, target)
    for loss in LOSSES.values():
        torch.testing.assert_close(loss(scores, positive, torch.ones_like(positive), 1.0), expected, rtol=1e-6, atol=1e-6)


def test_one_strong_positive_is_enough_for_disj_and_not_for_conj() -> None:
    scores = torch.tensor([[10.0, -10.0, 0.0]])
    positive = torch.tensor([[True, True, False]])
    everything = torch.ones_like(positive)
    assert disj_infonce(scores, positive, everything, 1.0) < 1e-3
    assert conj_infonce(scores, positive, everything, 1.0) > 19


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_scores_give_a_finite_loss_and_a_gradient(loss: Loss, size: float) -> None:
    scores = torch.tensor([[-size, size, 0.0]], requires_grad=True)
    positive = torch.tensor([[True, False, False]]) if size > 0 else torch.tensor([[False, True, False]])
    value = loss(scores, positive, torch.ones_like(positive), 1.0)
    torch.autograd.backward(value)
    assert torch.isfinite(value)
    assert scores.grad is not None
    assert scores.grad.abs().max() == pytest.approx(1.0)


def test_the_clamped_textbook_version_has_no_gradient_where_ours_has_one() -> None:
    # P(positive) = e^-30: under 1e-9, so softmax-sum-clamp-log is constant there.
    def textbook(scores: torch.Tensor) -> torch.Tensor:
        return -scores.softmax(-1)[:, :1].sum(-1).clamp(min=1e-9).log().mean()

    positive = torch.tensor([[True, False]])
    gradients = []
    for loss in (textbook, lambda scores: disj_infonce(scores, positive, torch.ones_like(positive), 1.0)):
        scores = torch.tensor([[0.0, 30.0]], requires_grad=True)
        torch.autograd.backward(loss(scores))
        gradients.append(float(scores.grad.abs().sum()))  # type: ignore[union-attr]
    assert gradients[0] == 0.0
    assert gradients[1] == pytest.approx(2.0)


def test_a_passage_that_is_no_candidate_changes_nothing() -> None:
    scores, positive = torch.tensor([[1.0, 2.0, 99.0]]), torch.tensor([[True, False, False]])
    candidate = torch.tensor([[True, True, False]])
    expected = disj_infonce(scores[:, :2], positive[:, :2], candidate[:, :2], 1.0)
    assert torch.equal(disj_infonce(scores, positive, candidate, 1.0), expected)


def test_rows_without_positives_are_left_out_of_the_mean() -> None:
    scores = torch.tensor([[1.0, 2.0], [5.0, 7.0]], requires_grad=True)
    positive = torch.tensor([[True, False], [False, False]])
    value = disj_infonce(scores, positive, torch.ones_like(positive), 1.0)
    torch.autograd.backward(value)
    assert value.item() == pytest.approx(math.log(1 + math.e), abs=1e-6)
    assert scores.grad is not None
    assert scores.grad[1].abs().sum() == 0


@pytest.mark.parametrize("loss", [disj_infonce, conj_infonce])
def test_gradients_are_right_in_float64(loss: Loss) -> None:
    scores = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    positive = torch.tensor([[True, True, False, False, False], [False, False, True, False, False], [False, True, False, False, True]])
    assert torch.autograd.gradcheck(lambda its: loss(its, positive, torch.ones_like(positive), 1.0), (scores,))


def test_infonce_refuses_two_positives() -> None:
    with pytest.raises(AssertionError, match="one positive"):
        infonce(torch.zeros(1, 3), torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool), 1.0)
