"""kill -9 and full disks: what was done stays, what was half done never shows, and the end is the same index."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from components.index.config import IndexConfig
from components.index.job import build_index
from components.shared.manifest import read_manifest
from tests.components.index.test_index_job import WORDS, write_dataset
from tests.tiny_encoder import write_tiny_encoder

NUM_KILLS = 20


def config_of(world: Path, name: str) -> IndexConfig:
    places = {
        "dataset_uri": str(world / "dataset"),
        "encoder_uri": str(world / "encoder"),
        "output_uri": str(world / name),
    }
    its = {"factory": "IVF16,PQ8x4fs,RFlat", "search_parameters": "auto", "min_recall": 0.5}
    # 2,000 passages: 16 shards and 8 parts, each a file to be killed at.
    return IndexConfig(**places, **its, shard_passages=125, part_passages=250, num_threads=1, num_recall_queries=64)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "dataset")
    write_tiny_encoder(folder / "encoder", 1, WORDS)
    build_index(config_of(folder, "unbroken"))
    return folder


def start(config: IndexConfig, before: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(config).items()]
    return subprocess.Popen(
        [sys.executable, "-m", "components.index", *flags], stderr=subprocess.DEVNULL, preexec_fn=before
    )


def num_files(folder: Path) -> int:
    """Finished and half-written files: every moment of encoding, training, adding and saving changes their number."""
    return sum(1 for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


@pytest.mark.slow
def test_kill_9_at_twenty_moments_ends_in_the_same_index(world: Path) -> None:
    config = config_of(world, "killed")
    partial = world / "killed.partial"
    killed_at = []
    while len(killed_at) < NUM_KILLS:
        seen = num_files(partial)
        process = start(config)
        # One file further each time, whole or half written: 16 shards, the trained index, 8 parts, three files of the
        # index.
        while process.poll() is None and num_files(partial) <= seen:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (world / "killed").exists()
        killed_at.append(num_files(partial))
    assert start(config).wait() == 0
    assert read_manifest(str(world / "killed")).digest == read_manifest(str(world / "unbroken")).digest


@pytest.mark.parametrize(
    ("largest_file_bytes", "stage"),
    # A shard of vectors has 16 kB, the index with its vectors 280 kB; ids have 20 kB. FAISS and NumPy say it each in
    # their own way.
    [(8_000, "encoding"), (60_000, "adding or saving")],
)
def test_a_full_disk_asks_for_a_retry_and_loses_nothing(world: Path, largest_file_bytes: int, stage: str) -> None:
    config = config_of(world, f"full-{largest_file_bytes}")
    limits = (largest_file_bytes, resource.RLIM_INFINITY)
    assert start(config, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)).wait() == 75, stage
    assert not Path(config.output_uri).exists()
    assert start(config).wait() == 0
    assert read_manifest(config.output_uri).digest == read_manifest(str(world / "unbroken")).digest
