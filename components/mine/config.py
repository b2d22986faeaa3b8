"""Settings of mine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MineConfig:
    """Dataset, encoder and index -> pools: the passages that the annotator judges for each query."""

    dataset_uri: str
    """Dataset of prepare."""
    encoder_uri: str
    """Encoder that dense hard negatives come from: the base model's at first, the production encoder later."""
    index_uri: str
    """Index made with that encoder over the same dataset."""
    output_uri: str
    """Where the pools go."""
    num_bm25: int = 15
    """BM25 hits in a pool."""
    num_dense: int = 15
    """Dense hits in a pool; a passage that BM25 found too is replaced by the next dense hit."""
    depth: int = 100
    """Hits looked at in each ranking to fill the places above."""
    human_positive: Literal["include", "as_retrieved"] = "include"
    """include: known human positives join the pool (the paper's setting). as_retrieved: only those that were
    retrieved."""
    num_queries: int = 0
    """Queries drawn from the train split (seeded); 0 = all. Without human qrels all splits are drawn from, see
    evaluate."""
    num_evaluation_queries: int = 100
    """Where a split has no human qrels: how many dev and test queries get a pool each, to be judged by the LLM
    instead."""
    relative_margin: float = 0.0
    """Drops a negative whose dense score is above this share of the best known positive's, such as 0.95: likely it is
    useful and was not labelled. 0 = keep all, which is right where an LLM judges the pool: it finds the useful ones."""
    suspected_margin: float = 0.95
    """A negative above this share of the best positive's score is counted as a suspected false negative."""
    max_suspected_share: float = 0.9
    """Audit: largest share of suspected false negatives among the hard negatives with a dense score. An encoder that
    tells nothing apart comes near 1; the weak first layer of a small one had 0.85, on pools of its own best hits."""
    max_positive_share: float = 0.0
    """Audit: largest share of hard negatives that are known positives, by id or by text."""
    max_duplicate_share: float = 0.0
    """Audit: largest share of passages whose text stands in the same pool already."""
    max_missing_share: float = 0.0
    """Audit: largest share of passage ids that the corpus does not hold."""
    max_empty_share: float = 0.0
    """Audit: largest share of passages without text."""
    max_pool_share: float = 0.5
    """Audit: largest share of the pools that hold one and the same hard negative (skew)."""
    cache_uri: str = ""
    """Local folder of BM25 indexes, found again by the corpus's content. Empty: beside the output."""
    seed: int = 42
    """Of the draw of queries and of each pool's order."""
