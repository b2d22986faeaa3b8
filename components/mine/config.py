"""Settings of mine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.mine.selection import SELECTORS
from components.shared.encoding.engines.config import EncodingConfig
from components.shared.roles import FLOW, INPUT, OUTPUT, SETTING, above, at_least, at_most, hint, refuse

_SHARE = SETTING | at_least(0) | at_most(1)


@dataclass(frozen=True, kw_only=True)
class MineConfig(EncodingConfig):
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
    select: Literal["all", "random", "uncertainty", "deviation"] = field(default="all", metadata=SETTING)
    """Which of these train queries get a pool, and so are annotated: all of them, or as many as the budget allows.
    random draws them (seeded); deviation takes those on which the encoder and a fine-tuned one differ most; uncertainty
    those on which the fine-tuned one is least sure. The last two need a warm-up round (warmup_queries)."""
    budget_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Largest number of train queries with a pool, those of the warm-up among them; 0 sets no such limit. A larger
    budget contains the smaller."""
    budget_tokens: int = field(default=0, metadata=SETTING | at_least(0))
    """Largest number of tokens of all train pools, passages and queries, as the encoder splits them; the LLM's prompts
    come on top. 0 sets no such limit."""
    warmup_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of train queries, drawn at random, that are annotated and trained on first; the encoder that comes out is
    the fine-tuned one. Their annotations are paid for, so they are selected in any case."""
    finetuned_encoder_uri: str = field(default="", metadata=INPUT)
    """Encoder trained in the warm-up round, whose scores are compared; empty where nothing is."""
    finetuned_index_uri: str = field(default="", metadata=INPUT)
    """Index made with that encoder over the same dataset."""
    selection_depth: int = field(default=20, metadata=SETTING | at_least(2))
    """Number of first hits of each encoder over which their scores are compared, and of the largest differences whose
    mean counts."""
    near_duplicate: float = field(default=0.8, metadata=SETTING | above(0) | at_most(1))
    """Share of common character trigrams (Jaccard) from which on a query is left out of a selection behind one that was
    taken; 1 leaves out repetitions only."""
    round: Literal["main", "warm-up"] = field(default="main", metadata=FLOW)
    """warm-up mines for the queries of the warm-up round alone."""
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
        yield from self._selection_contradictions()

    def _selection_contradictions(self) -> Iterator[str]:
        if self.select not in SELECTORS:
            return
        selector, has_budget = SELECTORS[self.select], bool(self.budget_queries or self.budget_tokens)
        if selector.has_budget and not has_budget:
            yield f"select {self.select}: selects within a budget; set {hint('budget_queries', 1000)} or budget_tokens"
        if has_budget and not selector.has_budget:
            yield f"select {self.select}: has no budget; set {hint('select', 'random')}, or no budget"
        if 0 < self.budget_queries < self.warmup_queries:
            yield f"warmup_queries {self.warmup_queries}: is above budget_queries {self.budget_queries}; take fewer"
        is_given = bool(self.finetuned_encoder_uri and self.finetuned_index_uri)
        if selector.needs_finetuned and self.round == "main" and not is_given:
            yield (
                f"select {self.select}: compares with a fine-tuned encoder; have one trained "
                f"({hint('warmup_queries', 100)}), or name finetuned_encoder_uri and finetuned_index_uri"
            )
