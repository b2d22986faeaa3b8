"""Which split a query belongs to: the qrels file that names it, else a hash of its id, so that it never moves between runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

NO_SPLIT = ""


def hash_split(query_id: str) -> str:
    """60 % train, 15 % dev, 25 % test, the same for an id on every machine."""
    bucket = int(hashlib.md5(query_id.encode(), usedforsecurity=False).hexdigest(), 16) % 100
    return "train" if bucket < 60 else "dev" if bucket < 75 else "test"


def assign_splits(query_ids: Iterable[str], judged: Mapping[str, str]) -> dict[str, str]:
    """Split of every query.

    Args:
        query_ids: All queries.
        judged: Split of each query that has qrels; empty where the collection has none, and then every query is
            split by hash.

    A query without qrels has no split, unless no qrels train either: then the queries without qrels are what an LLM
    will annotate, and they train.
    """
    if not judged:
        return {query_id: hash_split(query_id) for query_id in query_ids}
    unjudged = NO_SPLIT if "train" in judged.values() else "train"
    return {query_id: judged.get(query_id, unjudged) for query_id in query_ids}
