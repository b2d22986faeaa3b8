"""Clicks of the train split -> what each query's showings say of its passages, and how often its topic is asked.

Nothing here sees a held-out topic: neither the propensities, nor the weights, nor the frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from components.shared.clicks import ClickLog
from components.shared.dataset import Dataset
from components.shared.records import Query
from components.train.curriculum import Stage
from components.train.labels.propensities import estimate_propensities

# Where dwell weighs, a click that lasts as long counts whole (ours).
_WHOLE_SECONDS = 30.0


@dataclass(frozen=True)
class ClickList:
    """The passages that were shown for a query, and what a click on each weighs; 0 where nobody clicked.

    `share`: weight of the clicks' loss against the LLM's for this query, from 0 to 1.
    """

    weights: Mapping[str, float]
    share: float = 1.0


@dataclass(frozen=True)
class Clicks:
    """The train split's log: its columns, the need that each row is about, and the propensity of each rank.

    `needs`: number of each row's topic, or of its query's text where it has none. `frequencies`: by query id, sessions
    that asked for its need.
    """

    log: ClickLog
    needs: Int64[np.ndarray, " row"]
    propensities: Float64[np.ndarray, " rank"]
    frequencies: Mapping[str, int]

    def lists(self, stage: Stage) -> dict[str, ClickList]:
        """For each query with a click all that it was shown, over all showings, weighed as a stage says.

        With one showing a passage weighs c / theta(rank), as in the listwise loss; with several these are summed.
        """
        log = self.log
        weights = log.clicked.astype(np.float64)
        if stage.dwell == "weigh":
            weights *= np.minimum(1.0, log.dwell_seconds / _WHOLE_SECONDS)
        if stage.propensities == "estimated":
            weights /= self.propensities[log.ranks - 1]
        shown: dict[int, dict[str, float]] = {}
        for query, passage, weight in zip(log.queries.tolist(), log.passages.tolist(), weights.tolist(), strict=True):
            of_query, passage_id = shown.setdefault(query, {}), log.passage_ids[passage]
            of_query[passage_id] = of_query.get(passage_id, 0.0) + weight
        return {log.query_ids[query]: ClickList(w) for query, w in shown.items() if any(w.values())}


def need_of(query: Query) -> str:
    """What makes two queries ask for the same: their topic, or where they have none their words."""
    return f"topic {query.topic}" if query.topic else " ".join(query.text.casefold().split())


def train_clicks(log: ClickLog, dataset: Dataset) -> Clicks:
    """The clicks that may be learnt from: of train queries whose need no held-out query has."""
    held_out = {need_of(query) for split in ("dev", "test") for query in dataset.queries(split)}
    learnable = {
        query.query_id: need_of(query)
        for split in ("train", "")
        for query in dataset.queries(split)
        if need_of(query) not in held_out
    }
    log = log.of_queries(learnable.keys())
    numbers: dict[str, int] = {}
    by_query = np.array(
        [numbers.setdefault(learnable.get(query_id, ""), len(numbers)) for query_id in log.query_ids], dtype=np.int64
    )
    needs = by_query[log.queries] if log.num_rows else np.empty(0, dtype=np.int64)
    pairs = needs * max(1, len(log.passage_ids)) + log.passages
    theta = estimate_propensities(pairs, log.ranks.astype(np.int64), log.clicked)
    asked = np.unique(np.stack([needs, log.sessions.astype(np.int64)], axis=1), axis=0)[:, 0]
    counts = np.bincount(asked, minlength=max(1, len(numbers)))
    frequencies = {query_id: int(counts[numbers[need]]) for query_id, need in learnable.items() if need in numbers}
    return Clicks(log, needs, theta, frequencies)
