"""Files that let other programs load an encoder folder: sentence-transformers and NVIDIA Triton."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from components.shared.checkpoint import DualEncoder
from components.shared.checkpoint.model import PLAIN_TOKENIZER
from components.shared.encoding import sentence_transformers
from components.shared.encoding.encoder import INPUT_NAMES, OUTPUT_NAME, EncoderSettings, graph_files
from components.shared.encoding.matryoshka import declare_cuts

TRITON = "triton"
_TRITON_BATCH = 64
_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "cls_token", "mask_token")


def write_sentence_transformers(folder: Path, model: DualEncoder) -> None:
    """Makes the folder one that `SentenceTransformer(folder, backend="onnx")` loads, without torch weights or own code.

    That program runs model.onnx for the states of the tokens, its second output, and does all that follows (pooling,
    scaling) with its own modules, so nothing is pooled twice. It knows one length for all texts, the larger of both:
    a query beyond `query_tokens` has another vector there.
    """
    declare_cuts(model.transformer.config, model.settings.matryoshka)
    config = model.transformer.config.to_diff_dict() | {"model_type": model.transformer.config.model_type}
    config.pop("auto_map", None)
    sentence_transformers.write_json(folder / "config.json", config)
    sentence_transformers.write_json(folder / "tokenizer_config.json", _tokenizer_config(model))
    model.save_modules(folder)


def _tokenizer_config(model: DualEncoder) -> dict[str, object]:
    """Says that tokenizer.json is to be taken as it is, and which of its tokens are special."""
    tokenizer: PreTrainedTokenizerBase = model.tokenizer
    special = {name: getattr(tokenizer, name, None) for name in _SPECIAL_TOKENS}
    return {
        "tokenizer_class": PLAIN_TOKENIZER,
        "model_max_length": max(model.settings.query_tokens, model.settings.passage_tokens),
        "model_input_names": list(INPUT_NAMES),
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        "pad_token": tokenizer.convert_ids_to_tokens(int(tokenizer.pad_token_id or 0)),
        **{name: str(token) for name, token in special.items() if token is not None},
    }


def write_triton(folder: Path, settings: EncoderSettings) -> None:
    """Writes `triton/`, a model repository with one model, `encoder`: token ids and mask in, vectors out.

    The graph, and the file of its weights where it has one, are hard links on this disk, and second files in a bucket.
    """
    model = folder / TRITON / "encoder"
    (model / "1").mkdir(parents=True, exist_ok=True)
    for path in graph_files(folder, "fp32"):
        (model / "1" / path.name).unlink(missing_ok=True)
        os.link(path, model / "1" / path.name)
    inputs = ",\n".join(f'  {{ name: "{name}" data_type: TYPE_INT64 dims: [ -1 ] }}' for name in INPUT_NAMES)
    (model / "config.pbtxt").write_text(
        'name: "encoder"\n'
        'platform: "onnxruntime_onnx"\n'
        f"max_batch_size: {_TRITON_BATCH}\n"
        f"input [\n{inputs}\n]\n"
        f'output [\n  {{ name: "{OUTPUT_NAME}" data_type: TYPE_FP32 dims: [ {settings.dimension} ] }}\n]\n'
    )
