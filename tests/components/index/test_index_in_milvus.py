"""The job with backend milvus: what FAISS's index holds is in a collection, and what does not fit leaves none."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from components.index.config import IndexConfig
from components.index.job import build_index
from components.shared.contract.ending import TransientError
from components.shared.encoding.encoder import Encoder
from components.shared.index import MilvusServer, open_index
from components.shared.manifest import open_artifact, read_manifest
from tests.components.index.test_index_job import WORDS, config_of, write_dataset
from tests.tiny_encoder import write_tiny_encoder

pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")

# Queries that anything is measured on.
FEW = {"num_recall_queries": 32, "hybrid_queries": 4}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("milvus-world")
    write_dataset(folder / "dataset", judged=True)
    write_tiny_encoder(folder / "encoder", 1, WORDS)
    return folder


def in_milvus(world: Path, name: str, **settings: object) -> IndexConfig:
    return config_of(world, name, backend="milvus", milvus_uri=str(world / "vectors.db"), **FEW, **settings)


def test_the_index_is_a_collection_that_finds_what_faiss_finds(world: Path) -> None:
    build_index(in_milvus(world, "milvus"))
    build_index(config_of(world, "faiss", **FEW))
    manifests = {name: read_manifest(str(world / name)) for name in ("milvus", "faiss")}
    metrics = {name: manifest.metrics for name, manifest in manifests.items()}
    assert "index.faiss" not in manifests["milvus"].files
    assert metrics["milvus"]["collection"] in MilvusServer.connect(str(world / "vectors.db")).names()
    for shared in ("recall_10", "factory", "num_passages", "corpus", "hybrid_weight"):
        assert metrics["milvus"][shared] == metrics["faiss"][shared]
    encoder = Encoder(open_artifact(str(world / "encoder")))
    queries = encoder.encode_queries([" ".join(WORDS[number : number + 6]) for number in range(8)])
    opened = {name: open_index(world / name, encoder_digest=encoder.digest) for name in manifests}
    scores = {name: index.search_rows(queries, 10)[0] for name, index in opened.items()}
    assert np.abs(scores["milvus"] - scores["faiss"]).max() < 1e-6


def test_an_earlier_index_in_milvus_is_gone_on_from(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(in_milvus(world, "first"))
    encoded: list[int] = []
    encode = Encoder.encode_tokens

    def counting(self: Encoder, token_ids: list[list[int]], **named: object) -> np.ndarray:
        encoded.append(len(token_ids))
        return encode(self, token_ids, **named)  # type: ignore[arg-type]

    before = MilvusServer.connect(str(world / "vectors.db")).names()
    monkeypatch.setattr(Encoder, "encode_tokens", counting)
    build_index(in_milvus(world, "second", previous_uri=str(world / "first")))
    # Queries only: no passage is encoded again, so the collection is the one that is there.
    assert max(encoded) <= 500
    assert MilvusServer.connect(str(world / "vectors.db")).names() == before
    assert orjson.loads((world / "second/index.json").read_bytes()) == orjson.loads(
        (world / "first/index.json").read_bytes()
    )


def test_a_recall_below_the_gate_leaves_no_collection(world: Path) -> None:
    server = MilvusServer.connect(str(world / "vectors.db"))
    before = server.names()
    with pytest.raises(ValueError, match=r"factory 'IVF64,SQ8': recall@10 is 0\.\d+, the gate is 1.0"):
        build_index(in_milvus(world, "poor", factory="IVF64,SQ8", search_parameters="nprobe=1", min_recall=1.0))
    assert server.names() == before
    assert not (world / "poor").exists()


def test_a_server_that_is_away_ends_the_job_before_anything_is_encoded(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "0")
    monkeypatch.setattr(Encoder, "encode_tokens", lambda *_, **__: pytest.fail("it encoded"))
    with pytest.raises(TransientError, match="try again later"):
        build_index(config_of(world, "away", backend="milvus", milvus_uri="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"backend": "milvus"}, "milvus_uri '': is no address of Milvus"),
        ({"backend": "milvus", "milvus_uri": "http://a:b@milvus"}, "holds a password"),
        (
            {"backend": "milvus", "milvus_uri": "m.db", "factory": "PQ8"},
            "factory 'PQ8': not among those",
        ),
        ({"milvus_uri": "m.db"}, "only backend milvus writes there"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_runs(
    world: Path, settings: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        config_of(world, "refused", **settings)
