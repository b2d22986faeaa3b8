"""What `auto` chooses for clustered vectors, and what it is worth against exact search.

Run: python tests/benchmarks/bench_index.py [--num-vectors 200000] [--min-recall 0.95] [--memory-mib 0] [--extrapolate]

Queries and vectors come from the same clusters; the search parameters are tuned on half of the queries, everything is
reported on the other half. Exact search and the chosen index are timed in turn, several times, on the same threads.
`--extrapolate` adds what build time, memory and speed become at 8.8 and 100 million vectors, by the formulas that it
prints.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from components.index.choice import Candidate, candidates, lists_for
from components.index.shards import sample_rows
from components.index.tuning import DEPTH, tune
from components.shared.encoding.encoder import num_cores
from components.shared.index import (
    INDEX_NAME,
    FaissIndex,
    IndexSettings,
    PassageIndex,
    exact_rows,
    iter_blocks,
    recall,
    set_threads,
)

_DIMENSION, _NUM_QUERIES, _ROUNDS, _BLOCK = 384, 1024, 5, 16_384
# Shards in a part: a million vectors, as the job's default.
_PART = 64


def main() -> None:
    """Builds, tunes, measures and prints."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--num-vectors", type=int, default=200_000)
    parser.add_argument("--min-recall", type=float, default=0.95)
    parser.add_argument("--memory-mib", type=int, default=0)
    parser.add_argument("--extrapolate", action="store_true")
    arguments = parser.parse_args()
    set_threads(num_cores())
    with tempfile.TemporaryDirectory(prefix="bench-index-") as folder:
        measure(Path(folder), arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """One size, from vectors on disk to the table."""
    num_vectors = arguments.num_vectors
    paths = write_vectors(folder, num_vectors)
    queries = clustered(_NUM_QUERIES, num_vectors, seed=1)
    exact = exact_rows(iter_blocks(paths), queries, DEPTH)
    chosen = candidates(
        num_vectors, _DIMENSION, min_recall=arguments.min_recall, memory_bytes=arguments.memory_mib << 20
    )[0]
    index, training_seconds, adding_seconds = build(folder, paths, chosen, num_vectors)
    point, curve = tune(index, queries[::2], exact[::2], min_recall=arguments.min_recall)
    assert point is not None, f"{chosen.factory} does not reach {arguments.min_recall}"
    index.save(folder)
    mebibytes = (folder / INDEX_NAME).stat().st_size / 2**20
    print(
        f"{num_vectors:,} vectors of {_DIMENSION} dimensions: {chosen.factory}, {point.search_parameters}, "
        f"{num_cores()} threads"
    )
    print(
        f"  build: training {training_seconds:.1f} s, adding {adding_seconds:.1f} s; peak of the process "
        f"{_peak_mebibytes():,.0f} MiB"
    )
    print(f"  index file {mebibytes:,.0f} MiB (estimated {chosen.memory_bytes / 2**20:,.0f})")
    for its in curve:
        print(
            f"  curve: {its['search_parameters']:28} recall@10 {its['recall_10']:.4f}  "
            f"{its['queries_per_second']:9,.0f} queries/s"
        )
    flat = FaissIndex.build(
        iter_blocks(paths), map(str, range(num_vectors)), sample=queries[:0], settings=settings("Flat", num_vectors)
    )
    speed = compare(flat, index, queries[1::2], exact[1::2])
    if arguments.extrapolate:
        extrapolate(num_vectors, training_seconds, adding_seconds, mebibytes, speed)


def build(folder: Path, paths: list[Path], chosen: Candidate, num_vectors: int) -> tuple[PassageIndex, float, float]:
    """The index as the job builds it, and the seconds of training and of adding."""
    scratch = folder / "scratch"
    scratch.mkdir()
    sample = sample_rows(paths, chosen.training_vectors, 0, dimension=_DIMENSION)
    start = time.time()
    parts = [paths[first : first + _PART] for first in range(0, len(paths), _PART)]
    ids = map(str, range(num_vectors))
    index = FaissIndex.assemble(
        parts, ids, sample=sample, settings=settings(chosen.factory, num_vectors), scratch=scratch
    )
    end, trained = time.time(), (scratch / "trained.faiss").stat().st_mtime
    return index, trained - start, end - trained


def compare(flat: PassageIndex, index: PassageIndex, queries: np.ndarray, exact: np.ndarray) -> float:
    """Both indexes in turn; prints the ratio, returns the chosen index's queries per second."""
    speeds = [(queries_per_second(flat, queries), queries_per_second(index, queries)) for _ in range(_ROUNDS)]
    flat_speed, speed = (float(np.median(column)) for column in zip(*speeds, strict=True))
    ratio = float(np.median([ours / theirs for theirs, ours in speeds]))
    found = recall(index.search_rows(queries, DEPTH)[1], exact)
    print(
        f"  held-out queries: recall@10 {found:.4f}; {speed:,.0f} queries/s against {flat_speed:,.0f} of Flat: "
        f"{ratio:.1f} x"
    )
    return speed


def settings(factory: str, num_vectors: int) -> IndexSettings:
    """Of an index that belongs to no encoder."""
    return IndexSettings("-", _DIMENSION, factory, "", num_vectors)


def _peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_vectors(folder: Path, num_vectors: int) -> list[Path]:
    """Shards of .npy, one generated at a time."""
    paths = []
    for number, first in enumerate(range(0, num_vectors, _BLOCK)):
        paths.append(folder / f"vectors-{number:06d}.npy")
        np.save(paths[-1], clustered(min(_BLOCK, num_vectors - first), num_vectors, seed=100 + number))
    return paths


def clustered(num_rows: int, num_vectors: int, *, seed: int) -> np.ndarray:
    """Unit vectors around one centre for every hundred vectors."""
    centres = np.random.default_rng(0).standard_normal((max(1, num_vectors // 100), _DIMENSION), dtype=np.float32)
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, len(centres), num_rows)]
    vectors += 0.9 * random.standard_normal((num_rows, _DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def queries_per_second(index: PassageIndex, queries: np.ndarray) -> float:
    """Of all queries in one batch."""
    start = time.perf_counter()
    index.search_rows(queries, DEPTH)
    return len(queries) / (time.perf_counter() - start)


def extrapolate(
    num_vectors: int, training_seconds: float, adding_seconds: float, mebibytes: float, speed: float
) -> None:
    """By work: k-means compares 64 x lists vectors with all lists, adding all vectors; a search scans a share."""
    lists = lists_for(num_vectors)
    print(
        "  extrapolated: training ~ lists^2; adding ~ vectors x lists; memory ~ vectors; queries/s ~ 1 / (lists + "
        "vectors / lists)"
    )
    for size in (8_800_000, 100_000_000):
        its = lists_for(size)
        hours = (training_seconds * (its / lists) ** 2 + adding_seconds * size / num_vectors * its / lists) / 3600
        searched = speed * (lists + num_vectors / lists) / (its + size / its)
        gibibytes = mebibytes * size / num_vectors / 1024
        print(
            f"  {size:>11,} vectors, {its} lists: build {hours:.2f} h, {gibibytes:.0f} GiB, about {searched:,.0f} "
            "queries/s"
        )


if __name__ == "__main__":
    main()
