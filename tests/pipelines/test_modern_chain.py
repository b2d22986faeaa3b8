"""The whole chain over a decoder and over an encoder of a recent family: train, export, index, evaluate, serve."""

from pathlib import Path

import numpy as np
import pytest

from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.export.config import ExportConfig
from components.export.job import export
from components.index.config import IndexConfig
from components.index.job import build_index
from components.serve.config import ServeConfig
from components.shared import checkpoint
from components.shared.encoding.encoder import Encoder
from components.shared.manifest import read_manifest
from components.train.job import train
from tests.components.serve.served import InProcess
from tests.components.train.learnable import config, write_inputs
from tests.modern_encoders import FAMILIES, change_json

_ENCODER = {"query_tokens": 96, "passage_tokens": 32, "matryoshka": "8"}
# Of the parity check; its hundred kilobytes are there whatever the number.
_PARITY_TEXTS = 12
_STAGES = "[{name: llm, labels: llm, epochs: 3, learning_rate: 1.0e-3}]"


def _searchable(folder: Path, checkpoint_uri: Path, name: str) -> dict[str, str]:
    """Exports a checkpoint and indexes the dataset with it; where both lie."""
    encoder, indexed = str(folder / f"{name}-encoder"), str(folder / f"{name}-index")
    dataset = str(folder / "dataset")
    places = {"checkpoint_uri": str(checkpoint_uri), "output_uri": encoder, "dataset_uri": dataset}
    export(ExportConfig(**places, **_ENCODER, num_parity_texts=_PARITY_TEXTS))  # type: ignore[arg-type]
    build_index(
        IndexConfig(dataset_uri=dataset, encoder_uri=encoder, output_uri=indexed, factory="Flat", num_threads=1)
    )
    return {"encoder_uri": encoder, "index_uri": indexed}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3_embedding", "nomic_modernbert"])
def test_a_family_is_trained_exported_indexed_measured_and_served(family: str, tmp_path: Path) -> None:
    write_inputs(tmp_path, with_bm25=True)
    source = FAMILIES[family].write(tmp_path / "source")
    change_json(source / "config_sentence_transformers.json", matryoshka_dims=[32, 16, 8])
    train(config(tmp_path, checkpoint_uri=str(source), curriculum=_STAGES, dev_human_share=1.0, **_ENCODER))
    trained = checkpoint.load(str(tmp_path / "checkpoint"))
    assert (trained.settings.pooling, trained.settings.query_prefix, trained.settings.matryoshka) == (
        FAMILIES[family].pooling,
        FAMILIES[family].query_prefix,
        (8,),
    )
    base = _searchable(tmp_path, source, "base")
    learnt = _searchable(tmp_path, tmp_path / "checkpoint", "trained")
    metrics = read_manifest(learnt["encoder_uri"]).metrics
    assert metrics["largest_difference"] < 1e-5
    assert set(metrics["matryoshka_ndcg_10"]) == {"32", "8"}
    evaluate(
        EvaluateConfig(
            dataset_uri=str(tmp_path / "dataset"),
            base_encoder_uri=base["encoder_uri"],
            base_index_uri=base["index_uri"],
            output_uri=str(tmp_path / "evaluation"),
            split="dev",
            num_resamples=200,
            **learnt,
        )
    )
    _check_served(learnt, str(tmp_path / "dataset"))


def _check_served(learnt: dict[str, str], dataset: str) -> None:
    """The server gives the encoder's vectors, whole and cut, with the query's instruction before the text."""
    encoder = Encoder(Path(learnt["encoder_uri"]), num_threads=1)
    expected = encoder.encode_queries(["ask1 in2"])
    server = InProcess(ServeConfig(dataset_uri=dataset, **learnt))
    try:
        answer = server.post("/v1/embeddings", input="ask1 in2", input_type="query").json()
        assert np.array(answer["data"][0]["embedding"]) == pytest.approx(expected[0], abs=1e-5)
        answer = server.post("/v1/embeddings", input="ask1 in2", input_type="query", dimensions=8).json()
        kept = expected[0, :8]
        assert np.array(answer["data"][0]["embedding"]) == pytest.approx(kept / np.linalg.norm(kept), abs=1e-5)
        assert len(server.post("/search", query="ask1 in2", depth=3).json()["hits"]) == 3
    finally:
        server.close()
