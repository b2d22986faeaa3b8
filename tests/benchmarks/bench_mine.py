"""Mining at scale: speed and memory of BM25 on the disk against bm25s in memory, of dense search, and of pools.

    python tests/benchmarks/bench_mine.py                       # 40,000 and 80,000 passages
    python tests/benchmarks/bench_mine.py --sizes 100000 1000000

Passages are random words with the frequencies of a natural language (Zipf), 56 a passage as in MS MARCO. Each phase is
a process of its own, so that its peak memory is its own: "held" is anonymous memory, which nobody can take back;
"mapped" are pages of the index's files, which the kernel drops when it needs the room.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("RETRIEVER_LOG", "json")

from components.mine.audit import audit_pools  # noqa: E402
from components.mine.config import MineConfig  # noqa: E402
from components.mine.pools import make_pool  # noqa: E402
from components.shared.bm25 import BM25, BM25_NAME, K1, B, build_bm25  # noqa: E402
from components.shared.dataset import Dataset, DatasetWriter  # noqa: E402
from components.shared.index import FaissIndex, IndexSettings, open_index  # noqa: E402
from components.shared.own_passage import same_text  # noqa: E402
from components.shared.records import Passage  # noqa: E402

FULL = 8_841_823
WORDS, DIMENSION, DEPTH, BLOCK = 56, 384, 100, 50_000
VOCABULARY = 1_000_000


class PeakHeld(threading.Thread):
    """Largest anonymous memory of this process, sampled."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.kibibytes = 0
        self.start()

    def run(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            self.kibibytes = max(
                self.kibibytes, int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
            )
            time.sleep(0.02)


def words(generator: np.random.Generator, count: int) -> np.ndarray:
    """Word numbers with P(rank r) proportional to 1/r, by inverting the continuous distribution."""
    return np.exp(generator.random(count) * np.log(VOCABULARY)).astype(np.int64)


def texts(num_passages: int) -> Iterator[str]:
    generator = np.random.default_rng(0)
    for start in range(0, num_passages, BLOCK):
        for row in words(generator, min(BLOCK, num_passages - start) * WORDS).reshape(-1, WORDS).tolist():
            yield " ".join([f"w{word}x" for word in row])


def queries(count: int) -> list[str]:
    return [
        " ".join(f"w{word}x" for word in row)
        for row in words(np.random.default_rng(1), count * 6).reshape(count, 6).tolist()
    ]


def corpus(folder: Path, num_passages: int, _: int) -> dict[str, float]:
    (folder / "dataset").mkdir(parents=True)
    writer = DatasetWriter(folder / "dataset")
    for number, text in enumerate(texts(num_passages)):
        writer.add_passage(Passage(f"p{number}", "", text))
    writer.finish([], [])
    return {}


def build(folder: Path, num_passages: int, _: int) -> dict[str, float]:
    start = time.monotonic()
    dataset = Dataset(folder / "dataset")
    build_bm25(dataset, dataset.folder / BM25_NAME, scratch=folder / "blocks")
    return {"passages_per_second": num_passages / (time.monotonic() - start)}


def search(folder: Path, _: int, num_queries: int) -> dict[str, float]:
    index = BM25(Dataset(folder / "dataset"))
    start = time.monotonic()
    hits = index.search(queries(num_queries), DEPTH)
    return {"queries_per_second": num_queries / (time.monotonic() - start), "hits": sum(map(len, hits))}


def in_memory(folder: Path, num_passages: int, num_queries: int) -> dict[str, float]:
    """What the disk is compared with: bm25s as its documentation shows it, the same tokeniser."""
    import bm25s
    import Stemmer

    stemmer, start = Stemmer.Stemmer("porter"), time.monotonic()
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    passages = [passage.full_text for passage in Dataset(folder / "dataset").iter_passages()]
    index.index(bm25s.tokenize(passages, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    built = time.monotonic()
    asked = bm25s.tokenize(queries(num_queries), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
    index.retrieve(asked, k=DEPTH, show_progress=False)
    seconds = time.monotonic() - built
    return {"passages_per_second": num_passages / (built - start), "queries_per_second": num_queries / seconds}


def vectors(folder: Path, num_passages: int, _: int) -> dict[str, float]:
    generator = np.random.default_rng(2)
    blocks = (
        generator.standard_normal((min(BLOCK, num_passages - start), DIMENSION), dtype=np.float32)
        for start in range(0, num_passages, BLOCK)
    )
    settings = IndexSettings("bench", DIMENSION, "Flat", "", num_passages)
    (folder / "index").mkdir()
    sample = np.zeros((1, DIMENSION), dtype=np.float32)
    FaissIndex.build(blocks, (f"p{number}" for number in range(num_passages)), sample=sample, settings=settings).save(
        folder / "index"
    )
    return {}


def dense(folder: Path, _: int, num_queries: int) -> dict[str, float]:
    index = open_index(folder / "index", encoder_digest="bench")
    asked = np.random.default_rng(3).standard_normal((num_queries, DIMENSION), dtype=np.float32)
    start = time.monotonic()
    hits = index.search(asked, DEPTH)
    return {"queries_per_second": num_queries / (time.monotonic() - start), "hits": sum(map(len, hits))}


def pools(folder: Path, _: int, num_queries: int) -> dict[str, float]:
    """From hits to audited pools: both filters, texts compared."""
    dataset = Dataset(folder / "dataset")
    config = MineConfig(dataset_uri="", encoder_uri="", index_uri="", output_uri="", relative_margin=0.95, depth=DEPTH)
    index = open_index(folder / "index", encoder_digest="bench")
    asked = np.random.default_rng(3).standard_normal((num_queries, DIMENSION), dtype=np.float32)
    lexical = BM25(dataset).search(queries(num_queries), DEPTH)
    semantic = index.search(asked, DEPTH)
    start = time.monotonic()
    made = []
    for number, (by_words, by_vector) in enumerate(zip(lexical, semantic, strict=True)):
        scores = {hit.passage_id: hit.score for hit in by_vector} | {hit.passage_id: 0.0 for hit in by_words}
        positives = [by_vector[0].passage_id]
        mined = make_pool(
            f"q{number}",
            bm25=by_words,
            dense=by_vector,
            positives=positives,
            config=config,
            text_of=lambda passage_id: same_text(dataset.passage(passage_id).full_text),
            scores=scores,
        )
        made.append(mined.pool)
    audit_pools(made, dataset, {}, num_scored=0, num_suspected=0, config=config)
    return {"queries_per_second": num_queries / (time.monotonic() - start)}


PHASES: dict[str, Callable[[Path, int, int], dict[str, float]]] = {
    "corpus": corpus,
    "build": build,
    "search": search,
    "in_memory": in_memory,
    "vectors": vectors,
    "dense": dense,
    "pools": pools,
}


def measured(phase: str, folder: Path, num_passages: int, num_queries: int) -> dict[str, float]:
    """A phase in a process of its own."""
    arguments = [sys.executable, __file__, "--phase", phase, "--folder", str(folder), "--sizes", str(num_passages)]
    ended = subprocess.run(
        [*arguments, "--queries", str(num_queries)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    values: dict[str, float] = json.loads(ended.stdout)
    return values


def run_phase(phase: str, folder: Path, num_passages: int, num_queries: int) -> None:
    peak = PeakHeld()
    values = PHASES[phase](folder, num_passages, num_queries)
    time.sleep(0.05)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**values, "held_mebibytes": peak.kibibytes / 1024, "resident_mebibytes": largest / 1024}))


def extrapolated(sizes: list[int], mebibytes: list[float]) -> float:
    """A straight line through the two largest sizes, at MS MARCO's 8.8 million passages."""
    (size, larger), (low, high) = sizes[-2:], mebibytes[-2:]
    return high + (FULL - larger) * (high - low) / (larger - size)


def main(sizes: list[int], num_queries: int, *, skip_in_memory_above: int) -> None:
    rows: dict[str, list[float]] = {}
    print("| passages | phase | passages/s | queries/s | held MiB | resident MiB |\n|---|---|---|---|---|---|")
    for num_passages in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-mine-") as name:
            folder = Path(name)
            for phase in PHASES:
                if phase == "in_memory" and num_passages > skip_in_memory_above:
                    continue
                values = measured(phase, folder, num_passages, num_queries)
                rows.setdefault(phase, []).append(values["held_mebibytes"])
                if phase in ("corpus", "vectors"):
                    continue
                speeds = [
                    f"{values[unit]:,.0f}" if unit in values else ""
                    for unit in ("passages_per_second", "queries_per_second")
                ]
                memory = f"{values['held_mebibytes']:,.0f} | {values['resident_mebibytes']:,.0f}"
                print(f"| {num_passages:,} | {phase} | {' | '.join(speeds)} | {memory} |", flush=True)
            if num_passages == sizes[-1]:
                bytes_on_disk = sum(
                    path.stat().st_size for path in (folder / "dataset" / BM25_NAME).rglob("*") if path.is_file()
                )
                print(
                    f"index on disk: {bytes_on_disk / num_passages:,.0f} bytes a passage, "
                    f"{bytes_on_disk / 2**20:,.0f} MiB"
                )
            shutil.rmtree(folder / "dataset")
    if len(sizes) > 1:
        for phase in ("build", "search", "in_memory"):
            if len(rows[phase]) == len(sizes):
                print(
                    f"{phase}: {extrapolated(sizes, rows[phase]) / 1024:.1f} GiB held at {FULL:,} passages "
                    "by the straight line"
                )
    compared = rows["in_memory"][-1] / max(
        rows["build"][len(rows["in_memory"]) - 1], rows["search"][len(rows["in_memory"]) - 1]
    )
    print(f"ratio: bm25s in memory holds {compared:.1f} times what the index on the disk holds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[40_000, 80_000], help="passages")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--skip-in-memory-above", type=int, default=300_000, help="passages")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        run_phase(given.phase, given.folder, given.sizes[0], given.queries)
    else:
        main(given.sizes, given.queries, skip_in_memory_above=given.skip_in_memory_above)
