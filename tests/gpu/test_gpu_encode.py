"""Vectors from a GPU are those of fp32 on a CPU, to what their precision allows."""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.export.config import ExportConfig
from components.export.job import export
from components.export.parity import parity_texts
from components.shared import checkpoint
from components.shared.encoding.encoder import Encoder, Variant
from components.shared.encoding.engines.onnx_runtime import is_on_gpu
from tests.gpu.devices import DEVICES, onnxruntime_on, torch_gpus

_TOKENS = 64
# fp32 on a GPU multiplies in TF32, whose 10 bits are those of fp16.
_COSINES = {"fp32": 0.9999, "fp16": 0.999}


@pytest.fixture(scope="module")
def encoder_folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "encoder"
    lengths = {"query_tokens": 32, "passage_tokens": _TOKENS}
    export(
        ExportConfig(
            checkpoint_uri=str(minilm), output_uri=str(folder), variants="fp32,fp16", num_parity_texts=16, **lengths
        )
    )
    return folder


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Of all lengths, one word to beyond the limit."""
    return list(parity_texts(_TOKENS, 7, 64))


@pytest.fixture(scope="module")
def expected(minilm: Path, texts: list[str]) -> np.ndarray:
    """fp32 on the CPU, by torch."""
    return _by_torch(minilm, texts, torch.device("cpu"), torch.float32)


def _by_torch(folder: Path, texts: list[str], device: torch.device, dtype: torch.dtype) -> np.ndarray:
    model = checkpoint.load(str(folder), query_tokens=32, passage_tokens=_TOKENS).to(device, dtype).eval()
    token_ids = model.tokenize_passages(texts)
    with torch.inference_mode():
        vectors = [model(*model.pad(token_ids[start : start + 8])).float().cpu() for start in range(0, len(texts), 8)]
    return torch.cat(vectors).numpy()


def _cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines: np.ndarray = (ours * theirs).sum(axis=1) / lengths
    return cosines


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("variant", ["fp32", "fp16"])
def test_onnx_runtime_makes_the_vectors_of_fp32(
    encoder_folder: Path, texts: list[str], expected: np.ndarray, device: str, variant: Variant
) -> None:
    onnxruntime_on(device)
    encoder = Encoder(encoder_folder, variant=variant)
    assert is_on_gpu(encoder.providers) == (device == "cuda"), f"computed by {encoder.providers}"
    vectors = encoder.encode_tokens(encoder.tokenize_passages(texts), batch_tokens=2048)
    assert _cosines(vectors, expected).min() >= _COSINES[variant]
    # A text's vector does not depend on its neighbours.
    alone = encoder.encode_tokens(encoder.tokenize_passages(texts[:1]))
    assert _cosines(alone, vectors[:1]).min() >= _COSINES[variant]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_auto_is_fp16_on_a_gpu_and_fp32_elsewhere(encoder_folder: Path, device: str) -> None:
    onnxruntime_on(device)
    encoder = Encoder(encoder_folder)
    assert str(encoder.maker) == f"onnxruntime {'fp16' if device == 'cuda' else 'fp32'}"


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
def test_torch_makes_the_vectors_of_fp32(
    minilm: Path, texts: list[str], expected: np.ndarray, device: str, dtype: torch.dtype
) -> None:
    if device == "cuda":
        torch_gpus()
    vectors = _by_torch(minilm, texts, torch.device(device), dtype)
    assert _cosines(vectors, expected).min() >= _COSINES["fp32" if dtype == torch.float32 else "fp16"]
