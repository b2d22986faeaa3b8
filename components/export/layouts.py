"""Files that let other programs load an encoder folder: sentence-transformers and NVIDIA Triton."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson

from components.shared.encoder import GRAPH_NAME, INPUT_NAMES, OUTPUT_NAME, EncoderSettings

_MODULE = "onnx_module"
TRITON = "triton"
_TRITON_BATCH = 64


def write_sentence_transformers(folder: Path, settings: EncoderSettings) -> None:
    """Makes the folder one that `SentenceTransformer(folder, trust_remote_code=True)` loads, without torch weights."""
    shutil.copy(Path(__file__).with_name(f"{_MODULE}.py"), folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{_MODULE}.OnnxEncoder"}]
    (folder / "modules.json").write_bytes(orjson.dumps(modules, option=orjson.OPT_INDENT_2))
    config = {
        "model_type": "SentenceTransformer",
        "prompts": {"query": settings.query_prefix, "document": settings.passage_prefix},
        "default_prompt_name": "document",
        "similarity_fn_name": "dot",
    }
    (folder / "config_sentence_transformers.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


def write_triton(folder: Path, settings: EncoderSettings) -> None:
    """Writes `triton/`, a model repository with one model, `encoder`: token ids and mask in, vectors out.

    The graph is a hard link on this disk, and a second file in a bucket.
    """
    model = folder / TRITON / "encoder"
    (model / "1").mkdir(parents=True, exist_ok=True)
    (model / "1" / GRAPH_NAME).unlink(missing_ok=True)
    os.link(folder / GRAPH_NAME, model / "1" / GRAPH_NAME)
    inputs = ",\n".join(f'  {{ name: "{name}" data_type: TYPE_INT64 dims: [ -1 ] }}' for name in INPUT_NAMES)
    (model / "config.pbtxt").write_text(
        'name: "encoder"\n'
        'platform: "onnxruntime_onnx"\n'
        f"max_batch_size: {_TRITON_BATCH}\n"
        f"input [\n{inputs}\n]\n"
        f'output [\n  {{ name: "{OUTPUT_NAME}" data_type: TYPE_FP32 dims: [ {settings.dimension} ] }}\n]\n'
    )
