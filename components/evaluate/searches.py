"""What each kind of system does with a block of queries: BM25, an encoder with its index, and both of them fused."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from components.evaluate.runs import Search
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder, Vectors, num_cores
from components.shared.fusion.hybrid import Hybrid
from components.shared.index import PassageIndex
from components.shared.records import Hit, Query

Encode = Callable[[tuple[str, ...]], Vectors]
# Queries that are asked one at a time for the latency, and what a reader asks for.
_TIMED_QUERIES, _TIMED_DEPTH = 64, 10


def encoding_once(encoder: Encoder) -> Encode:
    """Encodes a block of queries once for both systems: their blocks are the same."""

    @cache
    def encode(texts: tuple[str, ...]) -> Vectors:
        return encoder.encode_queries(texts)

    return encode


def lexical(bm25: BM25) -> Search:
    """Search by shared words."""

    def search(queries: Sequence[Query], depth: int, _: list[set[str]]) -> list[list[Hit]]:
        return bm25.search(list(_texts(queries)), depth)

    return search


def dense(encode: Encode, index: PassageIndex) -> Search:
    """Search by vectors."""

    def search(queries: Sequence[Query], depth: int, _: list[set[str]]) -> list[list[Hit]]:
        return index.search(encode(_texts(queries)), depth)

    return search


def hybrid(encode: Encode, fused: Hybrid, dataset: Dataset) -> Search:
    """Search by both, which leaves the query's own passages out itself: their scores would squeeze those of others."""

    def search(queries: Sequence[Query], depth: int, own: list[set[str]]) -> list[list[Hit]]:
        rows = [np.array(sorted(map(dataset.row, passage_ids)), dtype=np.int64) for passage_ids in own]
        texts = _texts(queries)
        return fused.search(texts, encode(texts), depth, excluded=rows)

    return search


def measure_latency(search: Search, queries: Sequence[Query]) -> dict[str, Any]:
    """Milliseconds of one query at a time on this machine, after a first one that pays for what is opened late.

    The queries get a space at their end: so none is taken from what the search has encoded before.
    """
    milliseconds = []
    for query in queries[: _TIMED_QUERIES + 1]:
        asked = Query(query.query_id, f"{query.text} ", query.answers)
        start = time.perf_counter()
        search([asked], _TIMED_DEPTH, [set()])
        milliseconds.append(1000 * (time.perf_counter() - start))
    timed = milliseconds[1:] or milliseconds
    p50, p95, p99 = (round(float(np.percentile(timed, share)), 3) for share in (50, 95, 99))
    return {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "num_queries": len(timed), "num_cores": num_cores()}


def _texts(queries: Sequence[Query]) -> tuple[str, ...]:
    return tuple(query.text for query in queries)
