"""The job: whatever way the vectors come about, the index is the same, or is refused with a reason."""

from pathlib import Path

import faiss
import numpy as np
import orjson
import pytest

from components.index.config import IndexConfig
from components.index.job import build_index
from components.prepare.config import PrepareConfig
from components.shared.dataset import DatasetWriter
from components.shared.encoding.encoder import Encoder
from components.shared.index import open_index
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Passage, Qrel, Query
from tests.tiny_encoder import write_tiny_encoder

WORDS = [f"word{number}" for number in range(300)]
SIZE = 2000


def write_dataset(folder: Path, *, seed: int = 0, num_queries: int = 100, judged: bool = False) -> Path:
    random = np.random.default_rng(seed)
    topics = [random.choice(WORDS, size=12) for _ in range(40)]

    def text(topic: int) -> str:
        return " ".join([*random.choice(topics[topic], size=6), *random.choice(WORDS, size=random.integers(2, 12))])

    with artifact_writer(
        "prepare", PrepareConfig(collection_uri=f"made-{seed}-{num_queries}-{judged}", output_uri=str(folder))
    ) as artifact:
        writer = DatasetWriter(artifact.path)
        for number in range(SIZE):
            writer.add_passage(Passage(f"p{number}", "", text(number % 40)))
        qrels = [(Qrel(f"q{number}", f"p{number}", 1), "dev") for number in range(num_queries)] if judged else []
        writer.finish([(Query(f"q{number}", text(number % 40)), "dev") for number in range(num_queries)], qrels)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "dataset")
    write_tiny_encoder(folder / "encoder", 1, WORDS)
    return folder


def config_of(world: Path, name: str, **settings: object) -> IndexConfig:
    places = {
        "dataset_uri": str(world / "dataset"),
        "encoder_uri": str(world / "encoder"),
        "output_uri": str(world / name),
    }
    return IndexConfig(**{**places, "shard_passages": 300, "num_threads": 1, **settings})  # type: ignore[arg-type]


def digest(world: Path, name: str) -> str:
    return read_manifest(str(world / name)).digest


def test_auto_takes_exact_search_for_a_small_corpus(world: Path) -> None:
    build_index(config_of(world, "auto"))
    metrics = read_manifest(str(world / "auto")).metrics
    assert (metrics["factory"], metrics["recall_10"], metrics["num_passages"]) == ("Flat", 1.0, SIZE)
    assert metrics["num_recall_queries"] == 50


def test_tuned_parameters_and_their_curve_are_in_the_manifest(world: Path) -> None:
    build_index(config_of(world, "tuned", factory="IVF16,PQ8x4fs,RFlat", search_parameters="auto", min_recall=0.8))
    metrics = read_manifest(str(world / "tuned")).metrics
    assert metrics["recall_10"] >= 0.8
    assert metrics["search_parameters"] in [point["search_parameters"] for point in metrics["curve"]]
    assert all(point["queries_per_second"] > 0 for point in metrics["curve"])
    settings = orjson.loads((world / "tuned" / "index.json").read_bytes())
    assert settings["search_parameters"] == metrics["search_parameters"]


@pytest.mark.parametrize("factory", ["Flat", "IVF16,PQ8x4fs,RFlat", "IVF16,PQ8x4fs,Refine(SQ8)", "IVF16,SQ8"])
def test_parts_merge_into_what_one_pass_builds(world: Path, factory: str) -> None:
    its = {"factory": factory, "search_parameters": "auto", "min_recall": 0.5}
    build_index(config_of(world, "whole", **its))
    build_index(config_of(world, "parts", part_passages=600, **its))
    for name in ("index.faiss", "passage_ids.arrow", "index.json"):
        assert (world / "whole" / name).read_bytes() == (world / "parts" / name).read_bytes()


def test_vectors_of_four_jobs_one_of_them_killed_make_the_index_of_one(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    its = {"factory": "IVF16,PQ8x4fs,RFlat", "search_parameters": "auto", "min_recall": 0.5}
    build_index(config_of(world, "alone", **its))
    encode, calls = Encoder.encode_tokens, list[int]()

    def dying(self: Encoder, token_ids: list[list[int]], **named: object) -> np.ndarray:
        calls.append(len(token_ids))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, token_ids, **named)  # type: ignore[arg-type]

    configs = [config_of(world, f"vectors-{shard}", product="vectors", shard=shard, num_shards=4) for shard in range(4)]
    monkeypatch.setattr(Encoder, "encode_tokens", dying)
    with pytest.raises(KeyboardInterrupt):
        build_index(configs[1])
    # 2,000 passages are seven shards of 300: the second job has the second and the sixth, and only that is left to do.
    for config in configs:
        calls[:] = [0, 0]
        build_index(config)
        assert sum(calls) == {0: 600, 1: 300, 2: 500, 3: 300}[config.shard]
    monkeypatch.undo()
    places = ",".join(str(world / f"vectors-{shard}") for shard in (2, 0, 3, 1))
    build_index(config_of(world, "gathered", vectors_uri=places, **its))
    assert digest(world, "gathered") == digest(world, "alone")


@pytest.mark.parametrize(
    ("shards", "change", "problem"),
    [
        # Seven shards among three jobs: the third has the rows from 600 and from 1,500.
        ((0, 1), {}, "2 of 7 shards are missing, the first is vectors-000000000600.npy"),
        ((0, 1, 2, 2), {}, "the same rows lie in"),
        ((0, 1, 2), {"shard_passages": 500}, "made with shard_passages 300, this job has shard_passages 500"),
        ((0, 1, 2), {"vector_dtype": "float16"}, "made with vector_dtype float32, this job has vector_dtype float16"),
        ((0, 1, 2), {"dataset": 7}, "made with dataset"),
        ((0, 1, 2), {"encoder": 7}, "made with encoder"),
    ],
)
def test_vectors_that_do_not_fit_are_refused_by_name(
    world: Path, shards: tuple[int, ...], change: dict[str, object], problem: str, tmp_path: Path
) -> None:
    for shard in range(3):
        build_index(config_of(world, f"share-{shard}", product="vectors", shard=shard, num_shards=3))
    changed = dict(change)
    if changed.pop("dataset", None):
        changed["dataset_uri"] = str(write_dataset(tmp_path / "dataset", seed=7))
    if changed.pop("encoder", None):
        changed["encoder_uri"] = str(write_tiny_encoder(tmp_path / "encoder", 7, WORDS))
    places = ",".join(str(world / f"share-{shard}") for shard in shards)
    with pytest.raises(ValueError, match=problem):
        build_index(config_of(world, "refused", vectors_uri=places, **changed))
    assert not (world / "refused").exists()


def test_half_precision_vectors_on_disk_find_the_same(world: Path) -> None:
    build_index(config_of(world, "full", factory="Flat"))
    build_index(config_of(world, "half", factory="Flat", vector_dtype="float16"))
    encoder = Encoder(open_artifact(str(world / "encoder")))
    queries = encoder.encode_queries([" ".join(WORDS[number : number + 6]) for number in range(20)])
    full, half = (
        open_index(world / name, encoder_digest=encoder.digest).search_rows(queries, 10)[0] for name in ("full", "half")
    )
    assert np.abs(full - half).max() < 1e-3


def test_a_recall_below_the_gate_fails_and_leaves_nothing(world: Path) -> None:
    with pytest.raises(ValueError, match=r"factory 'IVF64,PQ4x4': recall@10 is 0\.\d+, the gate is 0.95"):
        build_index(config_of(world, "poor", factory="IVF64,PQ4x4", search_parameters="nprobe=1"))
    assert not (world / "poor").exists()


def test_a_corpus_without_queries_is_judged_by_its_own_passages(world: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", num_queries=0)
    build_index(
        config_of(
            world,
            "unasked",
            dataset_uri=str(dataset),
            factory="IVF16,Flat",
            search_parameters="auto",
            num_recall_queries=200,
        )
    )
    metrics = read_manifest(str(world / "unasked")).metrics
    assert metrics["num_recall_queries"] == 100
    assert metrics["recall_10"] >= 0.95


def test_a_share_outside_its_number_is_refused(world: Path) -> None:
    with pytest.raises(ValueError, match=r"shard 3: shards are numbered from 0 to 2"):
        build_index(config_of(world, "outside", product="vectors", shard=3, num_shards=3))


def test_a_killed_attempts_trained_index_and_parts_are_used_again(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    its = {"factory": "IVF16,PQ8x4fs,RFlat", "search_parameters": "auto", "min_recall": 0.5, "part_passages": 600}
    build_index(config_of(world, "unbroken", **its))
    config = config_of(world, "broken", **its)
    reads: list[str] = []
    write, read = faiss.write_index, faiss.read_index

    def failing(index: faiss.Index, writer: faiss.IOWriter) -> None:
        if index.ntotal and len(list((world / "broken.partial").rglob("part-*.faiss"))) == 2:
            raise KeyboardInterrupt
        write(index, writer)

    def counting(path: str, *more: int) -> faiss.Index:
        reads.append(Path(path).name)
        return read(path, *more)

    monkeypatch.setattr(faiss, "write_index", failing)
    with pytest.raises(KeyboardInterrupt):
        build_index(config)
    monkeypatch.setattr(faiss, "write_index", write)
    monkeypatch.setattr(faiss, "read_index", counting)
    build_index(config)
    # The first two parts were there, the other two are made and read back.
    assert [name for name in reads if name == "trained.faiss"] == ["trained.faiss"] * 3
    assert [name for name in reads if "part" in name] == [f"part-00000{number}.faiss" for number in range(4)]
    assert digest(world, "broken") == digest(world, "unbroken")
