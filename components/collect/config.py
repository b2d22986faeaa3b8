"""Settings of collect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import INPUT, OUTPUT, SETTING, above, at_least, below, refuse


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Runs -> pools for an LLM to judge; and with its judgements a test collection beside people's."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset whose queries are judged."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the pools, or the collection and its report, are written to."""
    evaluation_uri: str = field(default="", metadata=INPUT)
    """Evaluation whose runs are pooled; empty: none."""
    runs_uri: str = field(default="", metadata=INPUT)
    """TREC run files that are pooled beside these, separated by commas; a run is called as its file is."""
    judgements_uri: str = field(default="", metadata=INPUT)
    """Annotations of these pools (shards separated by commas); needed for the collection."""
    annotations_uri: str = field(default="", metadata=INPUT)
    """Annotations that the retriever was trained on, to say so where their LLM is the one that judges; empty: none."""
    answers_uri: str = field(default="", metadata=INPUT)
    """Answers that were made from the runs, to say so where the LLM that wrote them is the one that judges; empty:
    none."""
    product: Literal["pools", "collection"] = field(default="pools", metadata=SETTING)
    """Which of the two is written: pools that annotate judges, or what its judgements give."""
    split: str = field(default="test", metadata=SETTING)
    """Name of the split whose queries are judged."""
    num_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of queries that are judged (seeded draw among those that people judged, where they did); 0 leaves collect
    out of a run."""
    pool_depth: int = field(default=20, metadata=SETTING | at_least(1))
    """Number of passages, from the first of each run on, that are judged; the paper's is 20."""
    measure: str = field(default="nDCG@10", metadata=SETTING)
    """Measure that systems are ranked by, by its ir-measures name."""
    num_resamples: int = field(default=2000, metadata=SETTING | at_least(1))
    """Number of bootstrap samples behind each interval."""
    confidence: float = field(default=0.95, metadata=SETTING | above(0) | below(1))
    """Confidence level of the intervals."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the draw, of each pool's order and of the bootstrap."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if self.product == "collection" and not self.judgements_uri:
            yield "judgements_uri '': a collection needs the judgements of its pools; name what annotate wrote of them"
        # Imported here: the library takes a moment that a config of another job should not cost.
        import ir_measures

        try:
            ir_measures.parse_measure(self.measure)
        except (NameError, ValueError, SyntaxError) as error:
            yield f"measure {self.measure!r}: is no measure of ir-measures ({error}); write such as nDCG@10"
