"""Which split a query belongs to.

The qrels file that names it decides. A query that no file names goes where its topic is judged, and else trains; where
no query is judged at all, a hash of the topic or of the id decides, so that a query never moves between runs and a
topic is never in two splits.
"""

from __future__ import annotations

from collections.abc import Mapping

from components.shared.dataset import SPLITS
from components.shared.records import Query
from components.shared.splits import hash_split


def assign_splits(queries: Mapping[str, Query], judged: Mapping[str, str]) -> dict[str, str]:
    """Split of every query.

    Args:
        queries: All queries by id.
        judged: Split of each query that has qrels; empty where the collection has none, and then every query is
            split by hash.

    A query without qrels trains where other queries have qrels: an LLM annotates it. Not so where its topic is held
    out: clicks and annotations of the topic would be known of the test.
    """
    if not judged:
        return {query_id: hash_split(query.topic or query_id) for query_id, query in queries.items()}
    topics: dict[str, str] = {}
    for query_id, split in judged.items():
        if query_id in queries and (topic := queries[query_id].topic):
            # The most held-out of its splits, where a file gives a topic several.
            topics[topic] = max(topics.get(topic, split), split, key=SPLITS.index)
    return {query_id: judged.get(query_id, topics.get(query.topic, "train")) for query_id, query in queries.items()}
