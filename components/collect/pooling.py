"""The union of several systems' first passages, as pools that annotate judges.

The known positives are in it too, so that the judge's agreement with people can be measured; the judge is not told
which they are, and the order is drawn anew for each query.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence

from components.collect.config import CollectConfig
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.hashing import content_key
from components.shared.measuring.runs import find_runs
from components.shared.measuring.trec import read_top
from components.shared.records import Pool

HUMAN = "human"

Rankings = Mapping[str, Mapping[str, tuple[str, ...]]]


def draw_queries(dataset: Dataset, config: CollectConfig) -> list[str]:
    """Ids of the queries that are judged, in the collection's order.

    Those that people judged, where they judged any: only there two rankings of the systems can be compared.

    Raises:
        ValueError: Where the split has none.
    """
    judged = dataset.human_positives(config.split)
    known = [query.query_id for query in dataset.queries(config.split) if not judged or query.query_id in judged]
    if not known:
        raise ValueError(f"{config.dataset_uri}: split {config.split!r} has no queries, so there is nothing to judge")
    drawn = set(
        heapq.nsmallest(config.num_queries, known, key=lambda query_id: content_key(config.seed, "collected", query_id))
    )
    if len(drawn) < config.num_queries:
        log.warning("the split has too few queries", wanted=config.num_queries, queries=len(drawn))
    return [query_id for query_id in known if query_id in drawn]


def read_rankings(dataset: Dataset, query_ids: Sequence[str], config: CollectConfig, *, depth: int) -> Rankings:
    """System -> query id -> its first passages.

    Raises:
        ValueError: Where there is no run, or one is of another dataset.
    """
    files = find_runs(
        dataset_uri=config.dataset_uri,
        evaluation_uri=config.evaluation_uri,
        runs_uri=config.runs_uri,
        reserved=(HUMAN,),
    )
    if not files:
        raise ValueError("there are no runs to pool; name an evaluation, or TREC files (evaluation_uri, runs_uri)")
    wanted = set(query_ids)
    return {name: read_top(path, dataset, query_ids=wanted, depth=depth) for name, path in files.items()}


def make_pools(dataset: Dataset, query_ids: Sequence[str], rankings: Rankings, config: CollectConfig) -> list[Pool]:
    """One pool a query; a passage's sources are the systems that have it among their first, joined by +."""
    positives = dataset.human_positives(config.split)
    pools = []
    for query_id in query_ids:
        sources: dict[str, list[str]] = {}
        for system, ranking in rankings.items():
            for passage_id in ranking.get(query_id, ())[: config.pool_depth]:
                sources.setdefault(passage_id, []).append(system)
        for passage_id in positives.get(query_id, ()):
            sources.setdefault(passage_id, []).append(HUMAN)
        if not sources:
            continue
        seed = int(content_key(config.seed, query_id)[:8], 16)
        shown = list(sources)
        random.Random(seed).shuffle(shown)
        pools.append(Pool(query_id, tuple(shown), tuple("+".join(sources[p]) for p in shown), seed))
    return pools
