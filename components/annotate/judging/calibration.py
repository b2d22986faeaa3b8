"""Where to cut the likelihoods: margins fitted to the human positives of a few queries, where there are any.

A likelihood has no natural zero, so labels are cut by the distance to the pool's best passage. How far a useful passage
may be behind depends on model, corpus and prompt; what people marked tells it better than a constant.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from components.annotate.config import AnnotateConfig
from components.shared import log
from components.shared.hashing import content_key
from components.shared.records import Pool

# Fewer queries than this say too little.
_MIN_QUERIES = 20
# Human positives that the ignore band must hold: people mark some of what is useful, so the rest may be useful too.
_IGNORE_RECALL = 0.95


@dataclass(frozen=True)
class Margins:
    """Nats per token behind the pool's best, and what they do on the queries they were fitted to."""

    positive_margin: float
    ignore_margin: float
    precision: float
    recall: float
    num_queries: int


def calibration_pools(
    pools: Iterable[Pool], positives: Mapping[str, Sequence[str]], *, num_queries: int, seed: int
) -> list[Pool]:
    """The same few pools for every shard: drawn by a seeded hash from those that hold a human positive.

    At most half of these: agreement with people is measured on the others, which the margins have not seen.
    """
    num_judged = 0

    def judged() -> Iterator[Pool]:
        nonlocal num_judged
        for pool in pools:
            if not set(pool.passage_ids).isdisjoint(positives.get(pool.query_id, ())):
                num_judged += 1
                yield pool

    drawn = heapq.nsmallest(num_queries, judged(), key=lambda pool: content_key(seed, "calibration", pool.query_id))
    return drawn[: num_judged // 2]


def fit_margins(scored: Sequence[tuple[Sequence[float], Sequence[bool]]]) -> Margins:
    """Margins from the scores of pools and what people marked in them; at least one passage is marked.

    The positive margin maximises F1 of the labels positive (the smaller where several do); the ignore margin is the
    smallest that holds 95 % of what people marked, and no smaller than the positive margin.
    """
    gaps = sorted(
        (max(scores) - score, is_marked)
        for scores, marked in scored
        for score, is_marked in zip(scores, marked, strict=True)
    )
    num_marked = sum(is_marked for _, is_marked in gaps)
    num_hit, best, margins = 0, -1.0, (0.0, 0.0, 0.0)
    for num_taken, (gap, is_marked) in enumerate(gaps, start=1):
        num_hit += is_marked
        is_last = num_taken == len(gaps) or gaps[num_taken][0] > gap
        if is_last and 2 * num_hit / (num_taken + num_marked) > best:
            best, margins = 2 * num_hit / (num_taken + num_marked), (gap, num_hit / num_taken, num_hit / num_marked)
    marked_gaps = [gap for gap, is_marked in gaps if is_marked]
    ignore_margin = marked_gaps[math.ceil(_IGNORE_RECALL * num_marked) - 1]
    return Margins(margins[0], max(margins[0], ignore_margin), margins[1], margins[2], len(scored))


def calibrated(
    config: AnnotateConfig, scored: Sequence[tuple[Sequence[float], Sequence[bool]]]
) -> tuple[AnnotateConfig, dict[str, float]]:
    """The config with fitted margins and how they were got; as it is where too few queries have human positives."""
    if len(scored) < _MIN_QUERIES:
        log.event(
            "margins are not calibrated: too few queries with human positives", queries=len(scored), wanted=_MIN_QUERIES
        )
        return config, {}
    margins = fit_margins(scored)
    log.event("margins calibrated", **asdict(margins))
    return replace(config, positive_margin=margins.positive_margin, ignore_margin=margins.ignore_margin), asdict(
        margins
    )
