"""kill -9 and full disks: what was done stays, what was half done never shows, and the end is the same index."""

import resource
import shutil
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.index.job import build_index
from components.index.shards import in_dtype
from components.shared.dataset import Dataset
from components.shared.manifest import artifact_writer, read_manifest
from tests.components.index.test_index_job import WORDS, write_dataset
from tests.started import Started
from tests.tiny_encoder import SPECIAL_WORDS, spoil_word, write_tiny_encoder, write_tiny_encoder_files

NUM_KILLS = 20


def config_of(world: Path, name: str) -> IndexConfig:
    places = {
        "dataset_uri": str(world / "dataset"),
        "encoder_uri": str(world / "encoder"),
        "output_uri": str(world / name),
    }
    settings = {"factory": "IVF16,PQ8x4fs,RFlat", "search_parameters": "auto", "min_recall": 0.5}
    # 2,000 passages: 16 shards and 8 parts, each a file to be killed at.
    return IndexConfig(
        **places, **settings, shard_passages=125, part_passages=250, num_threads=1, num_recall_queries=64
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "dataset")
    write_tiny_encoder(folder / "encoder", 1, WORDS)
    build_index(config_of(folder, "unbroken"))
    return folder


def flags(config: IndexConfig) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in asdict(config).items()]


def start(config: IndexConfig) -> Started:
    return Started("components.index", *flags(config))


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
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, {limits}); "
    code += "runpy.run_module('components.index', run_name='__main__', alter_sys=True)"
    assert Started("components.index", *flags(config), code=code).wait() == 75, stage
    assert not Path(config.output_uri).exists()
    assert start(config).wait() == 0
    assert read_manifest(config.output_uri).digest == read_manifest(str(world / "unbroken")).digest


def spoilt_encoder(folder: Path, word: str) -> Path:
    """An encoder that gives nan for every text with the word."""
    with artifact_writer("export", ExportConfig(checkpoint_uri="spoilt", output_uri=str(folder))) as artifact:
        write_tiny_encoder_files(artifact.path, 1, WORDS)
        spoil_word(artifact.path, len(SPECIAL_WORDS) + WORDS.index(word))
    return folder


def test_a_passage_whose_vector_is_no_number_is_named(world: Path, tmp_path: Path) -> None:
    dataset = Dataset(world / "dataset")
    word = next(iter(dataset.passage_at(700).full_text.split()))
    config = replace(config_of(world, "spoilt"), encoder_uri=str(spoilt_encoder(tmp_path / "encoder", word)))
    with pytest.raises(ValueError, match=r"passage p\d+: its vector is not finite \(nan or inf\)") as caught:
        build_index(config)
    passage_id = str(caught.value).split(":")[0].removeprefix("passage ")
    assert word in dataset.passage(passage_id).full_text.split()
    assert not (world / "spoilt").exists()


def test_vectors_of_another_job_that_are_no_numbers_are_refused_naming_the_passage(world: Path, tmp_path: Path) -> None:
    config = replace(config_of(world, "shares"), product="vectors", shard_passages=500)
    build_index(config)
    with artifact_writer("index", replace(config, output_uri=str(tmp_path / "vectors"))) as artifact:
        for path in (world / "shares").glob("vectors*"):
            shutil.copy(path, artifact.path)
        name = artifact.path / "vectors-000000000500.npy"
        vectors = np.load(name)
        vectors[7, 3] = np.inf
        np.save(name, vectors)
    config = replace(config_of(world, "refused"), vectors_uri=str(tmp_path / "vectors"), shard_passages=500)
    with pytest.raises(ValueError, match=r"vectors-000000000500.npy: the vector of passage p507 is not finite"):
        build_index(config)


def test_a_vector_beyond_half_precision_is_refused_naming_the_passage(world: Path) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[1, 2] = 70_000
    dataset, config = Dataset(world / "dataset"), config_of(world, "half")
    assert in_dtype(vectors, config, dataset, 40) is vectors
    with pytest.raises(
        ValueError, match="passage p41: its vector is too long for float16; set vector_dtype to float32"
    ):
        in_dtype(vectors, replace(config, vector_dtype="float16"), dataset, 40)
