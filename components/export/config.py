"""Settings of export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.encoding.dual_encoder import DualEncoderConfig, contradictions
from components.shared.roles import INPUT, OUTPUT, SETTING, above, at_least, at_most, refuse

_KNOWN_VARIANTS = ("fp32", "fp16", "int8")
_COSINE = SETTING | at_least(-1) | at_most(1)


@dataclass(frozen=True, kw_only=True)
class ExportConfig(DualEncoderConfig):
    """Checkpoint -> encoder: one ONNX graph with pooling and normalisation inside, proven equal to torch.

    A checkpoint of train brings its own pooling, normalisation, prefixes and lengths; the fields here must not
    contradict it.
    """

    output_uri: str = field(metadata=OUTPUT)
    """Folder that the encoder is written to."""
    dataset_uri: str = field(default="", metadata=INPUT)
    """Dataset whose dev queries (else train) say what a smaller graph finds; empty holds smaller graphs to vectors
    only."""
    opset: int = field(default=18, metadata=SETTING | at_least(14))
    """ONNX operator set."""
    variants: str = field(default="fp32", metadata=SETTING)
    """Graphs to write, separated by commas: fp32 always; fp16 for GPUs; int8 for CPUs."""
    prove_engines: Literal["no", "yes"] = field(default="no", metadata=SETTING)
    """yes also holds every other engine of this machine (OpenVINO) to the gates, in vectors and in retrieval, and
    records it; no leaves that to index, which proves the one that it takes."""
    triton: Literal["no", "yes"] = field(default="no", metadata=SETTING)
    """yes also writes triton/, a model repository for NVIDIA Triton, which holds a second copy of the graph."""
    max_difference: float = field(default=1e-5, metadata=SETTING | above(0))
    """Largest difference of any vector component between the fp32 graph and torch, relative to the vector's length;
    more fails the job."""
    min_cosine: float = field(default=0.98, metadata=_COSINE)
    """Smallest mean cosine between a smaller graph's vectors and torch's; less fails the job."""
    min_overlap: float = field(default=0.8, metadata=SETTING | at_least(0) | at_most(1))
    """Smallest share of torch's ten nearest of the parity texts that a smaller graph finds; less fails the job."""
    min_batch_cosine: float = field(default=0.999, metadata=_COSINE)
    """Smallest cosine between a smaller graph's vector of a text alone and among others; less fails the job."""
    max_drift: float = field(default=0.01, metadata=SETTING | at_least(0))
    """Largest fall of nDCG@10 from the fp32 graph to a smaller one that encodes queries and passages; more fails the
    job."""
    drift_queries: int = field(default=200, metadata=SETTING | at_least(1))
    """Number of judged queries on which the fall is measured."""
    drift_passages: int = field(default=2000, metadata=SETTING | at_least(1))
    """Number of passages among which they search: those judged, then a seeded draw."""
    num_parity_texts: int = field(default=64, metadata=SETTING | at_least(2))
    """Number of texts of the parity check, of all lengths."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the texts and of the draws."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        yield from contradictions(self)
        given = [name.strip() for name in self.variants.split(",") if name.strip()]
        if unknown := [name for name in given if name not in _KNOWN_VARIANTS]:
            yield f"variants {self.variants!r}: {', '.join(unknown)} unknown; known are {', '.join(_KNOWN_VARIANTS)}"
