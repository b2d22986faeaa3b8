"""FAISS and Milvus on the same vectors: recall, queries/s, insert rate, memory and disk of each, at several sizes.

Milvus is milvus-lite in its folder, or the server that --uri names. Each index is measured in a process of its own, so
that its memory is its own. FAISS and milvus-lite run in that process, so rates are of its CPU seconds, which other work
on the machine does not change; those of a server are of the clock. FAISS runs both with what the project would choose
for it and with Milvus's own structure.

    python tests/benchmarks/bench_backends.py --sizes 20000 100000
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from components.index.choice import candidates
from components.index.tuning import tune
from components.shared.index import (
    FaissIndex,
    IndexSettings,
    MilvusIndex,
    PassageIds,
    PassageIndex,
    exact_rows,
    open_index,
    recall,
    set_threads,
)

DIGEST, DEPTH, NUM_QUERIES = "b" * 64, 10, 512
_TIMED_SECONDS = 2.0


def clustered(size: int, dimension: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around as many centres as a twentieth of them, and queries near some of them."""
    centres = random.standard_normal((max(1, size // 20), dimension)).astype(np.float32)
    vectors = centres[random.integers(len(centres), size=size)]
    vectors += 0.7 * random.standard_normal(vectors.shape).astype(np.float32)
    queries = vectors[random.choice(size, NUM_QUERIES)] + 0.7 * random.standard_normal((NUM_QUERIES, dimension)).astype(
        np.float32
    )
    return tuple(rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, queries))  # type: ignore[return-value]


def in_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def now(uri: str) -> float:
    return time.monotonic() if "://" in uri else time.process_time()


def build(folder: Path, backend: str, factory: str, uri: str) -> tuple[PassageIndex, float]:
    paths = sorted(folder.glob("vectors-*.npy"))
    size, dimension = (
        sum(len(np.load(path, mmap_mode="r")) for path in paths),
        np.load(paths[0], mmap_mode="r").shape[1],
    )
    ids = (f"passage-{row}" for row in range(size))
    settings = IndexSettings(DIGEST, dimension, factory, "", size)
    scratch = folder / f"scratch-{backend}-{factory}"
    scratch.mkdir()
    start = now(uri)
    if backend == "milvus":
        index: PassageIndex = MilvusIndex.assemble(
            paths, PassageIds.of(ids), settings=settings, uri=uri, corpus="b", scratch=scratch, writer="bench"
        )
    else:
        sample = np.concatenate([np.load(path, mmap_mode="r") for path in paths])[:65_536]
        index = FaissIndex.assemble([paths], ids, sample=sample, settings=settings, scratch=scratch)
    made = folder / f"{backend}-{factory}"
    made.mkdir()
    index.save(made)
    return index, now(uri) - start


def queries_per_second(index: PassageIndex, queries: np.ndarray, at_once: int, uri: str) -> float:
    index.search_rows(queries[:at_once], DEPTH)
    start, searched = now(uri), 0
    while (seconds := now(uri) - start) < _TIMED_SECONDS:
        first = searched % NUM_QUERIES
        index.search_rows(queries[first : first + at_once], DEPTH)
        searched += at_once
    return searched / seconds


def one(folder: Path, backend: str, factory: str, uri: str) -> dict[str, object]:
    """Builds, tunes to the wanted recall, then measures what was opened anew in a process that built nothing."""
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    index, seconds = build(folder, backend, factory, uri)
    chosen, _ = tune(index, queries[::2], exact[::2], min_recall=0.95)
    index.save(folder / f"{backend}-{factory}")
    if backend == "milvus" and "://" not in uri:
        from milvus_lite import server_manager_instance

        # Another process opens the folder next.
        server_manager_instance.release_all()
    command = [sys.executable, __file__, "--measure", backend, factory, "--folder", str(folder), "--uri", uri]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rate = index.num_passages / seconds
    row = {"backend": backend, "factory": factory, "build_seconds": round(seconds, 1), "vectors/s": round(rate)}
    row["tuned"] = chosen.search_parameters if chosen else "below .95"
    return row | json.loads(done.stdout.splitlines()[-1])


def measured(folder: Path, backend: str, factory: str, uri: str) -> dict[str, object]:
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    before = resident()
    made = folder / f"{backend}-{factory}"
    start = now(uri)
    index = open_index(made, encoder_digest=DIGEST)
    opened = now(uri) - start
    rows = index.search_rows(queries[1::2], DEPTH)[1]
    figures: dict[str, object] = {
        "recall@10": round(recall(rows, exact[1::2]), 4),
        "q/s alone": round(queries_per_second(index, queries, 1, uri), 1),
        "q/s of 64": round(queries_per_second(index, queries, 64, uri), 1),
        "open_seconds": round(opened, 2),
        "resident_MiB": (resident() - before) >> 20,
    }
    disk = in_bytes(made) + (in_bytes(Path(uri)) if backend == "milvus" and "://" not in uri else 0)
    return figures | {"disk_MiB": disk >> 20}


def flags() -> str:
    known = Path("/proc/cpuinfo").read_text()
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in known]
    return f"{platform.machine()}, {os.cpu_count()} cores, {' '.join(has)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--uri", default="", help="of a Milvus server; empty: milvus-lite in a folder")
    parser.add_argument("--only", choices=("faiss", "milvus"), help="leave the other one out")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    set_threads(1)
    if chosen.measure:
        print(json.dumps(measured(chosen.folder, *chosen.measure, chosen.uri)))
        return
    print(f"{flags()}; 1 thread, dimension {chosen.dimension}, {NUM_QUERIES} queries, tuned on half of them to .95")
    for size in chosen.sizes:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            vectors, queries = clustered(size, chosen.dimension, np.random.default_rng(0))
            for start in range(0, size, 16_384):
                np.save(folder / f"vectors-{start:012d}.npy", vectors[start : start + 16_384])
            np.save(folder / "queries.npy", queries)
            np.save(folder / "exact.npy", exact_rows([vectors], queries, DEPTH))
            del vectors
            auto = candidates(size, chosen.dimension, min_recall=0.95)[0].factory
            rows = [("faiss", factory) for factory in dict.fromkeys(("Flat", auto, "HNSW32,Flat"))]
            rows += [("milvus", "Flat"), ("milvus", "HNSW32,Flat")]
            for backend, factory in (row for row in rows if chosen.only in (None, row[0])):
                uri = chosen.uri or str(folder / f"{factory.partition(',')[0]}.db")
                print(json.dumps({"size": size} | one(folder, backend, factory, uri)), flush=True)


if __name__ == "__main__":
    main()
