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
    """include: known human positives join the pool (the paper's setting). as_retrieved: only those that were retrieved."""
    num_queries: int = 0
    """Queries drawn from the train split (seeded); 0 = all. Without human qrels all splits are drawn from, see evaluate."""
    num_evaluation_queries: int = 100
    """Where a split has no human qrels: how many dev and test queries get a pool each, to be judged by the LLM instead."""
    seed: int = 42
    """Of the draw of queries and of each pool's order."""
