"""The recipe of mine."""

from __future__ import annotations

import random
from collections.abc import Iterator

from components.mine.config import MineConfig
from components.mine.pools import make_pool
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.dataset import SPLITS, Dataset
from components.shared.encoder import Encoder
from components.shared.index import PassageIndex
from components.shared.manifest import artifact_writer, open_artifact
from components.shared.records import Pool, Query, write_records

_BLOCK_QUERIES = 256


def mine(config: MineConfig) -> None:
    """Writes one pool a query: train queries, and the held-out queries that no person has judged.

    Raises:
        ValueError: Where the dataset has no query to mine for.
    """
    dataset = Dataset(open_artifact(config.dataset_uri))
    encoder = Encoder(open_artifact(config.encoder_uri))
    index = PassageIndex.open(open_artifact(config.index_uri), encoder_digest=encoder.digest)
    queries = choose_queries(dataset, config)
    if not queries:
        raise ValueError(f"{config.dataset_uri}: no train queries; add queries to queries.jsonl, with or without qrels")
    with artifact_writer("mine", config) as artifact:
        positives = {query_id: ids for split in SPLITS for query_id, ids in dataset.positives(split).items()}
        counts = {"pools": 0, "passages": 0, "human": 0}
        pools = _pools(queries, positives, BM25(dataset), encoder, index, config)
        write_records(artifact.path / "pools.jsonl", _counted(pools, counts))
        artifact.metrics.update(
            num_pools=counts["pools"],
            num_passages=counts["passages"],
            num_with_human_positive=counts["human"],
            num_queries_left_out=len(dataset.queries("train")) - sum(query in queries for query in dataset.queries("train")),
        )


def choose_queries(dataset: Dataset, config: MineConfig) -> list[Query]:
    """A seeded draw of the train queries, then of each held-out split without human qrels, in the dataset's order."""
    chosen = _draw(dataset.queries("train"), config.num_queries, config.seed)
    for split in SPLITS[1:]:
        if not dataset.positives(split):
            chosen += _draw(dataset.queries(split), config.num_evaluation_queries, config.seed)
    return chosen


def _draw(queries: list[Query], num_queries: int, seed: int) -> list[Query]:
    if not num_queries or num_queries >= len(queries):
        return queries
    chosen = set(random.Random(seed).sample(range(len(queries)), num_queries))
    return [query for position, query in enumerate(queries) if position in chosen]


def _pools(
    queries: list[Query], positives: dict[str, list[str]], bm25: BM25, encoder: Encoder, index: PassageIndex, config: MineConfig
) -> Iterator[Pool]:
    with log.Progress("mining", total=len(queries), unit="queries") as bar:
        for start in range(0, len(queries), _BLOCK_QUERIES):
            block = queries[start : start + _BLOCK_QUERIES]
            texts = [query.text for query in block]
            lexical, dense = bm25.search(texts, config.depth), index.search(encoder.encode_queries(texts), config.depth)
            for query, its_bm25, its_dense in zip(block, lexical, dense, strict=True):
                yield make_pool(query.query_id, bm25=its_bm25, dense=its_dense, positives=positives.get(query.query_id, []), config=config)
                bar.add()


def _counted(pools: Iterator[Pool], counts: dict[str, int]) -> Iterator[Pool]:
    for pool in pools:
        counts["pools"] += 1
        counts["passages"] += len(pool.passage_ids)
        counts["human"] += "human" in pool.sources
        yield pool
