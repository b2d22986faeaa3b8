"""Who labels in the study: people, and simulated annotators that err as often as published ones do.

As in MS MARCO people labelled one useful passage a query and left others unlabelled. A simulated annotator selects
that passage for a share of the queries (recall), and others until only `precision` of its selection is what people
labelled: the paper's way to count, by which an unlabelled useful passage is an error. How many of them are useful all
the same depends on the kind of errors, and is counted too.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from components.shared.hashing import content_key
from components.shared.records import Annotation, Label, Pool

Pair = tuple[str, str]
Labelled = Mapping[str, Sequence[str]]
ErrorKind = Literal["uniform", "random", "bm25"]


@dataclass(frozen=True)
class Quality:
    """Agreement with people over all queries: precision and recall of what is selected."""

    precision: float
    recall: float


# Source: [ufa], agreement of Qwen-2.5-32B-Int8 with the human labels of MS MARCO.
QUALITIES = {"relsel": Quality(0.151, 0.928), "utilsel": Quality(0.295, 0.848), "utilrank": Quality(0.713, 0.720)}
# What KL learns from, over its utility temperature: the three levels of the selection, as a score.
_SCORES: Mapping[Label, float] = {"positive": 2.0, "ignore": 1.0, "negative": 0.0}


@dataclass(frozen=True)
class Collection:
    """What errors are made of: the pools, what people labelled, all passages, and BM25's hits by query id."""

    pools: Sequence[Pool]
    labelled: Labelled
    passage_ids: Sequence[str]
    ranked: Mapping[str, Sequence[str]]

    @property
    def right(self) -> frozenset[Pair]:
        """What people labelled."""
        return frozenset((pool.query_id, p) for pool in self.pools for p in self.labelled[pool.query_id])

    def errors(self, kind: ErrorKind, *, seed: int) -> list[Pair]:
        """Pairs that no person labelled, in the order in which an annotator takes them for right.

        uniform: of the pools, each passage alike. random: any passages of the collection, thirty a query. bm25: the
        best hits of BM25, of every query the first before the second of any.
        """
        right, query_ids = self.right, [pool.query_id for pool in self.pools]
        if kind == "bm25":
            hits = {q: [p for p in self.ranked[q] if (q, p) not in right] for q in query_ids}
            placed = [(place, q, p) for q in query_ids for place, p in enumerate(hits[q])]
            return [(q, p) for place, q, p in sorted(placed, key=lambda row: (row[0], _draw(seed, row[1])))]
        if kind == "uniform":
            pairs = [(pool.query_id, p) for pool in self.pools for p in pool.passage_ids]
        else:
            pairs = [(q, p) for q in query_ids for p in _of_corpus(self.passage_ids, q, seed)]
        return sorted((pair for pair in pairs if pair not in right), key=lambda pair: _draw(seed, "wrong", *pair))


def human_annotations(collection: Collection) -> list[Annotation]:
    """What people say: labelled, or not."""
    return _annotations(collection, positive=collection.right, ignored=frozenset(), name="human")


def simulated_annotations(collection: Collection, *, level: str, kind: ErrorKind, seed: int) -> list[Annotation]:
    """Labels of a level of QUALITIES with errors of a kind; what only the relevance level selects is ignored.

    Passages that were selected and are not in the pool join it. Levels are nested because each takes the first pairs
    of the same two orders.
    """
    selected = selection(collection, QUALITIES[level], kind=kind, seed=seed)
    relevant = selection(collection, QUALITIES["relsel"], kind=kind, seed=seed)
    return _annotations(collection, positive=selected, ignored=relevant - selected, name=f"simulated-{level}-{kind}")


def selection(collection: Collection, quality: Quality, *, kind: ErrorKind, seed: int) -> frozenset[Pair]:
    """The pairs (query, passage) that an annotator of this quality selects."""
    right = sorted(collection.right, key=lambda pair: _draw(seed, "right", *pair))
    num_right = round(quality.recall * len(right))
    num_wrong = round(num_right * (1 - quality.precision) / quality.precision)
    return frozenset(right[:num_right]) | frozenset(collection.errors(kind, seed=seed)[:num_wrong])


def agreement(annotations: Iterable[Annotation], labelled: Labelled) -> Quality:
    """Precision and recall of the positives against what people labelled."""
    annotations = list(annotations)
    selected = {(a.query_id, p) for a in annotations for p in a.with_label("positive")}
    right = {(a.query_id, p) for a in annotations for p in labelled.get(a.query_id, ())}
    return Quality(len(selected & right) / max(1, len(selected)), len(selected & right) / max(1, len(right)))


def _of_corpus(passage_ids: Sequence[str], query_id: str, seed: int) -> list[str]:
    draw = random.Random(content_key(seed, "corpus", query_id))
    return draw.sample(passage_ids, min(30, len(passage_ids)))


def _draw(*parts: object) -> float:
    """A number from 0 to 1 of these parts alone, so that a pair's fate does not depend on the other pools."""
    return random.Random(content_key(*parts)).random()


def _annotations(
    collection: Collection, *, positive: frozenset[Pair], ignored: frozenset[Pair], name: str
) -> list[Annotation]:
    """One annotation a pool, with what was selected beside it at the pool's end."""
    joined: dict[str, list[str]] = {pool.query_id: [] for pool in collection.pools}
    pooled = {(pool.query_id, p) for pool in collection.pools for p in pool.passage_ids}
    for query_id, passage_id in sorted((positive | ignored) - pooled):
        joined[query_id].append(passage_id)

    def annotation(pool: Pool) -> Annotation:
        passage_ids = (*pool.passage_ids, *joined[pool.query_id])
        labels = tuple(_label((pool.query_id, p), positive, ignored) for p in passage_ids)
        scores = tuple(_SCORES[label] for label in labels)
        return Annotation(pool.query_id, passage_ids, labels, method="study", model=name, outcome="ok", scores=scores)

    return [annotation(pool) for pool in collection.pools]


def _label(pair: Pair, positive: frozenset[Pair], ignored: frozenset[Pair]) -> Label:
    return "positive" if pair in positive else "ignore" if pair in ignored else "negative"
