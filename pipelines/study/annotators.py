"""Who labels in the study: people, and simulated annotators that err as often as published ones do.

A simulated annotator is made from human labels: it finds `recall` of what people call useful, and adds wrong passages
until only
`precision` of its selection is right. Its three levels are nested as in the method (what is selected as useful was
selected as relevant), and its errors prefer passages that people judged to be on the topic but not useful.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from components.shared.hashing import content_key
from components.shared.records import Annotation, Label, Pool

Pair = tuple[str, str]


@dataclass(frozen=True)
class Quality:
    """Agreement with people over all pools: precision and recall of what is selected as useful."""

    precision: float
    recall: float


# Source: [ufa], agreement of Qwen-2.5-32B-Int8 with MS MARCO's human labels. There a query has one labelled passage and
# unlabelled useful ones count as errors; here all are counted, so the same precision is a noisier annotator.
QUALITIES = {"relsel": Quality(0.151, 0.928), "utilsel": Quality(0.295, 0.848), "utilrank": Quality(0.713, 0.720)}
# How much rather a topical passage is selected wrongly than another one of the pool.
TOPICAL_ODDS = 4.0


def with_judged(pools: Iterable[Pool], grades: Mapping[str, Mapping[str, int]]) -> list[Pool]:
    """The pools with every judged passage, so that topical ones which no retriever found can be mistaken too."""
    completed = []
    for pool in pools:
        missing = sorted(set(grades.get(pool.query_id, ())) - set(pool.passage_ids))
        sources = (*pool.sources, *("human" for _ in missing))
        completed.append(Pool(pool.query_id, (*pool.passage_ids, *missing), sources, pool.seed))
    return completed


def human_annotations(pools: Iterable[Pool], grades: Mapping[str, Mapping[str, int]]) -> list[Annotation]:
    """What people say: useful, or not."""
    useful = _useful(grades)
    return [_annotation(pool, positive=useful, ignored=frozenset(), name="human") for pool in pools]


def simulated_annotations(
    pools: Sequence[Pool], grades: Mapping[str, Mapping[str, int]], *, level: str, seed: int
) -> list[Annotation]:
    """Labels of a level of QUALITIES; what only the relevance level selects is ignored.

    Precision and recall over all pools are met to the last pair where the pools hold enough wrong passages.
    """
    selected = selection(pools, grades, QUALITIES[level], seed=seed)
    relevant = selection(pools, grades, QUALITIES["relsel"], seed=seed)
    assert selected <= relevant, "levels are nested because every level takes the first pairs of the same two orders"
    return [
        _annotation(pool, positive=selected, ignored=relevant - selected, name=f"simulated-{level}") for pool in pools
    ]


def selection(
    pools: Sequence[Pool], grades: Mapping[str, Mapping[str, int]], quality: Quality, *, seed: int
) -> frozenset[Pair]:
    """The pairs (query, passage) that an annotator of this quality selects."""
    useful = _useful(grades)
    pairs = [(pool.query_id, passage_id) for pool in pools for passage_id in pool.passage_ids]
    right = sorted((pair for pair in pairs if pair in useful), key=lambda pair: _draw(seed, "right", *pair))
    # Exponential clocks: the order in which weighted sampling without replacement takes them.
    wrong = sorted((pair for pair in pairs if pair not in useful), key=lambda pair: _clock(pair, grades, seed))
    num_right = round(quality.recall * len(right))
    num_wrong = round(num_right * (1 - quality.precision) / quality.precision)
    return frozenset(right[:num_right]) | frozenset(wrong[:num_wrong])


def agreement(annotations: Iterable[Annotation], grades: Mapping[str, Mapping[str, int]]) -> Quality:
    """Precision and recall of the positives against people, over all pairs of the pools."""
    annotations, useful = list(annotations), _useful(grades)
    selected = {(a.query_id, p) for a in annotations for p in a.with_label("positive")}
    known = {(a.query_id, p) for a in annotations for p in a.passage_ids} & useful
    right = len(selected & known)
    return Quality(right / max(1, len(selected)), right / max(1, len(known)))


def _clock(pair: Pair, grades: Mapping[str, Mapping[str, int]], seed: int) -> float:
    query_id, passage_id = pair
    odds = TOPICAL_ODDS if passage_id in grades.get(query_id, ()) else 1.0
    return -math.log(_draw(seed, "wrong", query_id, passage_id)) / odds


def _draw(*parts: object) -> float:
    """A number above 0 and at most 1 of these parts alone, so that a pair's fate does not depend on the other pools."""
    return 1.0 - random.Random(content_key(*parts)).random()


def _useful(grades: Mapping[str, Mapping[str, int]]) -> frozenset[Pair]:
    return frozenset((query_id, p) for query_id, judged in grades.items() for p, grade in judged.items() if grade > 0)


def _annotation(pool: Pool, *, positive: frozenset[Pair], ignored: frozenset[Pair], name: str) -> Annotation:
    def label(passage_id: str) -> Label:
        pair = (pool.query_id, passage_id)
        return "positive" if pair in positive else "ignore" if pair in ignored else "negative"

    return Annotation(
        pool.query_id, pool.passage_ids, tuple(map(label, pool.passage_ids)), method="study", model=name, outcome="ok"
    )
