"""Training groups -> batches with their denominators.

A batch's columns are its distinct passage texts. A text that is positive or ignored for a query, under whatever id, is
never that query's negative; it would be if columns were (group, slot) pairs as is usual.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from components.shared.dataset import Dataset
from components.shared.hashing import content_key
from components.train.curriculum import Stage
from components.train.groups import TrainingGroup
from components.train.loss import KL_REPLUG, Targets


@dataclass(frozen=True)
class Batch:
    """Texts and targets of one step; columns are distinct texts."""

    queries: list[str]
    passages: list[str]
    targets: Targets

    @property
    def num_masked(self) -> int:
        """(query, passage) pairs kept out of the denominators."""
        return int((~self.targets.is_candidate).sum())

    @property
    def masked_share(self) -> float:
        """Share of (query, passage) pairs kept out of the denominators."""
        return self.num_masked / max(1, self.targets.is_candidate.numel())


def batches(
    groups: Sequence[TrainingGroup],
    dataset: Dataset,
    *,
    stage: Stage,
    epoch: int,
    batch_queries: int,
    group_size: int,
    seed: int,
    skip: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch; a pure function of its arguments, so a resumed job sees the same ones after `skip`."""
    order = list(groups)
    random.Random(content_key(seed, stage.name, epoch)).shuffle(order)
    allowed = _num_positives(groups, stage, group_size)
    for start in range(skip * batch_queries, len(order), batch_queries):
        chosen = [
            _drawn(group, stage, allowed, group_size, epoch, seed) for group in order[start : start + batch_queries]
        ]
        yield _batch(chosen, dataset)


def num_batches(num_groups: int, batch_queries: int) -> int:
    """Batches in an epoch; the last one may be smaller."""
    return -(-num_groups // batch_queries)


def _num_positives(groups: Sequence[TrainingGroup], stage: Stage, group_size: int) -> int:
    if stage.positives == "one" or stage.loss == "infonce":
        return 1
    if stage.positives == "avg":
        average = sum(len(group.positives) for group in groups) / len(groups)
        return max(1, min(round(average), group_size - 1))
    return max(1, group_size - 1)


@dataclass(frozen=True)
class _Drawn:
    group: TrainingGroup
    positives: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def passage_ids(self) -> tuple[str, ...]:
        """Its columns of the batch."""
        return self.positives + self.others


def _drawn(group: TrainingGroup, stage: Stage, allowed: int, group_size: int, epoch: int, seed: int) -> _Drawn:
    # Positives rotate over the epochs from a seeded start, so that each has its turn; negatives are drawn afresh.
    start = int(content_key(seed, group.query_id)[:8], 16) + epoch * allowed
    count = min(allowed, len(group.positives))
    positives = tuple(group.positives[(start + turn) % len(group.positives)] for turn in range(count))
    # A distribution is learnt from the whole pool, the passages between useful and not included.
    others = (
        tuple(p for p in group.utilities if p not in positives) if stage.loss == KL_REPLUG else group.hard_negatives
    )
    random_others = random.Random(content_key(seed, epoch, group.query_id))
    return _Drawn(group, positives, tuple(random_others.sample(others, min(max(0, group_size - count), len(others)))))


def _batch(drawn: Sequence[_Drawn], dataset: Dataset) -> Batch:
    text_of = {p: _same_text(dataset.passage(p).full_text) for d in drawn for p in d.passage_ids}
    passages: dict[str, str] = {}
    for passage_id, same in text_of.items():
        passages.setdefault(same, dataset.passage(passage_id).full_text)
    columns = {same: column for column, same in enumerate(passages)}
    queries = [dataset.query(d.group.query_id).text for d in drawn]
    is_positive = torch.zeros(len(drawn), len(columns), dtype=torch.bool)
    is_candidate = torch.ones_like(is_positive)
    utilities = torch.full(is_positive.shape, -torch.inf)
    known = _known_texts(queries, drawn, dataset)
    for row, its in enumerate(drawn):
        is_candidate[row, [columns[same] for same in known[_same_text(queries[row])] if same in columns]] = False
        is_positive[row, [columns[text_of[passage_id]] for passage_id in its.positives]] = True
        for passage_id in its.passage_ids:
            utilities[row, columns[text_of[passage_id]]] = its.group.utilities.get(passage_id, -torch.inf)
    return Batch(queries, list(passages.values()), Targets(is_positive, is_candidate | is_positive, utilities))


def _known_texts(queries: Sequence[str], drawn: Sequence[_Drawn], dataset: Dataset) -> dict[str, set[str]]:
    """Query -> texts that are positive or ignored for it, over all groups of the batch that ask the same."""
    known: dict[str, set[str]] = {}
    for query, its in zip(queries, drawn, strict=True):
        texts = (_same_text(dataset.passage(p).full_text) for p in (*its.group.positives, *its.group.ignored))
        known.setdefault(_same_text(query), set()).update(texts)
    return known


def _same_text(text: str) -> str:
    """What makes two texts the same to a reader: letters, not case or spacing."""
    return " ".join(text.casefold().split())
