"""torch's vectors of the parity texts, which every graph of every engine is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from components.shared.checkpoint import DualEncoder
from components.shared.encoding.engines.parity import ReferenceVectors, Vectors
from components.shared.encoding.engines.parity import compare as compare
from components.shared.encoding.engines.parity import parity_texts as parity_texts


@dataclass(frozen=True)
class TorchVectors(ReferenceVectors):
    """torch's vectors of the parity texts.

    Each text is encoded alone, so a graph that lets padding leak differs from them.
    """

    @classmethod
    def of(cls, model: DualEncoder, texts: Sequence[str]) -> TorchVectors:
        """Encodes the texts as queries and as passages."""
        return cls(
            _torch_vectors(model, model.tokenize_queries(texts)), _torch_vectors(model, model.tokenize_passages(texts))
        )


@torch.inference_mode()
def _torch_vectors(model: DualEncoder, token_ids: Sequence[list[int]]) -> Vectors:
    model.eval()
    return np.concatenate([model(*model.pad([ids])).float().cpu().numpy() for ids in token_ids])
