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
    `needs_clicks`: it learns from clicks on a shown list, which only labels `clicks` give.
    `one_positive`: the batch has to draw one positive a query.
    """

    needs_utilities: bool = False
    needs_teacher: bool = False
    needs_clicks: bool = False
    one_positive: bool = False

    @property
    def is_of_sets(self) -> bool:
        """Whether it learns from positives and negatives alone."""
        return not (self.needs_utilities or self.needs_teacher or self.needs_clicks)


LOSSES: Mapping[str, LossRecord] = {
    "disj_infonce": LossRecord(),
    "conj_infonce": LossRecord(),
    "infonce": LossRecord(one_positive=True),
    "lsepair": LossRecord(),
    "kl_replug": LossRecord(needs_utilities=True),
    "distillation": LossRecord(needs_teacher=True, one_positive=True),
    "click_listwise": LossRecord(needs_clicks=True),
}
