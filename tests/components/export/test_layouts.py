"""The exported folder in other programs' hands."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoTokenizer

from components.export.config import ExportConfig
from components.export.job import export
from components.shared.encoding.encoder import Encoder, encoder_digest
from components.shared.manifest import open_artifact
from tests.kinds_of_encoder import KINDS

TEXTS = ["a glacier", "The violin of a valley", "", "ice " * 100]
_MODULES = {"Pooling": Pooling, "Dense": Dense, "Normalize": Normalize}


@pytest.fixture(scope="module", params=["prompt_left_out_of_mean", "dense_tanh"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose weights lie beside its graph, as those of a large one do."""
    world = tmp_path_factory.mktemp("world")
    source = KINDS[request.param](world / "model")
    config = ExportConfig(
        checkpoint_uri=str(source), output_uri=str(world / "encoder"), query_tokens=48, passage_tokens=48, triton="yes"
    )
    export(config, max_graph_bytes=1)
    return open_artifact(str(world / "encoder"))


def test_the_modules_of_sentence_transformers_make_the_same_vectors_of_the_graphs_states(folder: Path) -> None:
    """What its ONNX backend does, without the package that it needs for the graph: nothing is pooled twice."""
    encoder = Encoder(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    for prompt, expected in (
        (prompts["query"], encoder.encode_queries(TEXTS)),
        (prompts["document"], encoder.encode_tokens(encoder.tokenize_passages(TEXTS))),
    ):
        texts = [prompt + text for text in TEXTS]
        inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="np")
        assert set(inputs) == {"input_ids", "attention_mask"}
        (states,) = session.run(["last_hidden_state"], dict(inputs))
        features = {"token_embeddings": torch.tensor(states), "attention_mask": torch.tensor(inputs["attention_mask"])}
        if prompt:
            features["prompt_length"] = len(tokenizer(prompt)["input_ids"]) - 1
        for module in json.loads((folder / "modules.json").read_text())[1:]:
            kind = _MODULES[module["type"].rsplit(".", 1)[-1]]
            features = kind.load(str(folder), subfolder=module["path"])(features)
        assert np.abs(features["sentence_embedding"].detach().numpy() - expected).max() < 1e-6


def test_the_onnx_backend_of_sentence_transformers_gives_the_same_vectors_without_trust(folder: Path) -> None:
    pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx, which wants transformers below 4.58, is missing")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), backend="onnx", device="cpu")
    encoder = Encoder(folder)
    passages = encoder.encode_tokens(encoder.tokenize_passages(TEXTS))
    assert np.abs(model.encode_document(TEXTS) - passages).max() < 1e-6
    assert np.abs(model.encode_query(TEXTS) - encoder.encode_queries(TEXTS)).max() < 1e-6


def test_no_code_leaves_with_an_encoder(folder: Path) -> None:
    assert not list(folder.rglob("*.py"))
    assert "auto_map" not in (folder / "config.json").read_text()


def test_the_digest_covers_weights_that_lie_beside_the_graph(folder: Path) -> None:
    path = folder / "model.onnx_data"
    content, digest = path.read_bytes(), encoder_digest(folder)
    assert len(content) > (folder / "model.onnx").stat().st_size / 10
    # A new file, because triton's is the same one.
    path.unlink()
    try:
        with pytest.raises(ValueError, match=r"model.onnx_data: missing; .* is not a whole encoder"):
            Encoder(folder)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert encoder_digest(folder) != digest
        with pytest.raises(ValueError, match=r"model.onnx_data: content differs from the manifest's"):
            open_artifact(str(folder))
    finally:
        path.write_bytes(content)
    assert encoder_digest(folder) == digest


def test_tritons_graph_has_its_weights_beside_it(folder: Path) -> None:
    model = folder / "triton" / "encoder" / "1"
    assert sorted(path.name for path in model.iterdir()) == ["model.onnx", "model.onnx_data"]
    token_ids = np.array([[2, 7, 8, 3]])
    inputs = {"input_ids": token_ids, "attention_mask": np.ones_like(token_ids)}
    sessions = [onnxruntime.InferenceSession(str(where / "model.onnx")) for where in (model, folder)]
    vectors = [session.run(["vectors"], inputs)[0] for session in sessions]
    np.testing.assert_array_equal(*vectors)


def test_the_triton_repository_names_the_graphs_own_inputs_and_outputs(folder: Path) -> None:
    model = folder / "triton" / "encoder"
    config = (model / "config.pbtxt").read_text()
    session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    types = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    # The states of the tokens are the second output, for programs that pool themselves; Triton need not send them.
    for tensor in (*session.get_inputs(), session.get_outputs()[0]):
        assert f'name: "{tensor.name}" data_type: {types[tensor.type]}' in config
        # Triton adds the batch dimension itself, because max_batch_size is not 0.
        dims = [-1 if isinstance(size, str) else size for size in tensor.shape[1:]]
        assert f"{types[tensor.type]} dims: [ {', '.join(map(str, dims))} ]" in config
    assert "max_batch_size: 64" in config
    assert config.count("{") == config.count("}")
    assert config.count("[") == config.count("]")
