"""Annotations and human qrels -> training groups: whose positives, whose negatives, and what is neither.

What one source calls positive is no negative of the other's group, unless the config says that a stage sees its own
labels only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.shared.hashing import content_key
from components.shared.records import Annotation
from components.train.curriculum import Stage
from components.train.loss import KL_REPLUG


@dataclass(frozen=True)
class TrainingGroup:
    """One query, its positives, its hard negatives; `ignored` are passages that are neither.

    `utilities`: the LLM's score of each passage of the pool, where its method gives one; what KL learns from.
    """

    query_id: str
    positives: tuple[str, ...]
    hard_negatives: tuple[str, ...]
    ignored: frozenset[str] = frozenset()
    utilities: Mapping[str, float] = field(default_factory=dict)


def stage_groups(
    stage: Stage,
    positives: Mapping[str, Sequence[str]],
    annotations: Mapping[str, Annotation],
    *,
    seed: int,
    own_labels_only: bool = False,
) -> list[TrainingGroup]:
    """The groups that a stage learns from; a mixed stage has the LLM's and the human share's side by side.

    Args:
        stage: Says whose labels, and what becomes of passages that are relevant but not useful.
        positives: Human positives by query id, train split.
        annotations: The LLM's verdicts by query id.
        seed: Of the human share.
        own_labels_only: True: labels of the other source are unknown to the stage.

    Raises:
        ValueError: Where the stage learns from utilities that the annotations do not have.
    """
    groups: list[TrainingGroup] = []
    if stage.labels in ("llm", "mixed"):
        groups += llm_groups(stage, annotations, {} if own_labels_only and stage.labels == "llm" else positives)
    if stage.labels in ("human", "mixed"):
        groups += human_groups(
            stage, positives, annotations, seed=seed, own_labels_only=own_labels_only and stage.labels == "human"
        )
    if stage.loss == KL_REPLUG:
        groups = [group for group in groups if group.utilities]
        if not groups and annotations:
            raise ValueError(
                f"stage {stage.name!r}: the loss {KL_REPLUG} needs the LLM's scores, which these annotations lack; "
                "annotate with the method answer_likelihood or query_likelihood"
            )
    return groups


def llm_groups(
    stage: Stage, annotations: Mapping[str, Annotation], human_positives: Mapping[str, Sequence[str]]
) -> list[TrainingGroup]:
    """A group for each annotated query that the LLM found a positive for (with KL, that it gave scores)."""
    groups = []
    for annotation in annotations.values():
        useful = annotation.with_label("positive")
        known = frozenset(human_positives.get(annotation.query_id, ())) - set(useful)
        if useful or (stage.loss == KL_REPLUG and annotation.scores):
            groups.append(_group(stage, annotation, useful, known))
    return groups


def human_groups(
    stage: Stage,
    positives: Mapping[str, Sequence[str]],
    annotations: Mapping[str, Annotation],
    *,
    seed: int,
    own_labels_only: bool = False,
) -> list[TrainingGroup]:
    """A group for each query of the human share; its hard negatives are the annotated ones that nobody called positive.

    Queries are ordered by a seeded hash and the first ones taken, so a smaller share is part of a larger one. With
    `own_labels_only` all of the pool that no person called positive is a hard negative, whatever the LLM said.
    """
    ordered = sorted(positives, key=lambda query_id: content_key(seed, "human share", query_id))
    chosen = ordered[: max(1, round(stage.human_share * len(ordered)))] if ordered else []
    groups = []
    for query_id in chosen:
        annotation, human = annotations.get(query_id), tuple(positives[query_id])
        if annotation is None:
            groups.append(TrainingGroup(query_id, human, ()))
        elif own_labels_only:
            rest = tuple(passage_id for passage_id in annotation.passage_ids if passage_id not in set(human))
            groups.append(TrainingGroup(query_id, human, rest))
        else:
            groups.append(_group(stage, annotation, human, frozenset(annotation.with_label("positive"))))
    return groups


def _group(stage: Stage, annotation: Annotation, positives: tuple[str, ...], known: frozenset[str]) -> TrainingGroup:
    """The annotated pool around the given positives; `known` are what another source calls positive."""
    taken = known | set(positives)
    labels = ("negative", "ignore") if stage.ignore == "negative" else ("negative",)
    pool = zip(annotation.passage_ids, annotation.labels, strict=True)
    negatives = tuple(passage_id for passage_id, label in pool if label in labels and passage_id not in taken)
    ignored = known | (set() if stage.ignore == "negative" else set(annotation.with_label("ignore")))
    utilities = dict(zip(annotation.passage_ids, _utilities(annotation), strict=True)) if annotation.scores else {}
    return TrainingGroup(annotation.query_id, positives, negatives, frozenset(ignored - set(positives)), utilities)


def _utilities(annotation: Annotation) -> Sequence[float]:
    """What the softmax is taken of: the annotator's own distribution where it has one (of a mean or a sum), else its scores."""
    if not annotation.distribution:
        return annotation.scores
    smallest = sys.float_info.min
    return [math.log(max(share, smallest)) for share in annotation.distribution]
