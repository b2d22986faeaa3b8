"""The recipe of mine."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from components.mine.audit import Audit, audit_pools
from components.mine.blocks import Miner
from components.mine.config import MineConfig
from components.mine.pools import HUMAN, OWN_PASSAGE
from components.shared import log
from components.shared.bm25 import BM25, warn_without_hit
from components.shared.dataset import SPLITS, Dataset
from components.shared.durable import storage
from components.shared.encoding.cuts import cut_metrics, measure_passages, warn_of_cuts
from components.shared.encoding.encoder import Encoder
from components.shared.index import PassageIndex
from components.shared.manifest import artifact_writer, open_artifact
from components.shared.records import Pool, Query, read_records

POOLS_NAME, AUDIT_NAME = "pools.jsonl", "audit.json"
_BLOCK_QUERIES = 256
# Reasons for which candidates were dropped stand among a block's other counts.
_DROPPED = "dropped "
_LARGEST_SHARE_CUT = 0.05


def mine(config: MineConfig) -> None:
    """Writes one pool a query: train queries, and the held-out queries that no person has judged.

    A killed job continues behind the last finished block of queries.

    Raises:
        ValueError: Where the dataset has no query to mine for, or the audit finds more than its settings allow.
    """
    dataset = Dataset(open_artifact(config.dataset_uri))
    encoder = Encoder(open_artifact(config.encoder_uri))
    index = PassageIndex.open(open_artifact(config.index_uri), encoder_digest=encoder.digest)
    queries = choose_queries(dataset, config)
    if not queries:
        raise ValueError(
            f"{config.dataset_uri}: no train queries; add queries to queries.jsonl, with or without qrels, or have an "
            "LLM write them (--set ask.num_queries=300)"
        )
    positives = {query_id: ids for split in SPLITS for query_id, ids in dataset.positives(split).items()}
    num_asked = sum(query.query_id in dataset.asked_ids for query in queries)
    num_judged = sum(query.query_id in positives for query in queries) - num_asked
    log.event(
        "queries to mine for",
        num_with_human_positive=num_judged,
        num_asked=num_asked,
        num_without=len(queries) - num_judged - num_asked,
    )
    with artifact_writer("mine", config) as artifact:
        tokenize = partial(encoder.tokenize_passages, truncate=False)
        cuts = measure_passages(dataset, tokenize, limit=encoder.settings.passage_tokens, seed=config.seed)
        warn_of_cuts(cuts)
        bm25 = BM25(dataset)
        miner = Miner(dataset, bm25, encoder, index, positives, config)
        counts = _mine_blocks(miner, queries, artifact.path / POOLS_NAME, artifact.scratch)
        warn_without_hit(counts["without_lexical_hit"], len(queries), language=bm25.language)
        audit = _audited(artifact.path, dataset, positives, counts, config)
        artifact.metrics.update(_pool_metrics(counts, audit))
        artifact.metrics.update(
            num_queries_left_out=_count_left_out(dataset, queries),
            num_queries_cut=_count_cut(encoder, queries),
            language=bm25.language,
            **cut_metrics(cuts),
        )


def choose_queries(dataset: Dataset, config: MineConfig) -> list[Query]:
    """A seeded draw of the train queries, then of each held-out split without qrels, in the dataset's order.

    A query that no person has judged trains like the others, because the LLM judges its pool.
    """
    chosen = _draw(_train_queries(dataset), config.num_queries, config.seed)
    for split in SPLITS[1:]:
        if not dataset.positives(split):
            chosen += _draw(dataset.queries(split), config.num_evaluation_queries, config.seed)
    return chosen


def _train_queries(dataset: Dataset) -> list[Query]:
    # Datasets of earlier versions leave queries that nobody has judged without a split.
    return dataset.queries("train") + dataset.queries("")


def _count_left_out(dataset: Dataset, queries: Sequence[Query]) -> int:
    chosen = {query.query_id for query in queries}
    return sum(query.query_id not in chosen for query in _train_queries(dataset))


def _count_cut(encoder: Encoder, queries: Sequence[Query]) -> int:
    """Queries that are longer than the encoder reads; a warning where they are more than a few."""
    limit = encoder.settings.query_tokens
    lengths = [len(ids) for ids in encoder.tokenize_queries([query.text for query in queries], truncate=False)]
    num_cut = sum(length > limit for length in lengths)
    if num_cut > _LARGEST_SHARE_CUT * len(queries):
        log.warning(
            "queries are longer than the encoder reads; raise encoder.query_tokens",
            query_tokens=limit,
            num_queries_cut=num_cut,
            num_queries=len(queries),
        )
    return num_cut


def _pool_metrics(counts: Counter[str], audit: Audit) -> dict[str, Any]:
    dropped = {name.removeprefix(_DROPPED): count for name, count in counts.items() if name.startswith(_DROPPED)}
    return {
        "num_pools": counts["pools"],
        "num_passages": counts["passages"],
        "num_with_human_positive": counts["human"],
        "num_own_passages_left_out": dropped.get(OWN_PASSAGE, 0),
        "num_queries_without_lexical_hit": counts["without_lexical_hit"],
        "dropped": dict(sorted(dropped.items())),
        "audit": {check.name: round(check.share, 6) for check in audit.checks},
    }


def _draw(queries: list[Query], num_queries: int, seed: int) -> list[Query]:
    if not num_queries or num_queries >= len(queries):
        return queries
    chosen = set(random.Random(seed).sample(range(len(queries)), num_queries))
    return [query for position, query in enumerate(queries) if position in chosen]


def _mine_blocks(miner: Miner, queries: Sequence[Query], target: Path, scratch: Path) -> Counter[str]:
    """Pools of all queries in order; each block of queries is a file before the next one begins."""
    paths = []
    with log.Progress("mining", total=len(queries), unit="queries") as bar:
        for start in range(0, len(queries), _BLOCK_QUERIES):
            block = queries[start : start + _BLOCK_QUERIES]
            paths.append(scratch / f"{start:09d}.json")
            if not paths[-1].is_file():
                storage.write_bytes(str(paths[-1]), _block(miner, block))
            bar.add(len(block))
    counts: Counter[str] = Counter()
    with target.open("wb") as file:
        for path in paths:
            held = orjson.loads(path.read_bytes())
            counts.update(held["counts"])
            file.writelines(orjson.dumps(pool) + b"\n" for pool in held["pools"])
    return counts


def _block(miner: Miner, queries: Sequence[Query]) -> bytes:
    counts: Counter[str] = Counter()
    pools = []
    for mined in miner.mine(queries):
        pools.append(asdict(mined.pool))
        counts.update(pools=1, passages=len(mined.pool.passage_ids), human=HUMAN in mined.pool.sources)
        counts.update(without_lexical_hit=not mined.has_lexical_hit)
        counts.update(scored=mined.num_scored, suspected=mined.num_suspected)
        counts.update({f"{_DROPPED}{reason}": count for reason, count in mined.dropped.items()})
    return orjson.dumps({"pools": pools, "counts": dict(counts)})


def _audited(
    folder: Path, dataset: Dataset, positives: dict[str, list[str]], counts: Counter[str], config: MineConfig
) -> Audit:
    pools: Iterator[Pool] = read_records(folder / POOLS_NAME, Pool)
    audit = audit_pools(
        pools, dataset, positives, num_scored=counts["scored"], num_suspected=counts["suspected"], config=config
    )
    path = folder / AUDIT_NAME
    path.write_bytes(orjson.dumps(audit.to_json(), option=orjson.OPT_INDENT_2))
    if audit.violations:
        raise ValueError(f"{path}: the audit refuses these pools; " + "; ".join(map(str, audit.violations)))
    return audit
