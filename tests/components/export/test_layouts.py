"""The exported folder in other programs' hands."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from components.export.config import ExportConfig
from components.export.job import export
from components.shared.encoder import Encoder
from components.shared.manifest import open_artifact
from tests.tiny_checkpoint import write_tiny_checkpoint

WORDS = ["volcano", "glacier", "violin", "query", "the", "of", "a", "index", ",", ":"]
TEXTS = ["a volcano", "the violin of a glacier", "", "index " * 100]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = tmp_path_factory.mktemp("world")
    source = write_tiny_checkpoint(world / "checkpoint", WORDS)
    export(ExportConfig(checkpoint_uri=str(source), output_uri=str(world / "encoder"), triton="yes"))
    return open_artifact(str(world / "encoder"))


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_loads_the_folder_and_gives_the_same_vectors(folder: Path) -> None:
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    model = sentence_transformers.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")
    encoder = Encoder(folder)
    assert model.get_embedding_dimension() == encoder.dimension
    passages = encoder.encode_tokens(encoder.tokenize_passages(TEXTS))
    assert np.abs(model.encode_document(TEXTS) - passages).max() < 1e-6
    assert np.abs(model.encode_query(TEXTS) - encoder.encode_queries(TEXTS)).max() < 1e-6


def test_the_triton_repository_names_the_graphs_own_inputs_and_outputs(folder: Path) -> None:
    model = folder / "triton" / "encoder"
    config = (model / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    types = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    for tensor in (*session.get_inputs(), *session.get_outputs()):
        assert f'name: "{tensor.name}" data_type: {types[tensor.type]}' in config
        # Triton adds the batch dimension itself, because max_batch_size is not 0.
        dims = [-1 if isinstance(size, str) else size for size in tensor.shape[1:]]
        assert f"{types[tensor.type]} dims: [ {', '.join(map(str, dims))} ]" in config
    assert "max_batch_size: 64" in config
    assert config.count("{") == config.count("}")
    assert config.count("[") == config.count("]")
