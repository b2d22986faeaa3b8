"""How deep to search: the cheapest parameters whose recall is proven on held-out queries, and the curve behind them.

Which parameters win is decided by the work they cause, not by a clock: a rebuilt index must be the same index. The
clock's readings go into the curve, for people.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from components.shared import log
from components.shared.index import PassageIndex, recalls

TUNE = "auto"
DEPTH = 10
_PROBES = tuple(2**power for power in range(11))
_REFINED = (2, 4, 10, 20, 40, 100)
_EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)
# One-sided 95 %: with that certainty the tuned parameters hold their recall on queries that they were not tuned on.
_QUANTILE = 1.645
# The curve goes on to here, so that it answers for other targets too.
_CURVE_RECALL = 0.995
_TIMED_SECONDS = 0.02

Queries = Float32[np.ndarray, "query dimension"]
Rows = Int64[np.ndarray, "query depth"]


@dataclass(frozen=True)
class Point:
    """One measurement: recall@10, its lower bound, and the speed of a batch of all queries on FAISS's threads."""

    search_parameters: str
    recall_10: float
    recall_10_low: float
    queries_per_second: float


def tune(
    index: PassageIndex, queries: Queries, exact: Rows, *, min_recall: float
) -> tuple[Point | None, list[dict[str, Any]]]:
    """The cheapest point whose recall is at least the target with 95 % certainty (None: there is none), and the curve.

    The curve keeps the points that found more than all cheaper ones. The index is left with the parameters of the
    chosen point.
    """
    chosen: Point | None = None
    curve: list[Point] = []
    for search_parameters in grid(index.structure(), index.num_passages, index.settings.dimension):
        index.set_search_parameters(search_parameters)
        point = measure(index, queries, exact)
        if not curve or point.recall_10 > curve[-1].recall_10:
            curve.append(point)
        if chosen is None and point.recall_10_low >= min_recall:
            chosen = point
        if chosen is not None and point.recall_10_low >= _CURVE_RECALL:
            break
    if chosen is not None:
        index.set_search_parameters(chosen.search_parameters)
        log.event("search parameters tuned", **asdict(chosen))
    return chosen, [asdict(point) for point in curve]


def measure(index: PassageIndex, queries: Queries, exact: Rows) -> Point:
    """recall@10 and speed of the index as it is set."""
    index.search_rows(queries[:8], DEPTH)
    start = time.perf_counter()
    num_searched = 0
    while (seconds := time.perf_counter() - start) < _TIMED_SECONDS:
        _, rows = index.search_rows(queries, DEPTH)
        num_searched += len(queries)
    shares = recalls(rows, exact)
    error = float(np.std(shares, ddof=1) / np.sqrt(len(shares))) if len(shares) > 1 else 0.0
    mean = float(np.mean(shares))
    return Point(index.settings.search_parameters, mean, mean - _QUANTILE * error, round(num_searched / seconds, 1))


def grid(structure: Mapping[str, int], num_passages: int, dimension: int) -> Iterator[str]:
    """Search parameters of a structure, those that cause the least work first.

    Work of an IVF index in bytes: codes of the probed lists, plus twice the vectors that are scored again. Twice,
    because they lie scattered: 0.043 ns a byte of codes against 0.089 ns a byte of vectors were measured.
    """
    if "nprobe" in structure:
        num_lists, code_bytes = structure["nprobe"], structure.get("code_bytes", dimension * 4)
        probes = [number for number in _PROBES if number <= num_lists]
        refined = _REFINED if "k_factor_rf" in structure else (0,)
        work = {
            (number, factor): number * num_passages / num_lists * code_bytes + 2 * factor * DEPTH * dimension * 4
            for number in probes
            for factor in refined
        }
        for number, factor in sorted(work, key=lambda key: work[key]):
            yield f"nprobe={number}" + (f",k_factor_rf={factor}" if factor else "")
    elif "efSearch" in structure:
        yield from (f"efSearch={effort}" for effort in _EFFORTS)
    elif "k_factor_rf" in structure:
        yield from (f"k_factor_rf={factor}" for factor in _REFINED)
    else:
        yield ""
