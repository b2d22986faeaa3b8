"""Listwise losses over one batch; every reduction is in fp32 or better.

All take the score of every query against every passage of the batch, and two masks: which passages are the query's
positives, and which may stand in its denominator. A row without positives gives no loss and no gradient. `kl_replug`
and `distillation` learn from a distribution. What a loss needs is a field of its record (loss_records.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from components.train.click_loss import ClickTargets, click_losses

Scores = Float[Tensor, "query passage"]
Mask = Bool[Tensor, "query passage"]
Loss = Callable[[Scores, Mask, Mask, float], Float[Tensor, ""]]


@dataclass(frozen=True)
class Targets:
    """What a batch's scores are judged by.

    `utilities`: the LLM's scores, -inf outside a query's own scored pool; or a teacher's, of every passage.
    `clicks`: where some of the batch's queries learn from clicks.
    """

    is_positive: Bool[Tensor, "query passage"]
    is_candidate: Bool[Tensor, "query passage"]
    utilities: Float[Tensor, "query passage"]
    clicks: ClickTargets | None = None

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        clicks = None if self.clicks is None else self.clicks.to(device)
        return Targets(self.is_positive.to(device), self.is_candidate.to(device), self.utilities.to(device), clicks)


RowLoss = Callable[[Tensor, Tensor], Tensor]
BatchLoss = Callable[[Scores, Targets, float, float], Float[Tensor, ""]]


def disj_infonce(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of -log P(some positive ranks first); one strong positive is enough.

    Args:
        scores: Inner products; a row spans the query's own group and all other groups in the batch.
        is_positive: The query's positives; rows with none are left out of the mean.
        is_candidate: The denominator: positives and negatives. False for passages ignored or known to be positive.
        loss_temperature: Divides the scores.

    Source: [ufa] equation 6.
    """
    return _mean(_disj, scores, is_positive, is_candidate, loss_temperature)


def conj_infonce(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of -sum over positives of log P(positive); every positive has to rank high.

    Arguments as `disj_infonce`.

    Source: [ufa] equation 4.
    """
    return _mean(_conj, scores, is_positive, is_candidate, loss_temperature)


def infonce(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of -log P(positive), for rows of one positive; the curriculum draws it where there are more.

    Arguments as `disj_infonce`.

    Source: [ufa] equation 3.
    """
    assert int(is_positive.sum(-1).max()) <= 1, "InfoNCE takes one positive a query; the batch has to draw it"
    return disj_infonce(scores, is_positive, is_candidate, loss_temperature)


def lsepair(scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float) -> Float[Tensor, ""]:
    """Mean over queries of log(1 + sum over pairs of exp(negative - positive)); the worst pair decides.

    Unlike in Disj no positive stands in another's way, unlike in Conj none has to beat the other positives. A row
    without a negative has loss 0. Arguments as `disj_infonce`.

    Source: arXiv 2602.12727.
    """
    return _mean(_lsepair, scores, is_positive, is_candidate, loss_temperature)


def kl_replug(
    scores: Scores, utilities: Float[Tensor, "query passage"], loss_temperature: float, utility_temperature: float
) -> Float[Tensor, ""]:
    """Mean over queries of KL(U || R): the LLM's distribution over the query's own pool against the retriever's.

    Args:
        scores: As in `disj_infonce`; only the pool's scores enter.
        utilities: Log-likelihoods of the answer given each passage; -inf outside the pool. Rows with none are left out.
        loss_temperature: Divides the scores.
        utility_temperature: Divides the utilities.

    Source: [ufa], baselines; after REPLUG (arXiv 2301.12652), whose own direction is KL(R || U).
    """
    in_pool = torch.isfinite(utilities)
    kept = in_pool.any(-1)
    outside, dtype = ~in_pool[kept], torch.promote_types(scores.dtype, torch.float32)
    retriever = (scores[kept].to(dtype) / loss_temperature).masked_fill(outside, -torch.inf).log_softmax(-1)
    llm = (utilities[kept].to(dtype) / utility_temperature).log_softmax(-1)
    # Outside both are -inf, whose difference is nan.
    losses = llm.exp() * (llm - retriever).masked_fill(outside, 0.0)
    return losses.sum() / kept.sum().clamp(min=1)


def distillation(
    scores: Scores, targets: Targets, loss_temperature: float, utility_temperature: float
) -> Float[Tensor, ""]:
    """KL from the teacher's distribution over all passages of the batch, plus InfoNCE where a query has a positive.

    Both are means over the rows that they are taken of, so few positives weigh as much as the teacher's whole word.

    Args:
        scores: As in `disj_infonce`.
        targets: The teacher's scores as `utilities`, of every passage; at most one positive a row.
        loss_temperature: Divides the scores.
        utility_temperature: Divides the teacher's scores, which lie between 0 and 1.

    Source: knowledge distillation, arXiv 1503.02531; over in-batch passages, arXiv 2010.11386.
    """
    divergence = kl_replug(scores, targets.utilities, loss_temperature, utility_temperature)
    return divergence + infonce(scores, targets.is_positive, targets.is_candidate, loss_temperature)


def _disj(logits: Tensor, positives: Tensor) -> Tensor:
    # Two log-sum-exps, not log(sum(softmax)): the latter underflows to log(0) when every positive ranks low.
    return logits.logsumexp(-1) - logits.masked_fill(~positives, -torch.inf).logsumexp(-1)


def _conj(logits: Tensor, positives: Tensor) -> Tensor:
    return (logits.logsumexp(-1, keepdim=True) - logits).masked_fill(~positives, 0.0).sum(-1)


def _lsepair(logits: Tensor, positives: Tensor) -> Tensor:
    # The sum over pairs is a product of two sums, so no tensor of query x positive x negative is made. A low number
    # instead of -inf: where a row has no negative, the gradient of a log-sum-exp over nothing but -inf is nan.
    low = torch.finfo(logits.dtype).min / 4
    best_negative = logits.masked_fill(positives, low).clamp(min=low).logsumexp(-1)
    worst_positive = (-logits).masked_fill(~positives, low).logsumexp(-1)
    pairs = best_negative + worst_positive
    return torch.logaddexp(pairs, torch.zeros_like(pairs))


# Losses of the rows that have a positive, by the names of loss_records.py.
ROWS: dict[str, RowLoss] = {"disj_infonce": _disj, "conj_infonce": _conj, "infonce": _disj, "lsepair": _lsepair}


def _of_sets(loss: Loss) -> BatchLoss:
    return lambda scores, targets, loss_temperature, _: loss(
        scores, targets.is_positive, targets.is_candidate, loss_temperature
    )


def _of_utilities(
    scores: Scores, targets: Targets, loss_temperature: float, utility_temperature: float
) -> Float[Tensor, ""]:
    return kl_replug(scores, targets.utilities, loss_temperature, utility_temperature)


# By the names of loss_records.py.
FUNCTIONS: dict[str, BatchLoss] = {
    "disj_infonce": _of_sets(disj_infonce),
    "conj_infonce": _of_sets(conj_infonce),
    "infonce": _of_sets(infonce),
    "lsepair": _of_sets(lsepair),
    "kl_replug": _of_utilities,
    "distillation": distillation,
}


def batch_loss(
    name: str, scores: Scores, targets: Targets, *, loss_temperature: float, utility_temperature: float
) -> Float[Tensor, ""]:
    """The loss of a stage on a batch's scores; `name` is that of the rows which do not learn from clicks alone."""
    if targets.clicks is not None:
        return _beside_clicks(name, scores, targets, targets.clicks, loss_temperature)
    return FUNCTIONS[name](scores, targets, loss_temperature, utility_temperature)


def _beside_clicks(
    name: str, scores: Scores, targets: Targets, clicks: ClickTargets, loss_temperature: float
) -> Float[Tensor, ""]:
    """Mean over queries of share x (loss of the clicks) + (1 - share) x (loss of the other labels).

    Where a share is 0 or 1 the other part adds nothing, not even a rounding.
    """
    losses = clicks.share * click_losses(scores, clicks, loss_temperature)
    learns = clicks.weights.sum(-1) > 0
    if bool((clicks.share < 1).any()):
        kept = targets.is_positive.any(-1)
        logits, positives, _ = _logits(scores, targets.is_positive, targets.is_candidate, loss_temperature)
        of_sets = torch.zeros_like(losses).index_put((kept,), ROWS[name](logits, positives))
        losses, learns = losses + (1 - clicks.share) * of_sets, learns | kept
    return losses.sum() / learns.sum().clamp(min=1).float()


def _mean(
    loss: RowLoss, scores: Scores, is_positive: Mask, is_candidate: Mask, loss_temperature: float
) -> Float[Tensor, ""]:
    logits, positives, rows = _logits(scores, is_positive, is_candidate, loss_temperature)
    return loss(logits, positives).sum() / rows


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
