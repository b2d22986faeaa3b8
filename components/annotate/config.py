"""Settings of annotate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.engines.config import EngineConfig, engine_contradictions
from components.shared.roles import FLOW, INPUT, OUTPUT, SETTING, above, at_least, at_most, refuse

Method = Literal["utility_selection", "utility_ranking", "query_likelihood", "answer_likelihood", "replug"]


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig(EngineConfig):
    """Pools -> annotations: an LLM judges each passage's utility for answering the query."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    pools_uri: str = field(metadata=INPUT)
    """Pools that mine wrote."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the annotations are written to."""
    judge: Literal["llm", "nobody"] = field(default="llm", metadata=SETTING)
    """nobody leaves this task out of a run: nothing is paid, and train learns from human labels and from a teacher of
    BM25 and the untrained encoder only."""
    method: Method = field(default="utility_selection", metadata=SETTING)
    """How utility is judged. Selection and ranking need a model that follows instructions; the likelihoods work with
    any causal LM: replug weighs the collection's answers, answer_likelihood the LLM's own answer, query_likelihood the
    query."""
    num_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of train queries whose pools are judged (seeded draw), which is what the LLM costs; 0 judges all. Held-out
    queries that have a pool are judged all the same."""
    window: int = field(default=16, metadata=SETTING | at_least(1))
    """Number of passages in one relevance selection call."""
    passage_words: int = field(default=300, metadata=SETTING | at_least(1))
    """Number of words of a passage that the LLM reads; the rest is cut."""
    rank_share: float = field(default=0.1, metadata=SETTING | above(0) | at_most(1))
    """Share of the ranked list that becomes positive under utility_ranking (rounded down, at least one passage)."""
    likelihood: Literal["mean", "sum"] = field(default="mean", metadata=SETTING)
    """What the likelihood methods compare over the pool: a token's mean log-likelihood, or the sum over the tokens."""
    positive_margin: float = field(default=0.0, metadata=SETTING | at_least(0))
    """Nats per token below the pool's best passage within which a passage is positive (likelihood methods); 0 takes the
    best only."""
    ignore_margin: float = field(default=0.3, metadata=SETTING | at_least(0))
    """Nats per token below the best within which a passage is ignored, neither positive nor negative (likelihood
    methods)."""
    calibration_queries: int = field(default=100, metadata=SETTING | at_least(0))
    """Number of queries with human positives that both margins are fitted to (query_likelihood and answer_likelihood),
    at most half of those that have one; where that leaves fewer than 20, and with 0, the margins stay as given."""
    not_useful: Literal["ignore", "negative"] = field(default="ignore", metadata=SETTING)
    """Label of a passage that was selected as relevant but not as useful; the paper uses negative."""
    answers: Literal["llm", "collection"] = field(default="llm", metadata=SETTING)
    """Which answer the selection and the ranking of useful passages go by: one that the LLM writes first, or the
    collection's reference answers where a query has them, which is how a test collection is judged."""
    answer_tokens: int = field(default=128, metadata=SETTING | at_least(1))
    """Longest pseudo-answer in tokens."""
    layout: Literal["paper", "cached"] = field(default="paper", metadata=SETTING)
    """Order of a listwise prompt. paper puts the instruction first; cached puts the passages first, so that the calls
    of one query share a prefix in the engine's cache."""
    max_attempts: int = field(default=2, metadata=SETTING | at_least(1))
    """Number of unconstrained tries of one listwise call, each with a new seed; then constrained decoding and a smaller
    window follow."""
    shard: int = field(default=0, metadata=FLOW | at_least(0))
    """Number of the shard of the pools that this task judges, from 0."""
    num_shards: int = field(default=1, metadata=SETTING | at_least(1) | at_most(32))
    """Number of shards that the pools are dealt into; pool i goes to shard i modulo this. At most 32: each is a pod of
    its own, and Kubeflow hands their list to the next task as one argument."""
    recheck_share: float = field(default=0.02, metadata=SETTING | at_least(0) | at_most(1))
    """Share of the queries that are judged again in another order, to measure the annotator's agreement with itself; 0
    judges none."""
    utility_labels_uri: str = field(default="", metadata=INPUT)
    """File of human utility labels for the quality report beside the qrels: tab-separated query id, passage id, 0 or 1,
    below a header line; empty: none."""
    gold_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of queries whose human labels the prediction-powered estimate may see, drawn at random; 0 takes all that
    have any."""
    previous_uri: str = field(default="", metadata=INPUT)
    """Annotations of an earlier run that the quality report measures drift against; several shards are separated by
    commas."""
    human_label_dollars: float = field(default=0.09, metadata=SETTING | at_least(0))
    """Price of one passage judged by a person for one query, to compare with; the default is the paper's."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        yield from engine_contradictions(self)
        if self.judge == "nobody":
            yield "judge nobody: a run without an LLM has no such task; leave it out, or use llm"
        if self.shard >= self.num_shards:
            yield f"shard {self.shard}: shards are numbered from 0 to {self.num_shards - 1}"
