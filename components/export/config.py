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
    dataset_uri: str = ""
    """Dataset whose dev queries (else train) say what a smaller graph finds; empty: smaller graphs are held to vectors
    only."""
    pooling: Literal["auto", "cls", "mean", "last"] = "auto"
    """For a model that is no checkpoint of train; auto: what its folder says, else last (token) for a decoder and mean
    for others."""
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
    trust_remote_code: Literal["no", "yes"] = "no"
    """yes: run code that the model's folder brings along (auto_map), with all the rights of this job, so read it
    first; no: refuse such a model."""
    opset: int = 18
    """ONNX operator set."""
    variants: str = "fp32"
    """Graphs to write, separated by commas: fp32 always; fp16 for GPUs; int8 for CPUs."""
    triton: Literal["no", "yes"] = "no"
    """yes: also write triton/, a model repository for NVIDIA Triton; a second copy of the graph."""
    max_difference: float = 1e-5
    """Largest difference of any vector component between the fp32 graph and torch, relative to the vector's length;
    more fails the job."""
    min_cosine: float = 0.98
    """Smallest mean cosine between a smaller graph's vectors and torch's; less fails the job."""
    min_overlap: float = 0.8
    """Smallest share of torch's ten nearest of the parity texts that a smaller graph finds; less fails the job."""
    min_batch_cosine: float = 0.999
    """Smallest cosine between a smaller graph's vector of a text alone and among others; less fails the job."""
    max_drift: float = 0.01
    """Largest fall of nDCG@10 from the fp32 graph to a smaller one that encodes queries and passages; more fails the
    job."""
    drift_queries: int = 200
    """Judged queries on which the fall is measured."""
    drift_passages: int = 2000
    """Passages among which they search: those judged, then a seeded draw."""
    num_parity_texts: int = 64
    """Texts of the parity check, of all lengths."""
    seed: int = 42
    """Of the texts and the draws."""
