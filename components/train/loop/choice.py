"""Which weights a run keeps: the base model's, trained ones, or a mixture of both, and why.

Dev nDCG@10 decides where any label may decide. The base model is always among the candidates, so training that does not
raise dev ends in the base model; so does an equal value, because what was there before has been used already.

Source of mixing: weight-space ensembles, arXiv 2109.01903.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from torch import Tensor, nn

from components.shared import log
from components.shared.checkpoint import DualEncoder
from components.train.labels.dev import DevSet, measure_dev
from components.train.loop.state import Position

Kept = Literal["base", "trained", "mixed"]


@dataclass(frozen=True)
class Choice:
    """What was kept, and dev nDCG@10 of what was measured; None where no label may choose.

    `trained_share`: 0 is the base model, 1 what training ended with (its best step). `mixing_curve`: dev nDCG@10 by
    share, where several were tried.
    """

    kept: Kept
    kept_reason: str
    trained_share: float
    base_dev_ndcg_10: float | None = None
    kept_dev_ndcg_10: float | None = None
    mixing_curve: Mapping[str, float] = field(default_factory=dict)

    def as_metrics(self) -> dict[str, Any]:
        """For the manifest: what was not measured is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}


def choose_weights(position: Position) -> Choice:
    """What the best step of a finished training says, before anything is mixed."""
    if not math.isfinite(position.best_ndcg):
        return Choice("trained", "no label may choose the weights, so the last ones stay unmeasured", 1.0)
    base, best = position.base_ndcg, position.best_ndcg
    if position.best_step == 0:
        reason = f"no measured step raised dev nDCG@10 above the base model's {base:.4f}"
        return Choice("base", reason, 0.0, base, base)
    reason = f"step {position.best_step} raised dev nDCG@10 from {base:.4f} to {best:.4f}"
    return Choice("trained", reason, 1.0, base, best)


def mix_weights(
    model: DualEncoder, base: Mapping[str, Tensor], dev: DevSet, shares: tuple[float, ...], choice: Choice
) -> Choice:
    """Puts the best mixture of base and trained weights into the model; the smaller share where two are equal.

    Args:
        model: With the trained weights.
        base: The base model's weights, by the same names.
        dev: What chooses; not empty.
        shares: Of the trained weights, between 0 and 1.
        choice: What was chosen before, with the values of both ends.
    """
    if choice.kept != "trained" or choice.base_dev_ndcg_10 is None or choice.kept_dev_ndcg_10 is None:
        return choice
    trained = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
    curve = {0.0: choice.base_dev_ndcg_10, 1.0: choice.kept_dev_ndcg_10}
    for share in shares:
        load_mixture(model, base, trained, share)
        curve[share] = measure_dev(model, dev)
    best = max(sorted(curve), key=lambda share: (curve[share], -share))
    load_mixture(model, base, trained, best)
    named = {f"{share:.2f}": round(curve[share], 6) for share in sorted(curve)}
    log.event("weights mixed", trained_share=best, curve=named)
    if best == 1.0:
        return replace(choice, mixing_curve=named)
    reason = f"{best:.0%} of the trained weights have dev nDCG@10 {curve[best]:.4f}, all of them {curve[1.0]:.4f}"
    return replace(
        choice,
        kept="mixed",
        kept_reason=reason,
        trained_share=best,
        kept_dev_ndcg_10=curve[best],
        mixing_curve=named,
    )


def load_mixture(model: nn.Module, base: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> None:
    """Every floating-point weight becomes share * trained + (1 - share) * base; all others stay the trained ones."""
    mixed = {
        name: base[name].to(weight.device).lerp(weight, share) if weight.is_floating_point() else weight
        for name, weight in trained.items()
    }
    model.load_state_dict(mixed)
