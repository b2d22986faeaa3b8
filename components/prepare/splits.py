"""Which split a query belongs to.

The qrels file that names it decides. A query that no file names trains; where no query is judged at all, a hash of the
id decides, so that a query never moves between runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.shared.splits import hash_split


def assign_splits(query_ids: Iterable[str], judged: Mapping[str, str]) -> dict[str, str]:
    """Split of every query.

    Args:
        query_ids: All queries.
        judged: Split of each query that has qrels; empty where the collection has none, and then every query is
            split by hash.

    A query without qrels trains where other queries have qrels: an LLM annotates it.
    """
    if not judged:
        return {query_id: hash_split(query_id) for query_id in query_ids}
    return {query_id: judged.get(query_id, "train") for query_id in query_ids}
