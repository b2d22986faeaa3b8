"""Annotations and human qrels -> training groups -> batches with their denominators.

A batch's columns are its distinct passage texts. A text that is positive or ignored for a query, under whatever id, is never
that query's negative; it would be if columns were (group, slot) pairs as is usual.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from components.shared.dataset import Dataset
from components.shared.journal import content_key
from components.shared.records import Annotation
from components.train.curriculum import Stage


@dataclass(frozen=True)
class TrainingGroup:
    """One query, its positives, its hard negatives; `ignored` are passages that are neither."""

    query_id: str
    positives: tuple[str, ...]
    hard_negatives: tuple[str, ...]
    ignored: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Batch:
    """Texts and masks of one step; columns are distinct texts."""

    queries: list[str]
    passages: list[str]
    is_positive: Bool[Tensor, "query passage"]
    is_candidate: Bool[Tensor, "query passage"]

    @property
    def masked_share(self) -> float:
        """Share of (query, passage) pairs kept out of the denominators."""
        return 1.0 - float(self.is_candidate.float().mean())


def llm_groups(annotations: Iterable[Annotation]) -> list[TrainingGroup]:
    """A group for each annotated query that the LLM found a positive for."""
    return [
        TrainingGroup(
            annotation.query_id,
            annotation.with_label("positive"),
            annotation.with_label("negative"),
            frozenset(annotation.with_label("ignore")),
        )
        for annotation in annotations
        if "positive" in annotation.labels
    ]


def human_groups(
    positives: Mapping[str, Sequence[str]], annotations: Mapping[str, Annotation], *, human_share: float, seed: int
) -> list[TrainingGroup]:
    """A group for each query of the share; its hard negatives are the annotated ones that nobody called positive.

    Queries are ordered by a seeded hash and the first ones taken, so a smaller share is part of a larger one.
    """
    ordered = sorted(positives, key=lambda query_id: content_key(seed, "human share", query_id))
    chosen = ordered[: max(1, round(human_share * len(ordered)))]
    groups = []
    for query_id in chosen:
        annotation = annotations.get(query_id)
        human = set(positives[query_id])
        hard = tuple(p for p in annotation.with_label("negative") if p not in human) if annotation else ()
        ignored = frozenset(annotation.with_label("positive") + annotation.with_label("ignore")) - human if annotation else frozenset()
        groups.append(TrainingGroup(query_id, tuple(positives[query_id]), hard, ignored))
    return groups


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
        chosen = [_drawn(group, allowed, group_size, epoch, seed) for group in order[start : start + batch_queries]]
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
    negatives: tuple[str, ...]


def _drawn(group: TrainingGroup, allowed: int, group_size: int, epoch: int, seed: int) -> _Drawn:
    # Positives rotate over the epochs from a seeded start, so that each has its turn; negatives are drawn afresh.
    start = int(content_key(seed, group.query_id)[:8], 16) + epoch * allowed
    count = min(allowed, len(group.positives))
    positives = tuple(group.positives[(start + turn) % len(group.positives)] for turn in range(count))
    room = max(0, group_size - count)
    random_negatives = random.Random(content_key(seed, epoch, group.query_id))
    negatives = random_negatives.sample(group.hard_negatives, min(room, len(group.hard_negatives)))
    return _Drawn(group, positives, tuple(negatives))


def _batch(drawn: Sequence[_Drawn], dataset: Dataset) -> Batch:
    text_of = {p: dataset.passage(p).full_text for d in drawn for p in (*d.positives, *d.negatives)}
    columns: dict[str, int] = {}
    for text in text_of.values():
        columns.setdefault(_same_text(text), len(columns))
    passages = [""] * len(columns)
    for text in text_of.values():
        passages[columns[_same_text(text)]] = text
    is_positive = torch.zeros(len(drawn), len(columns), dtype=torch.bool)
    is_candidate = torch.ones_like(is_positive)
    for row, its in enumerate(drawn):
        for passage_id in (*its.group.positives, *its.group.ignored):
            column = columns.get(_same_text(text_of.get(passage_id) or dataset.passage(passage_id).full_text))
            if column is not None:
                is_candidate[row, column] = False
        for passage_id in its.positives:
            is_positive[row, columns[_same_text(text_of[passage_id])]] = True
    return Batch([dataset.query(d.group.query_id).text for d in drawn], passages, is_positive, is_candidate | is_positive)


def _same_text(text: str) -> str:
    """What makes two passages the same to a reader: letters, not case or spacing."""
    return " ".join(text.casefold().split())
