"""Which of mine's pools the LLM judges: all, or as many train queries as the budget allows."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

from components.annotate.config import AnnotateConfig
from components.shared.dataset import Dataset
from components.shared.hashing import content_key
from components.shared.records import Pool, read_records


class ChosenPools:
    """The pools to judge, read again from their file each time they are asked for; memory holds the chosen ids."""

    def __init__(self, path: Path, dataset: Dataset, config: AnnotateConfig) -> None:
        """Draws train queries by a seeded hash; the pools of held-out queries are there to be judged and all stay."""
        self._path, self._config = path, config
        self._left_out: frozenset[str] = frozenset()
        if config.num_queries:
            held_out = {query.query_id for split in ("dev", "test") for query in dataset.queries(split)}
            trained_on = [pool.query_id for pool in read_records(path, Pool) if pool.query_id not in held_out]
            drawn = heapq.nsmallest(
                config.num_queries, trained_on, key=lambda query_id: content_key(config.seed, "judged", query_id)
            )
            self._left_out = frozenset(trained_on) - frozenset(drawn)

    def __iter__(self) -> Iterator[Pool]:
        """All of them, in the order of the file."""
        return (pool for pool in read_records(self._path, Pool) if pool.query_id not in self._left_out)

    def of_shard(self) -> Iterator[Pool]:
        """Those of the config's shard."""
        for number, pool in enumerate(self):
            if number % self._config.num_shards == self._config.shard:
                yield pool
