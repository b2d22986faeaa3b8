"""Held-out queries and what exact search finds for them: half to tune by, half to measure by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.index.config import IndexConfig
from components.index.tuning import DEPTH, Point, Queries, measure
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder
from components.shared.index import PassageIndex, exact_rows, iter_blocks

# Fewer queries of the dataset's own than this say too little.
_FEWEST = 64


class ExactSearch:
    """Queries with their exact neighbours, found once however many indexes are measured."""

    def __init__(self, queries: Queries, shards: Sequence[Path]) -> None:
        """Searches all vectors exactly, a shard in memory at a time."""
        start = time.perf_counter()
        rows = exact_rows(iter_blocks(shards), queries, DEPTH)
        self.exact_queries_per_second = round(len(queries) / (time.perf_counter() - start), 1)
        # Alternating, so that both halves have seen the whole list.
        self.tuning, self.verifying = queries[::2], queries[1::2]
        self.tuning_rows, self._verifying_rows = rows[::2], rows[1::2]

    def measure(self, index: PassageIndex) -> Point:
        """Recall and speed on the queries that nothing was tuned by."""
        return measure(index, self.verifying, self._verifying_rows)


def held_out(dataset: Dataset, encoder: Encoder, config: IndexConfig) -> Queries:
    """Vectors of a seeded draw of the dataset's queries.

    Where there are too few, passages cut to a query's length make up the number. At least two, so that both halves of
    a split hold one.
    """
    random = np.random.default_rng(config.seed)
    wanted = max(2, config.num_recall_queries)
    texts = [query.text for query in dataset.queries()]
    if len(texts) > wanted:
        texts = [texts[row] for row in np.sort(random.choice(len(texts), size=wanted, replace=False))]
    if len(texts) < _FEWEST:
        rows = random.choice(dataset.num_passages, size=wanted - len(texts), replace=dataset.num_passages < wanted)
        texts += [dataset.passage_at(int(row)).full_text for row in rows]
    return encoder.encode_queries(texts)
