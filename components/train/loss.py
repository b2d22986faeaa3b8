"""Listwise contrastive losses over one batch; every reduction is in fp32 or better.

All take the score of every query against every passage of the batch, and two masks: which passages are the query's
positives, and which may stand in its denominator. A row without positives gives no loss and no gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Scores = Float[Tensor, "query passage"]
Mask = Bool[Tensor, "query passage"]
Loss = Callable[[Scores, Mask, Mask, float], Float[Tensor, ""]]


def disj_infonce(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of -log P(some positive ranks first); one strong positive is enough.

    Args:
        scores: Inner products; a row spans the query's own group and all other groups in the batch.
        is_positive: The query's positives; rows with none are left out of the mean.
        is_candidate: The denominator: positives and negatives. False for passages ignored or known to be positive.
        loss_temperature: Divides the scores.

    Source: [ufa] equation 6.
    """
    logits, positives, rows = _logits(scores, is_positive, is_candidate, loss_temperature)
    # Two log-sum-exps, not log(sum(softmax)): the latter underflows to log(0) when every positive ranks low.
    losses = logits.logsumexp(-1) - logits.masked_fill(~positives, -torch.inf).logsumexp(-1)
    return losses.sum() / rows


def conj_infonce(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of -sum over positives of log P(positive); every positive has to rank high.

    Arguments as `disj_infonce`.

    Source: [ufa] equation 4.
    """
    logits, positives, rows = _logits(scores, is_positive, is_candidate, loss_temperature)
    losses = (logits.logsumexp(-1, keepdim=True) - logits).masked_fill(~positives, 0.0).sum(-1)
    return losses.sum() / rows


def infonce(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of -log P(positive), for rows of one positive; the curriculum draws it where there are more.

    Arguments as `disj_infonce`.

    Source: [ufa] equation 3.
    """
    assert int(is_positive.sum(-1).max()) <= 1, "InfoNCE takes one positive a query; the batch has to draw it"
    return disj_infonce(scores, is_positive, is_candidate, loss_temperature)


LOSSES: dict[str, Loss] = {"disj_infonce": disj_infonce, "conj_infonce": conj_infonce, "infonce": infonce}


def _logits(
    scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float
) -> tuple[Float[Tensor, "kept passage"], Bool[Tensor, "kept passage"], Float[Tensor, ""]]:
    """fp32 logits of the rows that have a positive, their positives, and the number of those rows (at least 1)."""
    kept = is_positive.any(-1)
    # At least fp32: in bf16 a sum of a hundred exponentials keeps two digits.
    logits = (scores.to(torch.promote_types(scores.dtype, torch.float32)) / loss_temperature).masked_fill(
        ~(is_candidate | is_positive), -torch.inf
    )
    return logits[kept], is_positive[kept], kept.sum().clamp(min=1).float()
