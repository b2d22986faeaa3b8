"""Settings of evaluate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.encoding.engines.config import EncodingConfig
from components.shared.roles import INPUT, OUTPUT, SETTING, above, at_least, below, refuse


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(EncodingConfig):
    """Encoders, indexes and held-out queries -> runs, metrics, statistics and a report."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    base_encoder_uri: str = field(metadata=INPUT)
    """Encoder of the base model: the baseline to beat."""
    base_index_uri: str = field(metadata=INPUT)
    """Index of the base encoder."""
    encoder_uri: str = field(metadata=INPUT)
    """Encoder of the trained model."""
    index_uri: str = field(metadata=INPUT)
    """Index of the trained encoder."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that runs, metrics.json and report.html are written to."""
    annotations_uri: str = field(default="", metadata=INPUT)
    """Annotations (shards separated by commas) that judge the split where the dataset has no human qrels for it; empty:
    none."""
    policy_uri: str = field(default="", metadata=INPUT)
    """Policy file, TOML: what the trained encoder must show before it may take the base encoder's place; empty takes
    components/evaluate/gate/policy.toml."""
    split: str = field(default="test", metadata=SETTING)
    """Name of the held-out split."""
    depth: int = field(default=1000, metadata=SETTING | at_least(1))
    """Number of hits retrieved for each query."""
    measures: str = field(default="nDCG@10 RR@10 R@10 R@100 R@1000", metadata=SETTING)
    """Measures by their ir-measures names, separated by spaces; the first one is the headline."""
    min_grade: int = field(default=1, metadata=SETTING | at_least(1))
    """Smallest grade that counts as relevant in binary measures (RR, R); TREC DL uses 2."""
    allow_unlike: Literal["no", "yes"] = field(default="no", metadata=SETTING)
    """Whether encoders may be compared that differ in maximum lengths, pooling, prefixes, precision or kind of index;
    no refuses such a comparison, yes makes it and says so in the report's first line."""
    num_resamples: int = field(default=10000, metadata=SETTING | at_least(1))
    """Number of bootstrap samples behind each interval."""
    confidence: float = field(default=0.95, metadata=SETTING | above(0) | below(1))
    """Confidence level of the intervals."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the bootstrap."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        # Imported here: the measures' library takes a moment that a config of another job should not cost.
        from components.evaluate.measures import parse_measures

        try:
            parse_measures(self.measures, min_grade=max(1, self.min_grade))
        except ValueError as error:
            yield str(error)
