"""The recipe of mine."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from components.mine.audit import Audit, audit_pools
from components.mine.blocks import Miner
from components.mine.config import MineConfig
from components.mine.disagreement import Retriever, disagreements
from components.mine.pools import HUMAN, OWN_PASSAGE
from components.mine.selection import BEYOND, SELECTORS, TAKEN, Candidate, Disagreement, in_order
from components.shared import log
from components.shared.bm25 import BM25, warn_without_hit
from components.shared.dataset import SPLITS, Dataset
from components.shared.durable import storage
from components.shared.encoding.cuts import cut_metrics, measure_passages, warn_of_cuts
from components.shared.encoding.encoder import Encoder
from components.shared.encoding.unknown import unknown_share, warn_of_unknown
from components.shared.index.opening import open_pair
from components.shared.manifest import ArtifactWriter, artifact_writer, open_artifact
from components.shared.records import Pool, Query, read_records

POOLS_NAME, AUDIT_NAME, SELECTION_NAME = "pools.jsonl", "audit.json", "selection.jsonl"
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
    encoder, index = open_pair(config.encoder_uri, config.index_uri, engine=config.engine)
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
        unknown = unknown_share(dataset, encoder, seed=config.seed)
        warn_of_unknown(unknown)
        bm25 = BM25(dataset)
        miner = Miner(dataset, bm25, encoder, index, positives, config)
        candidates = _candidates(queries, dataset, Retriever(dataset, encoder, index), config, artifact)
        is_warmup = config.round == "warm-up"
        counts = _mine_blocks(miner, queries, candidates, artifact, 0 if is_warmup else config.budget_tokens)
        mined = [
            query for query in queries if query.query_id not in candidates or _is_taken(candidates[query.query_id])
        ]
        warn_without_hit(counts["without_lexical_hit"], len(mined), language=bm25.language)
        audit = _audited(artifact.path, dataset, positives, counts, config)
        artifact.metrics.update(_pool_metrics(counts, audit))
        artifact.metrics.update(_write_selection(artifact.path / SELECTION_NAME, candidates, config))
        artifact.metrics.update(
            num_queries_left_out=_count_left_out(dataset, mined),
            num_queries_cut=_count_cut(encoder, mined),
            language=bm25.language,
            **cut_metrics(cuts),
            unknown_tokens_share=round(unknown, 4),
        )


def choose_queries(dataset: Dataset, config: MineConfig) -> list[Query]:
    """A seeded draw of the train queries, then of each held-out split without qrels, in the dataset's order.

    A query that no person has judged trains like the others, because the LLM judges its pool.
    """
    chosen = _draw(_train_queries(dataset), config.num_queries, config.seed)
    if config.round == "warm-up":
        return chosen
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


def _candidates(
    queries: Sequence[Query], dataset: Dataset, base: Retriever, config: MineConfig, artifact: ArtifactWriter
) -> dict[str, Candidate]:
    """What becomes of each train query, in the order of the selection; empty where all get a pool.

    A number of tokens is no limit yet: what a pool costs is known when it is mined.
    """
    selector, is_warmup = SELECTORS[config.select], config.round == "warm-up"
    if not (selector.has_budget or is_warmup):
        return {}
    held_out = {query.query_id for split in SPLITS[1:] for query in dataset.queries(split)}
    train = [query for query in queries if query.query_id not in held_out]
    if is_warmup:
        selector = SELECTORS["random"]
    said: Mapping[str, Disagreement] = {}
    if selector.needs_finetuned:
        uris = config.finetuned_encoder_uri, config.finetuned_index_uri
        finetuned = Retriever(dataset, *open_pair(*uris, engine=config.engine))
        said = disagreements(train, base, finetuned, depth=config.selection_depth, artifact=artifact)
    budget = config.warmup_queries if is_warmup else config.budget_queries or len(train)
    candidates: dict[str, Candidate] = {}
    for candidate in in_order(
        train,
        selector,
        said,
        num_warmup=config.warmup_queries,
        near_duplicate=config.near_duplicate,
        seed=config.seed,
    ):
        if _is_taken(candidate):
            candidate.outcome = candidate.outcome if budget > 0 else BEYOND
            budget -= 1
        candidates[candidate.query_id] = candidate
    return candidates


def _is_taken(candidate: Candidate) -> bool:
    return candidate.outcome in TAKEN


def _write_selection(path: Path, candidates: Mapping[str, Candidate], config: MineConfig) -> dict[str, Any]:
    """Writes every candidate with its scores, so that a selection can be audited; the facts for the manifest."""
    if not candidates:
        return {}
    with path.open("wb") as file:
        file.writelines(orjson.dumps(candidate.as_dict()) + b"\n" for candidate in candidates.values())
    outcomes = Counter(candidate.outcome for candidate in candidates.values())
    selection: dict[str, Any] = {
        "select": config.select,
        "num_candidates": len(candidates),
        "num_selected": sum(outcomes[outcome] for outcome in TAKEN),
        "num_tokens": sum(candidate.tokens or 0 for candidate in candidates.values()),
        "outcomes": dict(outcomes),
    }
    log.event("queries selected", **selection)
    return {"selection": selection}


def _mine_blocks(
    miner: Miner,
    queries: Sequence[Query],
    candidates: Mapping[str, Candidate],
    artifact: ArtifactWriter,
    budget_tokens: int,
) -> Counter[str]:
    """Pools of the queries in order, or of the selected ones in theirs and then of all held-out ones.

    Each block of queries is a file before the next one begins.
    """
    by_id = {query.query_id: query for query in queries}
    limited = [by_id[query_id] for query_id, candidate in candidates.items() if _is_taken(candidate)]
    others = [query for query in queries if query.query_id not in candidates]
    counts: Counter[str] = Counter()
    left = budget_tokens or math.inf
    with (
        (artifact.path / POOLS_NAME).open("wb") as file,
        log.Progress("mining", total=len(limited) + len(others), unit="queries") as bar,
    ):
        for row in _rows(miner, limited, artifact.scratch, bar, first=0, with_tokens=True):
            candidate = candidates[row["pool"]["query_id"]]
            left -= row["tokens"]
            # A pool that is too dear ends it, and no cheaper one behind it is taken: so budgets are nested.
            if left < 0:
                candidate.outcome = BEYOND
                continue
            candidate.tokens = row["tokens"]
            counts.update(row["counts"])
            file.write(orjson.dumps(row["pool"]) + b"\n")
            if left == 0:
                left = -1
        for row in _rows(miner, others, artifact.scratch, bar, first=len(limited)):
            counts.update(row["counts"])
            file.write(orjson.dumps(row["pool"]) + b"\n")
    return counts


def _rows(
    miner: Miner, queries: Sequence[Query], scratch: Path, bar: log.Progress, *, first: int, with_tokens: bool = False
) -> Iterator[dict[str, Any]]:
    """Pools with their counts and tokens; `first` keeps the files of two calls apart."""
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block, path = queries[start : start + _BLOCK_QUERIES], scratch / f"{first + start:09d}.json"
        if not path.is_file():
            storage.write_bytes(str(path), _block(miner, block, with_tokens=with_tokens))
        bar.add(len(block))
        yield from orjson.loads(path.read_bytes())


def _block(miner: Miner, queries: Sequence[Query], *, with_tokens: bool) -> bytes:
    rows = []
    for query, mined in zip(queries, miner.mine(queries), strict=True):
        counts = Counter(pools=1, passages=len(mined.pool.passage_ids), human=HUMAN in mined.pool.sources)
        counts.update(without_lexical_hit=not mined.has_lexical_hit)
        counts.update(scored=mined.num_scored, suspected=mined.num_suspected)
        counts.update({f"{_DROPPED}{reason}": count for reason, count in mined.dropped.items()})
        tokens = miner.num_tokens(query, mined.pool) if with_tokens else 0
        rows.append({"pool": asdict(mined.pool), "counts": dict(counts), "tokens": tokens})
    return orjson.dumps(rows)


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
