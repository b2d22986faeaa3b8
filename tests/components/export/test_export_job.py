"""Export: the graph equals torch over all lengths, or the job fails and leaves nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from components.export.config import ExportConfig
from components.export.job import export, write_encoder
from components.export.parity import TorchVectors, compare, parity_texts
from components.shared import checkpoint
from components.shared.encoding.encoder import GRAPH_NAME, Encoder
from components.shared.manifest import open_artifact, read_manifest
from tests.tiny_checkpoint import write_tiny_checkpoint

WORDS = ["volcano", "glacier", "violin", "query", "the", "of", "a", "caf", "index", ",", ":"]


@pytest.mark.parametrize(("pooling", "normalise"), [("mean", True), ("cls", False)])
def test_the_exported_encoder_equals_torch(tmp_path: Path, pooling: str, normalise: bool) -> None:
    source = write_tiny_checkpoint(tmp_path / "checkpoint", WORDS, pooling=pooling, normalise=normalise)
    export(ExportConfig(checkpoint_uri=str(source), output_uri=str(tmp_path / "encoder")))
    encoder = Encoder(open_artifact(str(tmp_path / "encoder")))
    assert read_manifest(str(tmp_path / "encoder")).metrics["largest_difference"] < 1e-6
    assert (encoder.settings.pooling, encoder.settings.normalise, encoder.settings.query_prefix) == (
        pooling,
        normalise,
        "query: ",
    )
    norms = np.linalg.norm(encoder.encode_queries(["a volcano", "the violin of a glacier"]), axis=1)
    assert np.allclose(norms, 1.0, atol=1e-6) == normalise


def test_the_graph_takes_any_batch_and_length(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "checkpoint", WORDS)
    export(ExportConfig(checkpoint_uri=str(source), output_uri=str(tmp_path / "encoder")))
    encoder = Encoder(tmp_path / "encoder")
    for count, length in [(1, 1), (1, 60), (17, 3), (33, 40)]:
        assert encoder.encode_queries(["violin " * length] * count).shape == (count, 32)


def test_a_graph_with_one_changed_weight_is_caught(tmp_path: Path) -> None:
    model = checkpoint.load(str(write_tiny_checkpoint(tmp_path / "checkpoint", WORDS)))
    (tmp_path / "encoder").mkdir()
    write_encoder(model, tmp_path / "encoder", opset=18)
    graph = onnx.load(tmp_path / "encoder" / GRAPH_NAME)
    weight = next(tensor for tensor in graph.graph.initializer if len(tensor.dims) == 2)
    changed = numpy_helper.to_array(weight).copy()
    # Noise, because a layer norm forgives a shift of the whole row.
    changed += np.random.default_rng(0).normal(0, 0.01, changed.shape).astype(changed.dtype)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    texts = parity_texts(48, seed=1)
    expected = TorchVectors.of(model, texts)
    assert compare(expected, Encoder(tmp_path / "encoder"), texts).largest_difference < 1e-6
    onnx.save(graph, str(tmp_path / "encoder" / GRAPH_NAME))
    assert compare(expected, Encoder(tmp_path / "encoder"), texts).largest_difference > 1e-3


def test_a_difference_over_the_limit_fails_the_job_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "checkpoint", WORDS)
    with pytest.raises(ValueError, match=r"ONNX vectors differ from torch's by .* allowed are 1e-12"):
        export(ExportConfig(checkpoint_uri=str(source), output_uri=str(tmp_path / "encoder"), max_difference=1e-12))
    assert not (tmp_path / "encoder").exists()


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: transformers cannot load this model"):
        export(ExportConfig(checkpoint_uri=str(tmp_path / "empty"), output_uri=str(tmp_path / "encoder")))


def test_a_sentence_transformers_folder_says_its_pooling(minilm: Path) -> None:
    model = checkpoint.load(str(minilm))
    assert (model.settings.pooling, model.settings.normalise, model.dimension) == ("mean", True, 384)


def test_a_checkpoint_with_a_number_that_is_not_finite_is_refused_naming_the_tensor(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "checkpoint", WORDS)
    weights = load_file(source / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][7] = float("nan")
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"embeddings.word_embeddings.weight holds numbers .* the first is row 7"):
        export(ExportConfig(checkpoint_uri=str(source), output_uri=str(tmp_path / "encoder")))
    assert not (tmp_path / "encoder").exists()


def test_a_model_that_overflows_is_refused_by_the_parity_check(tmp_path: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "checkpoint", WORDS, normalise=False)
    weights = load_file(source / "model.safetensors")
    # Finite numbers, whose product is not.
    weights["encoder.layer.0.output.LayerNorm.weight"][:] = 3e38
    weights["encoder.layer.0.output.LayerNorm.bias"][:] = 3e38
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"fp32: parity with torch: text \d+ of \d+: its vector is not finite"):
        export(ExportConfig(checkpoint_uri=str(source), output_uri=str(tmp_path / "encoder")))
    assert not (tmp_path / "encoder").exists()
