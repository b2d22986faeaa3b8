"""Annotations and human qrels -> training groups: whose positives, whose negatives, and what is neither.

What one source calls positive is no negative of the other's group, unless the config says that a stage sees its own
labels only. Of the human labels a run knows its human share and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from components.shared.hashing import content_key
from components.shared.records import Annotation
from components.train.curriculum import Stage
from components.train.labels.clicks import ClickList, Clicks
from components.train.loss_records import LOSSES

Positives = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class TrainingGroup:
    """One query, its positives, its hard negatives; `ignored` are passages that are neither.

    `utilities`: the LLM's log-likelihood for each passage of the pool, where its method gives one; what KL learns from.
    `clicks`: the list that was shown for it and what was clicked, where the stage learns from clicks.
    `num_human_positives` and `num_human_masks` count the human labels among `positives` and among `ignored`.
    """

    query_id: str
    positives: tuple[str, ...]
    hard_negatives: tuple[str, ...]
    ignored: frozenset[str] = frozenset()
    utilities: Mapping[str, float] = field(default_factory=dict)
    clicks: ClickList | None = None
    num_human_positives: int = field(default=0, compare=False)
    num_human_masks: int = field(default=0, compare=False)


def share_of(
    positives: Positives, share: float, *, seed: int, asked: Collection[str] = frozenset()
) -> dict[str, Sequence[str]]:
    """A share of the human-labelled queries, at least one where there are any and the share is above 0.

    Queries are ordered by a seeded hash and the first ones taken, so a smaller share is part of a larger one. `asked`
    are the queries that an LLM wrote: their labels are no person's work, so with any share above 0 all are taken.
    """
    if share <= 0:
        return {}
    by_people = [query_id for query_id in positives if query_id not in asked]
    ordered = sorted(by_people, key=lambda query_id: content_key(seed, "human share", query_id))
    count = max(1, round(share * len(ordered)))
    taken = ordered[:count] + [query_id for query_id in positives if query_id in asked]
    return {query_id: positives[query_id] for query_id in taken}


def stage_groups(
    stage: Stage,
    positives: Positives,
    annotations: Mapping[str, Annotation],
    *,
    seed: int,
    known_share: float = 1.0,
    own_labels_only: bool = False,
    pools: Mapping[str, Sequence[str]] | None = None,
    asked: Collection[str] = frozenset(),
    clicks: Clicks | None = None,
) -> list[TrainingGroup]:
    """The groups that a stage learns from; a mixed stage has the LLM's and the human share's side by side.

    Args:
        stage: Says whose labels, and what becomes of passages that are relevant but not useful.
        positives: Human positives by query id, train split, all of them.
        annotations: The LLM's verdicts by query id.
        seed: Of the human share.
        known_share: Share of the human labels that the run knows, also in the denominators of the LLM's groups.
        own_labels_only: True: labels of the other source are unknown to the stage.
        pools: Passages that were found for each train query; what a stage with a teacher takes its passages from, and
            the hard negatives of human-labelled queries that the LLM has not judged.
        asked: Queries that an LLM wrote, see share_of.
        clicks: Of the train split, for stages that learn from them.

    Raises:
        ValueError: Where the stage learns from utilities that the annotations do not have.
    """
    groups: list[TrainingGroup] = []
    if stage.uses_teacher:
        return teacher_groups(
            stage, positives, annotations, pools or {}, seed=seed, known_share=known_share, asked=asked
        )
    is_alone = own_labels_only and not (stage.uses_llm and stage.uses_human)
    if stage.uses_llm:
        groups += llm_groups(
            stage, annotations, {} if is_alone else share_of(positives, known_share, seed=seed, asked=asked)
        )
    if stage.uses_clicks:
        assert clicks is not None, "a stage that learns from clicks is given them"
        groups = beside_clicks(stage, clicks, groups, annotations)
    if stage.uses_human:
        groups += human_groups(
            stage, positives, annotations, pools or {}, seed=seed, own_labels_only=is_alone, asked=asked
        )
    if stage.loss_record.needs_utilities:
        groups = [group for group in groups if group.utilities]
        if not groups and annotations:
            losses = ", ".join(name for name, record in LOSSES.items() if not record.needs_utilities)
            raise ValueError(
                f"stage {stage.name!r}: the loss {stage.loss} needs the LLM's scores, which these annotations lack; "
                "annotate with one of the methods replug, answer_likelihood and query_likelihood, "
                f"or use one of the losses {losses}"
            )
    return groups


def beside_clicks(
    stage: Stage, clicks: Clicks, groups: Sequence[TrainingGroup], annotations: Collection[str]
) -> list[TrainingGroup]:
    """The groups of clicks and the given ones of the LLM: side by side, or a query's two as one by its frequency.

    Annotated queries come first and in the order of their annotations, whoever's labels they have: so a share of 0 or
    1 gives exactly the groups of one source.
    """
    by_query = clicks.lists(stage)
    order = [*annotations, *(query_id for query_id in by_query if query_id not in annotations)]
    ordered = {query_id: by_query[query_id] for query_id in order if query_id in by_query}
    if stage.blend == "interleave":
        return [_clicked(query_id, shown, 1.0) for query_id, shown in ordered.items()] + list(groups)
    by_llm, blended = {group.query_id: group for group in groups}, []
    for query_id in order:
        group, shown = by_llm.get(query_id), by_query.get(query_id)
        share = _click_share(stage, clicks.frequencies.get(query_id, 0) if shown else 0)
        if share > 0:
            group = _blended(group if share < 1 else None, _clicked(query_id, shown, share) if shown else None, share)
        if group is not None:
            blended.append(group)
    return blended


def _click_share(stage: Stage, frequency: int) -> float:
    """Lambda = f / (f + kappa), ours after arXiv 2511.06635; or the share that the stage sets."""
    if stage.click_share >= 0:
        return stage.click_share
    assert stage.kappa >= 0, "kappa is chosen before the groups are made"
    return frequency / (frequency + stage.kappa) if frequency else 0.0


def _clicked(query_id: str, shown: ClickList, share: float) -> TrainingGroup:
    # Known to whoever asks the same: what was clicked is nobody's negative there.
    clicked = frozenset(passage_id for passage_id, weight in shown.weights.items() if weight > 0)
    return TrainingGroup(query_id, (), (), clicked, clicks=replace(shown, share=share))


def _blended(group: TrainingGroup | None, clicked: TrainingGroup | None, share: float) -> TrainingGroup | None:
    if group is None or clicked is None or clicked.clicks is None:
        return clicked if group is None else replace(group, clicks=ClickList({}, share))
    # The list is no source of negatives for the LLM's part.
    others = set(clicked.clicks.weights) - {*group.positives, *group.hard_negatives}
    return replace(group, ignored=group.ignored | others, clicks=clicked.clicks)


def llm_groups(stage: Stage, annotations: Mapping[str, Annotation], human_positives: Positives) -> list[TrainingGroup]:
    """A group for each annotated query with a positive of the LLM, or with its scores where the loss needs these."""
    groups = []
    for annotation in annotations.values():
        useful = annotation.with_label("positive")
        known = frozenset(human_positives.get(annotation.query_id, ())) - set(useful)
        if useful or (stage.loss_record.needs_utilities and annotation.scores):
            groups.append(_group(stage, annotation, useful, known, num_human_masks=len(known)))
    return groups


def human_groups(
    stage: Stage,
    positives: Positives,
    annotations: Mapping[str, Annotation],
    pools: Mapping[str, Sequence[str]],
    *,
    seed: int,
    own_labels_only: bool = False,
    asked: Collection[str] = frozenset(),
) -> list[TrainingGroup]:
    """A group for each query of the human share; its hard negatives are the annotated ones that nobody called positive.

    With `own_labels_only`, and where the LLM has not judged the query, all of the pool that no person called positive
    is a hard negative.
    """
    groups = []
    for query_id, passage_ids in share_of(positives, stage.human_share, seed=seed, asked=asked).items():
        annotation, human = annotations.get(query_id), tuple(passage_ids)
        if annotation is None or own_labels_only:
            pool = pools.get(query_id, ()) if annotation is None else annotation.passage_ids
            rest = tuple(passage_id for passage_id in pool if passage_id not in set(human))
            groups.append(TrainingGroup(query_id, human, rest, num_human_positives=len(human)))
        else:
            known = frozenset(annotation.with_label("positive"))
            groups.append(_group(stage, annotation, human, known, num_human_positives=len(human)))
    return groups


def teacher_groups(
    stage: Stage,
    positives: Positives,
    annotations: Mapping[str, Annotation],
    pools: Mapping[str, Sequence[str]],
    *,
    seed: int,
    known_share: float,
    asked: Collection[str] = frozenset(),
) -> list[TrainingGroup]:
    """A group for each query with a pool or a human positive of the stage's share; its negatives are the pool.

    What the LLM or a known person calls positive is no negative of the contrastive part.
    """
    human, known = (share_of(positives, share, seed=seed, asked=asked) for share in (stage.human_share, known_share))
    groups = []
    for query_id in dict.fromkeys([*pools, *human]):
        own = tuple(human.get(query_id, ()))
        useful = annotations[query_id].with_label("positive") if query_id in annotations else ()
        ignored = frozenset(useful).union(known.get(query_id, ())) - set(own)
        rest = tuple(passage_id for passage_id in pools.get(query_id, ()) if passage_id not in set(own))
        groups.append(TrainingGroup(query_id, own, rest, ignored, num_human_positives=len(own)))
    return groups


def _group(
    stage: Stage,
    annotation: Annotation,
    positives: tuple[str, ...],
    known: frozenset[str],
    *,
    num_human_positives: int = 0,
    num_human_masks: int = 0,
) -> TrainingGroup:
    """The annotated pool around the given positives; `known` are what another source calls positive."""
    taken = known | set(positives)
    labels = ("negative", "ignore") if stage.ignore == "negative" else ("negative",)
    pool = zip(annotation.passage_ids, annotation.labels, strict=True)
    negatives = tuple(passage_id for passage_id, label in pool if label in labels and passage_id not in taken)
    ignored = known | (set() if stage.ignore == "negative" else set(annotation.with_label("ignore")))
    utilities = dict(zip(annotation.passage_ids, utilities_of(annotation), strict=True)) if annotation.scores else {}
    return TrainingGroup(
        annotation.query_id,
        positives,
        negatives,
        frozenset(ignored - set(positives)),
        utilities,
        num_human_positives=num_human_positives,
        num_human_masks=num_human_masks,
    )


def utilities_of(annotation: Annotation) -> Sequence[float]:
    """What the softmax over the pool is taken of: the sums of log-likelihoods, or their means a token, in nats.

    The annotation's distribution tells which of them its annotator meant. It is itself no source: its shares are
    rounded to six digits, so that every passage below a millionth would be the same.
    """
    candidates = [column for column in (annotation.score_sums, annotation.scores) if column]
    if not annotation.distribution or not candidates:
        return candidates[0] if candidates else ()
    return min(candidates, key=lambda column: _distance(column, annotation.distribution))


def _distance(scores: Sequence[float], distribution: Sequence[float]) -> float:
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    total = math.fsum(weights)
    return max(abs(weight / total - share) for weight, share in zip(weights, distribution, strict=True))
