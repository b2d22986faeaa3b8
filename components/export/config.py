"""Settings of export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Checkpoint -> encoder: one ONNX graph with pooling and normalisation inside, proven equal to torch."""

    checkpoint_uri: str
    """Checkpoint of train; or a Hugging Face or sentence-transformers folder, or a name on the hub."""
    output_uri: str
    """Where the encoder goes."""
    pooling: Literal["auto", "cls", "mean"] = "auto"
    """For a model that is no checkpoint of train; auto: what its folder says, else mean."""
    normalise: Literal["auto", "yes", "no"] = "auto"
    """For a model that is no checkpoint of train; auto: what its folder says, else no."""
    query_prefix: str = ""
    """For a model that is no checkpoint of train: put before each query."""
    passage_prefix: str = ""
    """For a model that is no checkpoint of train: put before each passage."""
    query_tokens: int = 32
    """For a model that is no checkpoint of train: longest query, special tokens included."""
    passage_tokens: int = 140
    """For a model that is no checkpoint of train: longest passage, special tokens included."""
    opset: int = 18
    """ONNX operator set."""
    max_difference: float = 1e-5
    """Largest difference of any vector component between ONNX Runtime and torch, relative to the vector's length; more fails the job."""
    seed: int = 42
    """Of the texts' lengths in the parity check."""
