"""Settings of evaluate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Encoders, indexes and held-out queries -> runs, metrics, statistics and a report."""

    dataset_uri: str
    """Dataset of prepare."""
    base_encoder_uri: str
    """Encoder of the base model: the baseline to beat."""
    base_index_uri: str
    """Index of the base encoder."""
    encoder_uri: str
    """Encoder of the trained model."""
    index_uri: str
    """Index of the trained encoder."""
    output_uri: str
    """Where runs, metrics.json and report.html go."""
    annotations_uri: str = ""
    """Annotations (shards separated by commas); judge the split where the dataset has no human qrels for it."""
    split: str = "test"
    """Held-out split."""
    depth: int = 1000
    """Hits retrieved for each query."""
    measures: str = "nDCG@10 RR@10 R@10 R@100 R@1000"
    """ir-measures names separated by spaces; the first one is the headline."""
    min_grade: int = 1
    """Smallest grade that counts as relevant in binary measures (RR, R); TREC DL uses 2."""
    allow_unlike: Literal["no", "yes"] = "no"
    """Whether encoders may be compared that differ in maximum lengths, pooling, prefixes, precision or kind of index;
    yes: the report says so in its first line, no: such a comparison is refused."""
    num_resamples: int = 10000
    """Bootstrap samples behind each interval."""
    confidence: float = 0.95
    """Of the intervals."""
    seed: int = 42
    """Of the bootstrap."""
