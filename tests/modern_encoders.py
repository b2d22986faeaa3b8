"""Encoder folders of recent families, tiny and with random weights: decoders that pool their last token, and encoders.

Each is written as its family's folders on the hub are: the same modules, prompts, flags and kind of tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Dense, Normalize

from tests.kinds_of_encoder import DIMENSION, backbone, byte_pairs, pooling_module, save_folder, unigrams, word_pieces

INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
_HEADS = {"num_key_value_heads": 2, "head_dim": 8}
_LONG = 96


@dataclass(frozen=True)
class Family:
    """A family's folder: what writes it, and how its encoder must be read."""

    write: Callable[[Path], Path]
    pooling: str
    is_causal: bool = False
    query_prefix: str = ""
    passage_prefix: str = ""


def _with_eos() -> Any:
    """Qwen's kind: byte pairs, the end of text appended, and padding by the same token."""
    tokenizer = byte_pairs()
    backend = tokenizer.backend_tokenizer
    from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing

    template = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)])
    backend.post_processor = Sequence([ByteLevel(trim_offsets=False), template])
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _decoder(
    kind: str, tokenizer: Callable[[], Any], prompts: Mapping[str, str] | None = None, **settings: object
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        numbers = {**_HEADS, "max_position_embeddings": 512, **settings}
        if kind == "Mistral":
            numbers.pop("head_dim")
        source = backbone(folder / "s", kind, tokenizer(), **numbers)
        return save_folder(
            folder, source, pooling_module("lasttoken"), Normalize(), limit=_LONG, prompts=dict(prompts or {})
        )

    return write


def _encoder(
    kind: str,
    pooling: str,
    tokenizer: Callable[[], Any] = word_pieces,
    prompts: Mapping[str, str] | None = None,
    **settings: object,
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        source = backbone(folder / "s", kind, tokenizer(), **{"max_position_embeddings": 128, **settings})
        return save_folder(
            folder, source, pooling_module(pooling), Normalize(), limit=_LONG, prompts=dict(prompts or {})
        )

    return write


def _embedding_gemma(folder: Path) -> Path:
    numbers = {
        **_HEADS,
        "use_bidirectional_attention": True,
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "num_hidden_layers": 2,
        "query_pre_attn_scalar": 8,
        "max_position_embeddings": 512,
    }
    source = backbone(folder / "s", "Gemma3Text", unigrams("<s> $A </s>"), **numbers)
    torch.manual_seed(1)
    wide = Dense(DIMENSION, 4 * DIMENSION, bias=False, activation_function=torch.nn.Identity())
    narrow = Dense(4 * DIMENSION, DIMENSION, bias=False, activation_function=torch.nn.Identity())
    prompts = {
        "query": "task: search result | query: ",
        "document": "title: none | text: ",
        "STS": "task: sentence similarity | query: ",
    }
    return save_folder(
        folder,
        source,
        pooling_module("mean"),
        wide,
        narrow,
        Normalize(),
        limit=_LONG,
        prompts=prompts,
        similarity_fn_name="cosine",
    )


_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10_000.0}
_LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
_LOCAL = {
    "cls_token_id": 2,
    "sep_token_id": 3,
    "local_attention": 8,
    "global_attn_every_n_layers": 2,
    "num_hidden_layers": 2,
}
_NOMIC = {"query": "search_query: ", "document": "search_document: "}

FAMILIES: dict[str, Family] = {
    "qwen3_embedding": Family(
        _decoder("Qwen3", _with_eos, {"query": INSTRUCTION, "document": ""}), "last", True, INSTRUCTION
    ),
    "qwen3_yarn": Family(
        _decoder("Qwen3", _with_eos, rope_parameters=_YARN, max_position_embeddings=128), "last", True
    ),
    "llama_linear_rope": Family(_decoder("Llama", _with_eos, rope_parameters=_LINEAR), "last", True),
    "e5_mistral": Family(
        _decoder("Mistral", lambda: unigrams("<s> $A </s>"), {"query": INSTRUCTION}, sliding_window=16),
        "last",
        True,
        INSTRUCTION,
    ),
    "gte_qwen2_bidirectional": Family(
        _decoder("Qwen2", _with_eos, {"query": INSTRUCTION}, is_causal=False),
        "last",
        False,
        INSTRUCTION,
    ),
    "embedding_gemma": Family(_embedding_gemma, "mean", False, "task: search result | query: ", "title: none | text: "),
    "nomic_bert": Family(_encoder("NomicBert", "mean", prompts=_NOMIC), "mean", False, *_NOMIC.values()),
    "nomic_modernbert": Family(
        _encoder("ModernBert", "mean", prompts=_NOMIC, **_LOCAL), "mean", False, *_NOMIC.values()
    ),
    "gte": Family(_encoder("Gte", "cls", unigrams, rope_parameters={"rope_type": "default", "rope_theta": 1e4}), "cls"),
    "gte_modernbert": Family(_encoder("ModernBert", "cls", **_LOCAL), "cls"),
    "bge": Family(_encoder("Bert", "cls"), "cls"),
    "arctic": Family(
        _encoder("XLMRoberta", "cls", unigrams, {"query": "query: "}, max_position_embeddings=130),
        "cls",
        False,
        "query: ",
    ),
    "e5_multilingual_instruct": Family(
        _encoder("XLMRoberta", "mean", unigrams, {"query": INSTRUCTION}, max_position_embeddings=130),
        "mean",
        False,
        INSTRUCTION,
    ),
    "eurobert": Family(_encoder("EuroBert", "mean", num_key_value_heads=4, mask_token_id=4), "mean"),
}


def change_json(path: Path, **fields: object) -> None:
    """Puts fields into a settings file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
