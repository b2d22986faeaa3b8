"""Settings of annotate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import (
    FLOW,
    INPUT,
    OPERATION,
    OUTPUT,
    PLACE,
    SETTING,
    above,
    at_least,
    at_most,
    refuse,
)

Method = Literal["utility_selection", "utility_ranking", "query_likelihood", "answer_likelihood", "replug"]

_PRICE = SETTING | at_least(0)


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """Pools -> annotations: an LLM judges each passage's utility for answering the query."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    pools_uri: str = field(metadata=INPUT)
    """Pools that mine wrote."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the annotations are written to."""
    llm_uri: str = field(metadata=INPUT)
    """Name on the hub, folder, or .gguf file of the LLM; with an endpoint the name of the model that it serves."""
    journal_uri: str = field(default="", metadata=PLACE)
    """Folder (local or in a bucket) of the log of LLM calls, shared by shards and runs: what it holds is not asked
    again. Empty puts it beside the output."""
    endpoint_uri: str = field(default="", metadata=OPERATION)
    """Base URL of an OpenAI-compatible server (engine endpoint only), such as http://host:8000/v1."""
    endpoint_omit: str = field(default="", metadata=SETTING)
    """Fields of a request, separated by commas, that are not sent because the endpoint refuses them, such as
    seed,top_k."""
    endpoint_rename: str = field(default="", metadata=SETTING)
    """Fields of a request that the endpoint calls otherwise, such as max_tokens=max_completion_tokens; several are
    separated by commas."""
    endpoint_patience_seconds: float = field(default=600.0, metadata=OPERATION | at_least(0))
    """Number of seconds that an endpoint which is busy or away is waited for before the job ends and may be run
    again."""
    engine: Literal["vllm", "endpoint", "transformers"] = field(default="vllm", metadata=SETTING)
    """vllm runs in this process (GPU or CPU build), endpoint asks any server, transformers runs small models on a
    CPU."""
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
    answer_tokens: int = field(default=128, metadata=SETTING | at_least(1))
    """Longest pseudo-answer in tokens."""
    layout: Literal["paper", "cached"] = field(default="paper", metadata=SETTING)
    """Order of a listwise prompt. paper puts the instruction first; cached puts the passages first, so that the calls
    of one query share a prefix in the engine's cache."""
    sampling_profile: str = field(default="auto", metadata=SETTING)
    """Profile of sampling.toml; auto takes that of the model's family, by its name. Thinking models have their vendor's
    sampling."""
    sampling_temperature: float = field(default=-1.0, metadata=SETTING | at_most(2))
    """Sampling temperature that replaces the profile's; 0 is greedy, a negative value keeps the profile's."""
    max_attempts: int = field(default=2, metadata=SETTING | at_least(1))
    """Number of unconstrained tries of one listwise call, each with a new seed; then constrained decoding and a smaller
    window follow."""
    num_in_flight: int = field(default=64, metadata=OPERATION | at_least(1))
    """Number of queries judged at the same time."""
    num_engines: int = field(default=1, metadata=OPERATION | at_least(1))
    """Number of independent engines over one queue, each in a process with a GPU of its own (vllm and transformers)."""
    batch_tokens: int = field(default=1024, metadata=OPERATION | at_least(1))
    """Padded tokens in one forward pass of the transformers engine."""
    shard: int = field(default=0, metadata=FLOW | at_least(0))
    """Number of the shard of the pools that this task judges, from 0."""
    num_shards: int = field(default=1, metadata=SETTING | at_least(1) | at_most(32))
    """Number of shards that the pools are dealt into; pool i goes to shard i modulo this. At most 32: each is a pod of
    its own, and Kubeflow hands their list to the next task as one argument."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of sampling; the number of the attempt is added."""
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
    engine_hour_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of an hour of the machine that runs the engine, all its GPUs together, for the ledger; 0 leaves it
    uncounted."""
    prompt_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million prompt tokens at an endpoint."""
    cached_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million prompt tokens that an endpoint found in its cache."""
    completion_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million completion tokens at an endpoint."""
    human_label_dollars: float = field(default=0.09, metadata=_PRICE)
    """Price of one passage judged by a person for one query, to compare with; the default is the paper's."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if self.engine == "endpoint" and not self.endpoint_uri:
            yield "endpoint_uri '': engine endpoint needs the server's base URL, such as http://host:8000/v1"
        if self.engine != "endpoint" and self.endpoint_uri:
            yield (
                f"endpoint_uri {self.endpoint_uri!r}: engine {self.engine} asks no server; set engine to endpoint "
                "or leave it out"
            )
        if self.endpoint_uri and not self.endpoint_uri.startswith(("http://", "https://")):
            yield f"endpoint_uri {self.endpoint_uri!r}: is no URL; write http://host:8000/v1"
        if self.engine == "endpoint" and self.num_engines > 1:
            yield f"num_engines {self.num_engines}: a server runs its own engines; use 1, and more of num_in_flight"
        if self.shard >= self.num_shards:
            yield f"shard {self.shard}: shards are numbered from 0 to {self.num_shards - 1}"
