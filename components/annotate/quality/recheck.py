"""Which pools are judged a second time in another order, to see whether an annotator agrees with itself."""

from __future__ import annotations

import random
from dataclasses import replace

from components.shared.hashing import content_key
from components.shared.records import Pool


def is_rechecked(query_id: str, *, share: float, seed: int) -> bool:
    """Whether a query is in the sample: decided by its id alone, so that shards and later runs draw the same ones."""
    return int(content_key("recheck", seed, query_id)[:8], 16) < share * 16**8


def reordered(pool: Pool) -> Pool:
    """The pool in another order, always the same one; a pool of two passages or more never keeps its order."""
    seed = int(content_key("reordered", pool.seed, pool.query_id)[:8], 16)
    order = list(range(len(pool.passage_ids)))
    random.Random(seed).shuffle(order)
    if order == sorted(order):
        order.reverse()
    return replace(
        pool,
        passage_ids=tuple(pool.passage_ids[i] for i in order),
        sources=tuple(pool.sources[i] for i in order),
        seed=seed,
    )
