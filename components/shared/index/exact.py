"""Exact search over blocks of vectors, and what an index is measured by against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float64, Int64

from components.shared.index.vectors import Vectors


def exact_rows(blocks: Iterable[Vectors], queries: Vectors, depth: int) -> Int64[np.ndarray, "query depth"]:
    """Rows of the exact best `depth`, a block of vectors in memory at a time."""
    heap = faiss.ResultHeap(len(queries), depth, keep_max=True)
    first = 0
    for block in blocks:
        scores, rows = faiss.knn(
            queries, np.ascontiguousarray(block), min(depth, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, rows + first)
        first += len(block)
    heap.finalize()
    best_rows: Int64[np.ndarray, "query depth"] = heap.I
    return best_rows


def recall(best_rows: Int64[np.ndarray, "query depth"], exact: Int64[np.ndarray, "query wanted"]) -> float:
    """Share of the exact rows that were found, averaged over queries."""
    return float(np.mean(recalls(best_rows, exact)))


def recalls(
    rows: Int64[np.ndarray, "query depth"], exact: Int64[np.ndarray, "query wanted"]
) -> Float64[np.ndarray, " query"]:
    """Share of the exact rows that were found, a query.

    An index of fewer passages than are wanted returns fewer rows, while the exact ones are filled up with -1.
    """
    pairs = zip(rows, exact, strict=True)
    return np.array(
        [len(set(a[a >= 0].tolist()) & set(b[b >= 0].tolist())) / max(1, int((b >= 0).sum())) for a, b in pairs]
    )


def iter_blocks(paths: Sequence[Path]) -> Iterator[Vectors]:
    """Vectors of .npy shards (float32 or float16), memory-mapped, in the order given."""
    for path in paths:
        block = np.load(path, mmap_mode="r")
        yield block if block.dtype == np.float32 else block.astype(np.float32)
