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
from components.train.click_loss import ClickTargets
from components.train.curriculum import Stage
from components.train.labels.groups import TrainingGroup
from components.train.labels.teacher import Teacher
from components.train.loss import Targets


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
    teacher: Teacher | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch; a pure function of its arguments, so a resumed job sees the same ones after `skip`."""
    order = list(groups)
    random.Random(content_key(seed, stage.name, epoch)).shuffle(order)
    allowed = _num_positives(groups, stage, group_size)
    for start in range(skip * batch_queries, len(order), batch_queries):
        chosen = [
            _drawn(group, dataset, stage, allowed, group_size, epoch, seed)
            for group in order[start : start + batch_queries]
        ]
        yield _batch(chosen, dataset, teacher)


def num_batches(num_groups: int, batch_queries: int) -> int:
    """Batches in an epoch; the last one may be smaller."""
    return -(-num_groups // batch_queries)


def _num_positives(groups: Sequence[TrainingGroup], stage: Stage, group_size: int) -> int:
    if stage.positives == "one" or stage.loss_record.one_positive:
        return 1
    if stage.positives == "avg":
        counts = [len(group.positives) for group in groups if group.positives or group.clicks is None]
        average = sum(counts) / max(1, len(counts))
        return max(1, min(round(average), group_size - 1))
    return max(1, group_size - 1)


@dataclass(frozen=True)
class _Drawn:
    group: TrainingGroup
    positives: tuple[str, ...]
    others: tuple[str, ...]
    shown: tuple[str, ...] = ()

    @property
    def passage_ids(self) -> tuple[str, ...]:
        """The passages that it brings into the batch, positives first."""
        return tuple(dict.fromkeys(self.positives + self.others + self.shown))


def _drawn(
    group: TrainingGroup, dataset: Dataset, stage: Stage, allowed: int, group_size: int, epoch: int, seed: int
) -> _Drawn:
    """The passages of a group in this epoch: positives in turn, and negatives drawn afresh.

    With one positive (Pos-one) every other place of the group goes to a negative: of the pool first, and where its
    negatives are fewer than the places, of the whole corpus. The positives that have not their turn are no negatives.

    Source: [ufa] section 4 (Pos-one, Pos-avg, Pos-all); that the corpus fills the places is the authors' released code.
    """
    # Positives rotate over the epochs from a seeded start, so that each has its turn.
    start = int(content_key(seed, group.query_id)[:8], 16) + epoch * allowed
    count = min(allowed, len(group.positives))
    positives = tuple(group.positives[(start + turn) % len(group.positives)] for turn in range(count))
    learns_utilities = stage.loss_record.needs_utilities
    # A distribution is learnt from the whole pool, the passages between useful and not included.
    pool = tuple(p for p in group.utilities if p not in positives) if learns_utilities else group.hard_negatives
    room = max(0, group_size - count)
    draw = random.Random(content_key(seed, epoch, group.query_id))
    # A teacher's pool is in its order: its best in every epoch, since they carry most of what it says, and a draw.
    best = pool[: (room + 1) // 2] if stage.uses_teacher else ()
    rest = pool[len(best) :]
    others = [*best, *draw.sample(rest, min(room - len(best), len(rest)))]
    # A group of clicks alone is its list, with no passage of its own choice.
    if stage.positives == "one" and not learns_utilities and (group.positives or group.clicks is None):
        others += _of_corpus(dataset, group, room - len(others), draw)
    return _Drawn(group, positives, tuple(others), _shown(group, group_size, epoch, seed))


def _shown(group: TrainingGroup, group_size: int, epoch: int, seed: int) -> tuple[str, ...]:
    """The list of a group of clicks; of one that is too long as many, half of the places for clicked passages."""
    if group.clicks is None:
        return ()
    weights = group.clicks.weights
    if len(weights) <= group_size:
        return tuple(weights)
    draw = random.Random(content_key(seed, "clicks", epoch, group.query_id))
    clicked = [passage_id for passage_id, weight in weights.items() if weight > 0]
    chosen = draw.sample(clicked, min(len(clicked), max(1, group_size // 2)))
    rest = [passage_id for passage_id, weight in weights.items() if not weight]
    return (*chosen, *draw.sample(rest, min(len(rest), group_size - len(chosen))))


def _of_corpus(dataset: Dataset, group: TrainingGroup, count: int, draw: random.Random) -> list[str]:
    """A seeded draw of passages that are neither in the group nor ignored by it; fewer where the corpus has no more."""
    if count <= 0:
        return []
    known = {*group.positives, *group.hard_negatives, *group.ignored}
    rows = draw.sample(range(dataset.num_passages), min(dataset.num_passages, count + len(known)))
    passage_ids = (dataset.passage_id_at(row) for row in rows)
    return [passage_id for passage_id in passage_ids if passage_id not in known][:count]


def _batch(drawn: Sequence[_Drawn], dataset: Dataset, teacher: Teacher | None) -> Batch:
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
    for row, one in enumerate(drawn):
        is_candidate[row, [columns[same] for same in known[_same_text(queries[row])] if same in columns]] = False
        is_positive[row, [columns[text_of[passage_id]] for passage_id in one.positives]] = True
        for passage_id in one.passage_ids:
            utilities[row, columns[text_of[passage_id]]] = one.group.utilities.get(passage_id, -torch.inf)
    if teacher is not None:
        passage_of = {same: passage_id for passage_id, same in reversed(text_of.items())}
        scores = teacher.scores([one.group.query_id for one in drawn], [passage_of[same] for same in columns])
        utilities = torch.from_numpy(scores)
    clicks = _click_targets(drawn, [[columns[text_of[p]] for p in one.shown] for one in drawn], len(columns))
    return Batch(queries, list(passages.values()), Targets(is_positive, is_candidate | is_positive, utilities, clicks))


def _click_targets(drawn: Sequence[_Drawn], columns: Sequence[Sequence[int]], num_columns: int) -> ClickTargets | None:
    """What was shown and clicked, where any of the groups has clicks; `columns` are those of each list."""
    if all(one.group.clicks is None for one in drawn):
        return None
    share, weights = torch.zeros(len(drawn)), torch.zeros(len(drawn), num_columns)
    is_shown = torch.zeros_like(weights, dtype=torch.bool)
    for row, (one, places) in enumerate(zip(drawn, columns, strict=True)):
        if one.group.clicks is not None:
            share[row] = one.group.clicks.share
            for passage_id, column in zip(one.shown, places, strict=True):
                is_shown[row, column] = True
                # The same text under two ids is one passage.
                weights[row, column] += one.group.clicks.weights[passage_id]
    return ClickTargets(weights, is_shown, share)


def _known_texts(queries: Sequence[str], drawn: Sequence[_Drawn], dataset: Dataset) -> dict[str, set[str]]:
    """Query -> texts that are positive or ignored for it, over all groups of the batch that ask the same."""
    known: dict[str, set[str]] = {}
    for query, one in zip(queries, drawn, strict=True):
        group = one.group
        texts = (_same_text(dataset.passage(p).full_text) for p in (*group.positives, *group.ignored))
        known.setdefault(_same_text(query), set()).update(texts)
    return known


def _same_text(text: str) -> str:
    """What makes two texts the same to a reader: letters, not case or spacing."""
    return " ".join(text.casefold().split())
