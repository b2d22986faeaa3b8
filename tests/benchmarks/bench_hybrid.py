"""The modes of /search beside each other in one run: latency at 1 and 64 clients, CPU a request, memory.

Run: python tests/benchmarks/bench_hybrid.py [--workdir F] [--seconds 6] [--rounds 3] [--passages 100000]

Each round asks in every mode in turn, so that a busy neighbour takes from all alike. The second part is the searching
alone, without HTTP and encoder, over as many made passages of Zipfian words and random vectors as `--passages` says.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))  # `python tests/benchmarks/...` puts this folder there, not the root

import numpy as np  # noqa: E402

from components.shared.bm25 import BM25, BM25_NAME, build_bm25  # noqa: E402
from components.shared.dataset import Dataset, DatasetWriter  # noqa: E402
from components.shared.fusion.hybrid import Hybrid  # noqa: E402
from components.shared.fusion.tuned import MODES, Fusion  # noqa: E402
from components.shared.index import FaissIndex, IndexSettings, set_threads  # noqa: E402
from components.shared.records import Passage  # noqa: E402
from tests.benchmarks.bench_serve import Server, load, make, texts_of  # noqa: E402

CLIENTS = (1, 64)
DIMENSION, DEPTH = 384, 10


def percentile(latencies: list[float], share: float) -> float:
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def served(workdir: Path, seconds: float, rounds: int) -> None:
    """p50 and p99 of each mode over HTTP, medians over the rounds, and what of the CPU a request took."""
    queries = texts_of(workdir)["query"]
    server = Server(workdir, "--max-queue-seconds=60")
    print(f"resident when ready: {server.resident_mib():.0f} MiB")
    print("| clients | mode | p50 ms | p99 ms | requests/s | CPU ms | p50 of dense | p99 of dense |")
    print("|---|---|---|---|---|---|---|---|")
    for num_clients in CLIENTS:
        seen: dict[str, dict[str, list[float]]] = {
            mode: {"p50": [], "p99": [], "rate": [], "cpu": []} for mode in MODES
        }
        for _ in range(rounds):
            for mode in MODES:
                before = server.cpu_seconds()
                bodies = [{"query": text, "mode": mode, "truncate": True} for text in queries]
                result = load(server.url, "/search", bodies, clients=num_clients, seconds=seconds, settle_seconds=3.0)
                latencies = result["latencies"]["200"]
                assert set(result["latencies"]) == {"200"}
                seen[mode]["p50"].append(percentile(latencies, 0.5))
                seen[mode]["p99"].append(percentile(latencies, 0.99))
                seen[mode]["rate"].append(result["counted"]["200"] / result["seconds"])
                seen[mode]["cpu"].append((server.cpu_seconds() - before) / len(latencies) * 1000)
        for mode in MODES:
            p50, p99, rate, cpu = (median(seen[mode][name]) for name in ("p50", "p99", "rate", "cpu"))
            ratios = f"{p50 / median(seen['dense']['p50']):.2f} | {p99 / median(seen['dense']['p99']):.2f}"
            print(f"| {num_clients} | {mode} | {p50:.1f} | {p99:.1f} | {rate:.0f} | {cpu:.2f} | {ratios} |")
    print(f"resident at the end: {server.resident_mib():.0f} MiB, peak {server.peak_mib():.0f} MiB")
    server.close()
    bare = Server(workdir, "--dataset-uri=")
    print(f"without a dataset, so dense alone: resident when ready {bare.resident_mib():.0f} MiB")
    bare.close()


def searched(folder: Path, num_passages: int) -> None:
    """One query at a time, without HTTP and encoder."""
    generator = np.random.default_rng(1)

    def texts(count: int, num_words: int) -> list[str]:
        words = np.minimum(generator.zipf(1.2, size=(count, num_words)), 200_000)
        return [" ".join(f"w{word}x" for word in row) for row in words.tolist()]

    (folder / "made").mkdir()
    writer = DatasetWriter(folder / "made", language="en")
    for number, text in enumerate(texts(num_passages, 60)):
        writer.add_passage(Passage(f"p{number}", "", text))
    writer.finish([], [])
    dataset = Dataset(folder / "made")
    start = time.perf_counter()
    build_bm25(dataset, dataset.folder / BM25_NAME, scratch=folder / "blocks")
    print(f"{num_passages:,} passages: BM25 built in {time.perf_counter() - start:.1f} s")
    vectors = generator.standard_normal((num_passages, DIMENSION), dtype=np.float32)
    ids = (f"p{number}" for number in range(num_passages))
    settings = IndexSettings("bench", DIMENSION, "Flat", "", num_passages)
    index = FaissIndex.build([vectors], ids, sample=vectors[:1], settings=settings)
    set_threads(1)
    queries, asked = texts(100, 8), generator.standard_normal((100, DIMENSION), dtype=np.float32)
    bm25 = BM25(dataset)
    hybrid = Hybrid(bm25, index, Fusion(weight=0.3))
    searches: dict[str, Callable[[int], object]] = {
        "dense": lambda row: index.search(asked[row : row + 1], DEPTH),
        "bm25": lambda row: bm25.search(queries[row : row + 1], DEPTH),
        "hybrid": lambda row: hybrid.search(queries[row : row + 1], asked[row : row + 1], DEPTH),
        "scores of 1 x 200": lambda row: bm25.scores_of(queries[row : row + 1], [np.arange(0, 2000, 10)]),
        "scores of 32 x 128": lambda row: bm25.scores_of(queries[:32], [np.arange(row, row + 1280, 10)] * 32),
    }
    for name, search in searches.items():
        search(0)
        taken = []
        for row in range(len(queries)):
            start = time.perf_counter()
            search(row)
            taken.append(time.perf_counter() - start)
        print(f"{name}: p50 {percentile(taken, 0.5):.2f} ms, p99 {percentile(taken, 0.99):.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="encoder, index and dataset of an earlier run; made where missing")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passages", type=int, default=100_000)
    arguments = parser.parse_args()
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    wide = " ".join(flag for flag in ("avx2", "avx512f", "avx512_vnni", "amx_bf16", "amx_int8") if flag in flags)
    print(f"{os.cpu_count()} cores with {wide}")
    with tempfile.TemporaryDirectory() as folder:
        workdir = arguments.workdir or Path(folder) / "served"
        if not (workdir / "index").is_dir():
            make(workdir)
        served(workdir, arguments.seconds, arguments.rounds)
        searched(Path(folder), arguments.passages)


if __name__ == "__main__":
    main()
