"""Proof that the exported encoder gives torch's vectors, over lengths from two tokens to the longest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from components.shared.checkpoint import DualEncoder
from components.shared.encoder import Encoder

# Words that a tokenizer splits in different ways: Latin with accents, Chinese, Cyrillic, code, an emoji.
_WORDS = ("index,", "caf\u00e9", "\u691c\u7d22", "\u043f\u043e\u0438\u0441\u043a", "42", "() =>", "\U0001f642", "retrieval", "utility")


def parity_texts(longest: int, seed: int, num_texts: int = 24) -> list[str]:
    """Texts of spread lengths: empty, one word, up to twice the longest; the seed decides their words."""
    random = np.random.default_rng(seed)
    lengths = np.unique(np.geomspace(1, 2 * longest, num_texts).astype(int))
    return ["", *(" ".join(random.choice(_WORDS, size=length)) for length in lengths)]


def largest_difference(model: DualEncoder, encoder: Encoder, texts: Sequence[str]) -> float:
    """Largest difference of a vector component, relative to the vector's length, over queries and passages.

    torch encodes each text alone, the encoder in padded batches: so a graph that lets padding leak fails as well.
    """
    pairs = (
        (_torch_vectors(model, model.tokenize_queries(texts)), encoder.encode_queries(texts)),
        (_torch_vectors(model, model.tokenize_passages(texts)), encoder.encode_tokens(encoder.tokenize_passages(texts))),
    )
    return max(float((np.abs(ours - theirs) / np.linalg.norm(ours, axis=1, keepdims=True)).max()) for ours, theirs in pairs)


@torch.inference_mode()
def _torch_vectors(model: DualEncoder, token_ids: Sequence[list[int]]) -> Float32[np.ndarray, "text dimension"]:
    model.eval()
    return np.concatenate([model(*model.pad([ids])).float().cpu().numpy() for ids in token_ids])
