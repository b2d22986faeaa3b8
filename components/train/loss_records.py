"""What each loss is and needs, without the losses themselves: so a curriculum is checked where there is no torch.

Nothing compares a loss with a name: what it needs is a field of its record. The functions are in loss.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LossRecord:
    """What a loss is and needs.

    `needs_utilities`: it learns from the LLM's score of each passage of the pool, which human labels do not give.
    `needs_teacher`: it learns from a teacher's score of each passage of the batch, which only labels `teacher` give.
    `one_positive`: the batch has to draw one positive a query.
    """

    needs_utilities: bool = False
    needs_teacher: bool = False
    one_positive: bool = False


LOSSES: Mapping[str, LossRecord] = {
    "disj_infonce": LossRecord(),
    "conj_infonce": LossRecord(),
    "infonce": LossRecord(one_positive=True),
    "lsepair": LossRecord(),
    "kl_replug": LossRecord(needs_utilities=True),
    "distillation": LossRecord(needs_teacher=True, one_positive=True),
}
