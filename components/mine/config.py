"""Settings of mine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import INPUT, OUTPUT, SETTING, at_least, at_most, refuse

_SHARE = SETTING | at_least(0) | at_most(1)


@dataclass(frozen=True, kw_only=True)
class MineConfig:
    """Dataset, encoder and index -> pools: the passages that the annotator judges for each query."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    encoder_uri: str = field(metadata=INPUT)
    """Encoder that finds the dense hard negatives: a raw language model finds none worth having, so name a retriever
    for it."""
    index_uri: str = field(metadata=INPUT)
    """Index made with that encoder over the same dataset."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the pools are written to."""
    num_bm25: int = field(default=15, metadata=SETTING | at_least(0))
    """Number of BM25 hits in a pool."""
    num_dense: int = field(default=15, metadata=SETTING | at_least(0))
    """Number of dense hits in a pool; a passage that BM25 found too is replaced by the next dense hit."""
    depth: int = field(default=100, metadata=SETTING | at_least(1))
    """Number of hits looked at in each ranking to fill the numbers above."""
    human_positive: Literal["include", "as_retrieved"] = field(default="include", metadata=SETTING)
    """include puts known human positives into the pool (the paper's setting); as_retrieved keeps only those that were
    retrieved."""
    num_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of queries drawn from the train split (seeded); 0 takes all."""
    num_evaluation_queries: int = field(default=100, metadata=SETTING | at_least(0))
    """Number of dev and of test queries that get a pool where no person has judged that split, to be judged by the LLM
    instead."""
    relative_margin: float = field(default=0.0, metadata=_SHARE)
    """Drops a negative whose dense score is above this share of the best known positive's, such as 0.95: it is likely
    useful and was not labelled. 0 keeps all, which is right where an LLM judges the pool, because the LLM finds the
    useful ones."""
    suspected_margin: float = field(default=0.95, metadata=_SHARE)
    """A negative above this share of the best positive's score is counted as a suspected false negative."""
    max_suspected_share: float = field(default=0.9, metadata=_SHARE)
    """Audit: largest share of suspected false negatives among the hard negatives with a dense score. An encoder that
    tells nothing apart comes near 1; the weak first layer of a small one had 0.85 on pools of its own best hits."""
    max_positive_share: float = field(default=0.0, metadata=_SHARE)
    """Audit: largest share of hard negatives that are known positives, by id or by text."""
    max_duplicate_share: float = field(default=0.0, metadata=_SHARE)
    """Audit: largest share of passages whose text stands in the same pool already."""
    max_missing_share: float = field(default=0.0, metadata=_SHARE)
    """Audit: largest share of passage ids that the corpus does not hold."""
    max_empty_share: float = field(default=0.0, metadata=_SHARE)
    """Audit: largest share of passages without text."""
    max_pool_share: float = field(default=0.5, metadata=_SHARE)
    """Audit: largest share of the pools that hold one and the same hard negative (skew)."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the draw of queries and of each pool's order."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if self.num_bm25 == 0 == self.num_dense:
            yield "num_bm25 0 and num_dense 0: a pool needs hits; set one of them above 0"
        if self.depth < max(self.num_bm25, self.num_dense):
            yield f"depth {self.depth}: cannot fill {max(self.num_bm25, self.num_dense)} hits; look at least that deep"
