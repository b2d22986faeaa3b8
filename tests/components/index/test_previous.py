"""A changed corpus: only what changed is encoded, and the index is as good as one made from nothing."""

from pathlib import Path

import numpy as np
import pytest

from components.index.config import IndexConfig
from components.index.job import build_index
from components.prepare.config import PrepareConfig
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.encoding.encoder import Encoder
from components.shared.index import FaissIndex, open_index
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Passage
from tests.components.index.test_index_job import SIZE, WORDS, write_dataset
from tests.tiny_encoder import write_tiny_encoder

REMOVED, CHANGED, ADDED = 100, 50, 300


def write_changed(dataset: Path, folder: Path) -> Path:
    """The first passages removed, the next ones rewritten, new ones put in front."""
    before = Dataset(dataset)
    with artifact_writer("prepare", PrepareConfig(collection_uri="changed", output_uri=str(folder))) as artifact:
        writer = DatasetWriter(artifact.path)
        for number in range(ADDED):
            writer.add_passage(Passage(f"new{number}", "", " ".join(WORDS[number % 250 : number % 250 + 9])))
        for row, passage in enumerate(before.iter_passages(REMOVED)):
            writer.add_passage(Passage(passage.passage_id, "", f"{WORDS[row]} rewritten") if row < CHANGED else passage)
        writer.finish([(query, "dev") for query in before.queries()], [])
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "dataset")
    write_changed(folder / "dataset", folder / "changed")
    write_tiny_encoder(folder / "encoder", 1, WORDS)
    return folder


def build(world: Path, name: str, dataset: str, **settings: object) -> dict[str, object]:
    places = {
        "dataset_uri": str(world / dataset),
        "encoder_uri": str(world / "encoder"),
        "output_uri": str(world / name),
    }
    build_index(IndexConfig(**{**places, "shard_passages": 300, "num_threads": 1, "min_recall": 0.3, **settings}))  # type: ignore[arg-type]
    return read_manifest(str(world / name)).metrics


@pytest.mark.parametrize("factory", ["Flat", "HNSW16,Flat", "IVF16,PQ8x4fs,RFlat", "IVF16,Flat"])
def test_only_new_and_changed_passages_are_encoded(world: Path, factory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    its = {"factory": factory, "search_parameters": "auto"}
    build(world, f"old-{factory}", "dataset", **its)
    build(world, f"scratch-{factory}", "changed", **its)
    encoded: list[int] = []
    encode = Encoder.tokenize_passages

    def counting(self: Encoder, texts: list[str], *, truncate: bool = True) -> list[list[int]]:
        # Whole texts are read to see how many are cut, not to be encoded.
        encoded.extend([len(texts)] if truncate else [])
        return encode(self, texts, truncate=truncate)

    monkeypatch.setattr(Encoder, "tokenize_passages", counting)
    metrics = build(world, f"new-{factory}", "changed", previous_uri=str(world / f"old-{factory}"), **its)
    assert sum(encoded) == CHANGED + ADDED
    assert metrics["num_passages"] == SIZE - REMOVED + ADDED
    assert metrics["trained_before"] is True
    digest = Encoder(open_artifact(str(world / "encoder"))).digest
    new, scratch = (open_index(world / f"{name}-{factory}", encoder_digest=digest) for name in ("new", "scratch"))
    rows = np.arange(new.num_passages)
    assert np.abs(new.vectors_of(rows) - scratch.vectors_of(rows)).max() < 1e-6


def test_what_no_longer_holds_the_recall_is_trained_anew(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    its = {"factory": "IVF16,Flat", "search_parameters": "nprobe=4"}
    build(world, "stale", "dataset", **its)
    recalls = iter([0.2, 0.9])
    measured = FaissIndex.search_rows

    def forgetting(self: FaissIndex, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = measured(self, queries, depth)
        # A structure that the corpus has outgrown: simulated by forgetting hits, since 2,000 passages outgrow nothing.
        return scores, np.where(np.arange(rows.shape[1]) < share[0] * rows.shape[1], rows, -1)

    share = [0.2]
    assemble = FaissIndex.assemble.__func__  # type: ignore[attr-defined]

    def assembled(cls: type[FaissIndex], *arguments: object, **named: object) -> FaissIndex:
        share[0] = next(recalls)
        return assemble(cls, *arguments, **named)

    monkeypatch.setattr(FaissIndex, "search_rows", forgetting)
    monkeypatch.setattr(FaissIndex, "assemble", classmethod(assembled))
    metrics = build(world, "rebuilt", "changed", previous_uri=str(world / "stale"), **its)
    assert metrics["trained_before"] is False


def test_a_previous_index_of_another_encoder_or_without_vectors_is_refused(world: Path, tmp_path: Path) -> None:
    build(world, "coded", "dataset", factory="IVF16,PQ8x4fs,Refine(SQ8)", search_parameters="auto")
    with pytest.raises(ValueError, match=r"coded: IVF16,PQ8x4fs,Refine\(SQ8\) keeps no exact vectors to go on from"):
        build(world, "refused", "changed", previous_uri=str(world / "coded"))
    build(world, "flat", "dataset", factory="Flat")
    other = write_tiny_encoder(tmp_path / "encoder", 2, WORDS)
    with pytest.raises(ValueError, match="made by encoder"):
        build(world, "refused", "changed", previous_uri=str(world / "flat"), encoder_uri=str(other))
