"""The loss of clicks: computed by hand, over the shown list alone, and beside other labels without a trace of them."""

import math

import pytest
import torch

from components.train.click_loss import ClickTargets, click_losses
from components.train.loss import Targets, batch_loss, disj_infonce

SCORES = torch.tensor([[1.0, 0.0, 2.0, 9.0], [0.5, 1.5, -1.0, 0.0]])


def clicks(weights: list[list[float]], shown: list[list[int]], share: list[float]) -> ClickTargets:
    return ClickTargets(torch.tensor(weights), torch.tensor(shown, dtype=torch.bool), torch.tensor(share))


def test_a_weighted_click_by_hand() -> None:
    # Shown are the first three; the first was clicked at a rank that one in two looks at, the third at the first rank.
    targets = clicks([[2.0, 0.0, 1.0, 0.0], [0.0] * 4], [[1, 1, 1, 0], [0] * 4], [1.0, 1.0])
    total = math.log(math.exp(1) + math.exp(0) + math.exp(2))
    expected = -(2 * (1 - total) + 1 * (2 - total)) / 3
    losses = click_losses(SCORES, targets, 1.0)
    assert losses[0].item() == pytest.approx(expected)
    assert losses[1].item() == 0.0


def test_what_was_not_shown_gets_no_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    targets = clicks([[1.0, 0.0, 0.0, 0.0], [0.0] * 4], [[1, 1, 1, 0], [0] * 4], [1.0, 1.0])
    click_losses(scores, targets, 0.5).sum().backward()
    assert scores.grad is not None
    assert scores.grad[:, 3].tolist() == [0.0, 0.0]
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 0] < 0 < scores.grad[0, 1]


def of(share: float | None) -> torch.Tensor:
    """The loss of a batch in which both queries have a positive, and both have clicks with this share."""
    is_positive = torch.tensor([[True, False, False, False], [False, True, False, False]])
    together = None
    if share is not None:
        together = clicks([[0, 0, 1.0, 0], [0, 0, 0, 1.0]], [[1, 0, 1, 0], [0, 0, 1, 1]], [share, share])
    targets = Targets(is_positive, torch.ones_like(is_positive), torch.full(SCORES.shape, -torch.inf), together)
    return batch_loss("disj_infonce", SCORES, targets, loss_temperature=1.0, utility_temperature=1.0)


def test_a_share_weighs_the_clicks_against_the_labels() -> None:
    assert of(0.0).item() == of(None).item()
    assert of(0.25).item() == pytest.approx(0.75 * of(0.0).item() + 0.25 * of(1.0).item())


def test_rows_of_one_source_count_once_each() -> None:
    # The first query learns from clicks alone, the second from labels alone.
    is_positive = torch.tensor([[False] * 4, [False, True, False, False]])
    together = clicks([[1.0, 0, 0, 0], [0.0] * 4], [[1, 1, 0, 0], [0] * 4], [1.0, 0.0])
    candidates = torch.ones_like(is_positive)
    targets = Targets(is_positive, candidates, torch.full(SCORES.shape, -torch.inf), together)
    loss = batch_loss("disj_infonce", SCORES, targets, loss_temperature=1.0, utility_temperature=1.0)
    by_click = click_losses(SCORES, together, 1.0)[0]
    by_label = disj_infonce(SCORES[1:], is_positive[1:], candidates[1:], 1.0)
    assert loss.item() == pytest.approx((by_click.item() + by_label.item()) / 2)
