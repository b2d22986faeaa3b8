"""The loss of clicks over the list that was shown, alone or beside the LLM's labels of the same batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class ClickTargets:
    """What was shown and clicked; a row without a click has neither.

    `weights`: of a click, over its propensity; 0 elsewhere. `is_shown`: the passages of the query's list. `share`: the
    weight of this loss against that of the row's other labels, from 0 to 1.
    """

    weights: Float[Tensor, "query passage"]
    is_shown: Bool[Tensor, "query passage"]
    share: Float[Tensor, " query"]

    def to(self, device: torch.device) -> ClickTargets:
        """The same on a device."""
        return ClickTargets(self.weights.to(device), self.is_shown.to(device), self.share.to(device))


def click_losses(
    scores: Float[Tensor, "query passage"], clicks: ClickTargets, loss_temperature: float
) -> Float[Tensor, " query"]:
    """-sum of w log softmax(s) over the shown list, over the sum of w; 0 for a row without a click.

    Args:
        scores: Inner products with all passages of the batch; those that were not shown are left out.
        clicks: Their weights w = clicked / propensity of the rank.
        loss_temperature: Divides the scores.

    Source: inverse propensity weighting, Joachims et al. 2017 (WSDM), of the listwise softmax loss.
    """
    kept = clicks.weights.sum(-1) > 0
    logits = scores.to(torch.promote_types(scores.dtype, torch.float32))[kept] / loss_temperature
    shown, weights = clicks.is_shown[kept], clicks.weights[kept].to(logits.dtype)
    log_shares = logits.masked_fill(~shown, -torch.inf).log_softmax(-1).masked_fill(~shown, 0.0)
    losses = -(weights * log_shares).sum(-1) / weights.sum(-1)
    return torch.zeros(len(kept), dtype=losses.dtype, device=losses.device).index_put((kept,), losses)
