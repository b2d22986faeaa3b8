"""Losses against closed forms, F.cross_entropy, and the cases where a textbook version fails."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.train.loss import (
    FUNCTIONS,
    Loss,
    Targets,
    batch_loss,
    conj_infonce,
    disj_infonce,
    distillation,
    infonce,
    kl_replug,
    lsepair,
)
from components.train.loss_records import LOSSES

# Losses over sets of positives, without the records that the curriculum names them by.
SET_LOSSES: dict[str, Loss] = {
    "disj_infonce": disj_infonce,
    "conj_infonce": conj_infonce,
    "infonce": infonce,
    "lsepair": lsepair,
}


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


def test_lsepair_by_hand() -> None:
    # positives 1 and 2, negatives 3 and 0: log(1 + e^(3-1) + e^(3-2) + e^(0-1) + e^(0-2))
    scores = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    positive = torch.tensor([[True, True, False, False]])
    expected = math.log(1 + math.e**2 + math.e + math.e**-1 + math.e**-2)
    assert lsepair(scores, positive, torch.ones_like(positive), 1.0).item() == pytest.approx(expected, abs=1e-6)


def test_lsepair_without_a_negative_is_zero_with_a_zero_gradient() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0], [0.0, 0.0, 0.0]], requires_grad=True)
    positive = torch.tensor([[True, True, False], [False, True, False]])
    value = lsepair(scores, positive, torch.tensor([[True, True, False], [True, True, True]]), 1.0)
    torch.autograd.backward(value)
    assert value.item() == pytest.approx(math.log(3) / 2, abs=1e-6)
    assert scores.grad is not None
    assert scores.grad[0].tolist() == [0.0, 0.0, 0.0]


def test_kl_by_hand() -> None:
    # U = (1/4, 3/4) from utilities (0, log 3), R = (1/2, 1/2): 1/4 log(1/2) + 3/4 log(3/2); the third passage is of
    # another pool
    utilities = torch.tensor([[0.0, math.log(3), -torch.inf]])
    value = kl_replug(torch.tensor([[7.0, 7.0, 50.0]]), utilities, 1.0, 1.0)
    assert value.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-6)


def test_kl_is_zero_where_the_retriever_has_the_llms_distribution_and_leaves_rows_without_a_pool_out() -> None:
    utilities = torch.tensor([[-3.0, -1.0, -torch.inf], [-torch.inf] * 3])
    scores = torch.tensor([[-1.5, -0.5, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    # Both temperatures divide: -3 / 2 and -1 / 2 are the scores.
    value = kl_replug(scores, utilities, 1.0, 2.0)
    torch.autograd.backward(value)
    assert value.item() == pytest.approx(0.0, abs=1e-7)
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-7
    assert kl_replug(scores, torch.full_like(scores, -torch.inf), 1.0, 1.0).item() == 0.0


def test_kl_of_extreme_scores_is_finite_with_a_gradient() -> None:
    scores = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    value = kl_replug(scores, torch.tensor([[0.0, -1e4]]), 1.0, 1.0)
    torch.autograd.backward(value)
    assert value.item() == pytest.approx(2e4)
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1.0, 1.0]]


def test_kl_gradients_are_right_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 5, dtype=torch.float64, generator=generator).requires_grad_()
    utilities = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    utilities[0, :2] = utilities[2, 4] = -torch.inf
    assert torch.autograd.gradcheck(lambda its: kl_replug(its, utilities, 0.7, 1.3), (scores,))


def test_loss_temperature_divides_the_scores() -> None:
    scores, positive = torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]])
    everything = torch.ones_like(positive)
    assert torch.equal(
        disj_infonce(scores, positive, everything, 0.5), disj_infonce(scores * 2, positive, everything, 1.0)
    )


@given(st.integers(0, 10_000))
def test_with_one_positive_all_losses_are_cross_entropy(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    target = torch.randint(9, (5,), generator=generator)
    positive = torch.nn.functional.one_hot(target, 9).bool()
    expected = torch.nn.functional.cross_entropy(scores, target)
    for loss in SET_LOSSES.values():
        torch.testing.assert_close(
            loss(scores, positive, torch.ones_like(positive), 1.0), expected, rtol=1e-7, atol=1e-8
        )


def test_one_strong_positive_is_enough_for_disj_and_not_for_conj() -> None:
    scores = torch.tensor([[10.0, -10.0, 0.0]])
    positive = torch.tensor([[True, True, False]])
    everything = torch.ones_like(positive)
    assert disj_infonce(scores, positive, everything, 1.0) < 1e-3
    assert conj_infonce(scores, positive, everything, 1.0) > 19


@pytest.mark.parametrize("loss", SET_LOSSES.values(), ids=SET_LOSSES.keys())
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


@pytest.mark.parametrize("loss", [disj_infonce, conj_infonce, lsepair])
def test_gradients_are_right_in_float64(loss: Loss) -> None:
    scores = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    positive = torch.tensor(
        [[True, True, False, False, False], [False, False, True, False, False], [False, True, False, False, True]]
    )
    assert torch.autograd.gradcheck(lambda its: loss(its, positive, torch.ones_like(positive), 1.0), (scores,))


def test_infonce_refuses_two_positives() -> None:
    with pytest.raises(AssertionError, match="one positive"):
        infonce(torch.zeros(1, 3), torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool), 1.0)


def test_the_record_of_a_name_is_that_loss() -> None:
    scores, positive = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[False, True, False]])
    targets = Targets(positive, torch.ones_like(positive), torch.tensor([[0.0, -1.0, -torch.inf]]))
    for name, loss in SET_LOSSES.items():
        value = batch_loss(name, scores, targets, loss_temperature=0.5, utility_temperature=9.0)
        assert torch.equal(value, loss(scores, positive, targets.is_candidate, 0.5))
    value = batch_loss("kl_replug", scores, targets, loss_temperature=0.5, utility_temperature=2.0)
    assert torch.equal(value, kl_replug(scores, targets.utilities, 0.5, 2.0))
    value = batch_loss("distillation", scores, targets, loss_temperature=0.5, utility_temperature=2.0)
    assert torch.equal(value, distillation(scores, targets, 0.5, 2.0))
    assert {name for name, record in LOSSES.items() if record.needs_utilities} == {"kl_replug"}
    assert {name for name, record in LOSSES.items() if record.needs_teacher} == {"distillation"}
    assert {name for name, record in LOSSES.items() if record.one_positive} == {"infonce", "distillation"}
    # Clicks weigh against the loss of other labels in one batch: click_loss.py.
    assert set(LOSSES) - {"click_listwise"} == set(FUNCTIONS) == {*SET_LOSSES, "kl_replug", "distillation"}
