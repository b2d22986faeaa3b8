"""Settings of annotate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal["utility_selection", "utility_ranking", "query_likelihood", "answer_likelihood", "replug"]


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """Pools -> annotations: an LLM judges each passage's utility for answering the query."""

    dataset_uri: str
    """Dataset of prepare."""
    pools_uri: str
    """Pools of mine."""
    output_uri: str
    """Where the annotations go."""
    llm_uri: str
    """Name on the hub, folder, or .gguf file of the LLM; with an endpoint the model name it serves."""
    journal_uri: str = ""
    """Folder (local or gs://) of the log of LLM calls, shared by shards and runs: no call in it is made again. Empty:
    beside the output."""
    endpoint_uri: str = ""
    """Base URL of an OpenAI-compatible server (engine endpoint only), such as http://host:8000/v1."""
    endpoint_omit: str = ""
    """Fields of a request, separated by commas, that are not sent because the endpoint refuses them, such as
    seed,top_k."""
    endpoint_rename: str = ""
    """Fields of a request that the endpoint calls otherwise, such as max_tokens=max_completion_tokens; several are
    separated by commas."""
    endpoint_patience_seconds: float = 600.0
    """How many seconds an endpoint that is busy or away is waited for before the job ends and may be run again."""
    engine: Literal["vllm", "endpoint", "transformers"] = "vllm"
    """vllm: in this process, GPU or CPU build. endpoint: any server. transformers: CPU, for small models."""
    method: Method = "utility_selection"
    """Selection and ranking need a model that follows instructions; the likelihoods work with any causal LM. replug
    weighs the collection's answers, answer_likelihood the LLM's own, query_likelihood the query."""
    window: int = 16
    """Passages in one relevance selection call."""
    passage_words: int = 300
    """Words of a passage that the LLM reads; the rest is cut."""
    rank_share: float = 0.1
    """utility_ranking: share of the ranked list that becomes positive (floor, at least one)."""
    likelihood: Literal["mean", "sum"] = "mean"
    """Likelihood methods: what the softmax over the pool is taken of; a token's mean, or the sum over the tokens."""
    positive_margin: float = 0.0
    """Likelihood methods: nats per token below the pool's best passage that still count as positive; 0 = the best
    only."""
    ignore_margin: float = 0.3
    """Likelihood methods: nats per token below the best within which a passage is ignored, neither positive nor
    negative."""
    calibration_queries: int = 100
    """query_likelihood and answer_likelihood: queries with human positives that both margins are fitted to, at most
    half of those that have one; as given where that leaves fewer than 20. 0 = as given."""
    not_useful: Literal["ignore", "negative"] = "ignore"
    """Label of a passage selected as relevant but not as useful; the paper uses negative."""
    answer_tokens: int = 128
    """Longest pseudo-answer."""
    layout: Literal["paper", "cached"] = "paper"
    """Listwise prompts. paper: instruction first. cached: passages first, so that a query's calls share a prefix in the
    engine's cache."""
    sampling_profile: str = "auto"
    """A profile of sampling.toml; auto: that of the model's family, by its name. Thinking models have their vendor's
    sampling."""
    sampling_temperature: float = -1.0
    """Over the profile's; 0 = greedy. Negative: the profile's."""
    max_attempts: int = 2
    """Unconstrained tries of one listwise call, each with a new seed; then constrained decoding and a smaller window
    are tried."""
    num_in_flight: int = 64
    """Queries judged at the same time."""
    num_engines: int = 1
    """vllm and transformers: independent engines over one queue, each in a process with a GPU of its own."""
    batch_tokens: int = 1024
    """transformers engine: padded tokens in one forward pass."""
    shard: int = 0
    """Which shard of the pools this task judges, from 0."""
    num_shards: int = 1
    """Shards the pools are dealt into; pool i goes to shard i modulo this."""
    seed: int = 42
    """Of sampling; the attempt's number is added."""
    recheck_share: float = 0.02
    """Share of the queries that are judged again in another order, to measure the annotator's agreement with itself; 0
    = none."""
    utility_labels_uri: str = ""
    """Human utility labels for the quality report beside the qrels: tab-separated query id, passage id, 0 or 1, below a
    header line."""
    gold_queries: int = 0
    """Queries whose human labels the prediction-powered estimate may see, drawn at random; 0 = all that have any."""
    previous_uri: str = ""
    """Annotations of an earlier run that the quality report measures drift against; several shards are separated by
    commas."""
    engine_hour_dollars: float = 0.0
    """Price of an hour of the machine that runs the engine, all its GPUs together, for the ledger; 0 = not counted."""
    prompt_million_dollars: float = 0.0
    """An endpoint's price of a million prompt tokens."""
    cached_million_dollars: float = 0.0
    """An endpoint's price of a million prompt tokens that it found in its cache."""
    completion_million_dollars: float = 0.0
    """An endpoint's price of a million completion tokens."""
    human_label_dollars: float = 0.09
    """A person's price for judging one passage for one query, to compare with; the default is the paper's."""
