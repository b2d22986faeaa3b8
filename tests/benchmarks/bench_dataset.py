"""How fast a dataset of a million passages opens, and what reading at random from it costs.

Run: python tests/benchmarks/bench_dataset.py [--num-passages 1000000] [--folder F]

Each measurement is a process of its own, so that nothing read before stands in its memory. Resident memory is told
apart: private memory is what the process needs; pages of the memory map are shared, and the kernel takes them back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.records import Passage

_WORDS = (
    "the",
    "river",
    "valley",
    "ice",
    "carves",
    "stone",
    "water",
    "light",
    "slowly",
    "under",
    "mountain",
    "forest",
    "glacier",
    "wind",
)
_PASSAGE_WORDS = 56  # mean of MS MARCO
_NUM_READ = 10_000


def make(folder: Path, num_passages: int) -> None:
    """The same passages as a dataset and as corpus.jsonl."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    writer = DatasetWriter(folder)
    with (folder / "corpus.jsonl").open("wb") as file:
        for number in range(num_passages):
            passage = Passage(
                str(number), "", " ".join(_WORDS[word] for word in generator.integers(0, len(_WORDS), _PASSAGE_WORDS))
            )
            writer.add_passage(passage)
            file.write(orjson.dumps({"_id": passage.passage_id, "title": "", "text": passage.text}) + b"\n")
    writer.finish([], [])


def measure_dataset(folder: Path) -> dict[str, float]:
    """Opens the dataset, reads passages at random by id, and watches memory."""
    passage_ids = [
        str(number)
        for number in np.random.default_rng(1).integers(0, len(np.load(folder / "passage_order.npy")), _NUM_READ)
    ]
    before = _memory()
    start = time.perf_counter()
    dataset = Dataset(folder)
    assert dataset.num_passages
    opened = time.perf_counter()
    for passage_id in passage_ids[: _NUM_READ // 2]:
        assert dataset.passage(passage_id).passage_id == passage_id
    half = _memory()
    for passage_id in passage_ids[_NUM_READ // 2 :]:
        assert dataset.passage(passage_id).passage_id == passage_id
    done = time.perf_counter()
    after = _memory()
    return {
        "open_seconds": opened - start,
        "read_microseconds_a_passage": (done - opened) / _NUM_READ * 1e6,
        "private_growth_mib": (after["private"] - before["private"]) / 2**20,
        "private_growth_of_the_second_half_mib": (after["private"] - half["private"]) / 2**20,
        "mapped_growth_mib": (after["mapped"] - before["mapped"]) / 2**20,
    }


def measure_scan(folder: Path) -> dict[str, float]:
    """Reads every passage once, in order."""
    before = _memory()
    start = time.perf_counter()
    num_passages = sum(1 for _ in Dataset(folder).iter_passages())
    seconds = time.perf_counter() - start
    return {
        "scan_passages_per_second": num_passages / seconds,
        "private_growth_mib": (_memory()["private"] - before["private"]) / 2**20,
    }


def measure_json(folder: Path) -> dict[str, float]:
    """The plain way: every line into a dictionary by id."""
    before = _memory()
    start = time.perf_counter()
    with (folder / "corpus.jsonl").open("rb") as file:
        corpus = {row["_id"]: row for row in map(orjson.loads, file)}
    assert corpus
    return {
        "load_seconds": time.perf_counter() - start,
        "private_growth_mib": (_memory()["private"] - before["private"]) / 2**20,
    }


def main() -> None:
    """Makes the corpus where it is missing and prints the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--num-passages", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="kept for the next run; default is a temporary one")
    parser.add_argument("--only", choices=list(_MEASURES), help="measure in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.only:
        print(orjson.dumps(_MEASURES[arguments.only](arguments.folder)).decode())
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "passage_order.npy").exists():
            start = time.perf_counter()
            make(folder, arguments.num_passages)
            print(f"writing {arguments.num_passages:,} passages: {time.perf_counter() - start:.1f} s")
        print(f"corpus.arrow: {(folder / 'corpus.arrow').stat().st_size / 2**20:.0f} MiB")
        found = {name: _measure_apart(name, folder) for name in _MEASURES}
    for name, figures in found.items():
        for figure, value in figures.items():
            print(f"{name:8} {figure:40} {value:12.4g}")
    ratio = found["json"]["load_seconds"] / found["dataset"]["open_seconds"]
    print(f"opening is {ratio:,.0f} times as fast as loading {arguments.num_passages:,} lines with orjson")


def _measure_apart(name: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    figures: dict[str, float] = orjson.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return figures


def _memory() -> dict[str, int]:
    """Resident bytes of this process (Linux): its own, and those of files mapped into it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssFile"))
    }
    return {"private": fields["RssAnon"], "mapped": fields["RssFile"]}


_MEASURES: dict[str, Callable[[Path], dict[str, float]]] = {
    "dataset": measure_dataset,
    "scan": measure_scan,
    "json": measure_json,
}

if __name__ == "__main__":
    main()
