"""Settings of ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.ask.styles import DEFAULT_STYLES, parse_styles
from components.shared.roles import INPUT, OPERATION, OUTPUT, PLACE, SETTING, above, at_least, at_most, refuse

_PRICE = SETTING | at_least(0)


@dataclass(frozen=True, kw_only=True)
class AskConfig:
    """Dataset -> dataset with queries that an LLM wrote for sampled passages and filters chose."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the dataset with the asked queries is written to."""
    llm_uri: str = field(metadata=INPUT)
    """Name on the hub, folder, or .gguf file of the LLM; with an endpoint the name of the model that it serves."""
    encoder_uri: str = field(default="", metadata=INPUT)
    """Encoder whose search may find a source passage in the round trip; empty: only BM25 searches."""
    index_uri: str = field(default="", metadata=INPUT)
    """Index of that encoder over the same corpus."""
    journal_uri: str = field(default="", metadata=PLACE)
    """Folder (local or in a bucket) of the log of LLM calls, shared with annotate and with other runs: what it holds is
    not asked again. Empty puts it beside the output."""
    num_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of queries that the LLM is asked to write, before the filters; 0 leaves ask out of a run."""
    styles: str = field(default=DEFAULT_STYLES, metadata=SETTING)
    """Kinds of queries with their shares: question, keywords, claim, conversational, and two_passages, a question that
    needs two passages; such as question=0.5,keywords=0.5."""
    engine: Literal["vllm", "endpoint", "transformers"] = field(default="vllm", metadata=SETTING)
    """vllm runs in this process (GPU or CPU build), endpoint asks any server, transformers runs small models on a
    CPU."""
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
    passage_words: int = field(default=200, metadata=SETTING | at_least(1))
    """Number of words of a passage that the LLM reads; the rest is cut."""
    min_passage_words: int = field(default=12, metadata=SETTING | at_least(1))
    """Number of words that a passage must have to be asked about."""
    query_tokens: int = field(default=64, metadata=SETTING | at_least(8))
    """Longest reply in tokens; a query and the words around it must fit."""
    sampling_profile: str = field(default="auto", metadata=SETTING)
    """Profile of sampling.toml; auto takes that of the model's family, by its name."""
    sampling_temperature: float = field(default=-1.0, metadata=SETTING | at_most(2))
    """Sampling temperature that replaces the profile's; 0 is greedy, a negative value keeps the profile's."""
    max_attempts: int = field(default=2, metadata=SETTING | at_least(1))
    """Number of tries to get one query that can be read, each with a new seed."""
    min_query_words: int = field(default=3, metadata=SETTING | at_least(1))
    """Number of words below which a query is rejected as too short."""
    max_query_words: int = field(default=40, metadata=SETTING | at_least(1))
    """Number of words above which a query is rejected as too long."""
    max_copied_words: int = field(default=8, metadata=SETTING | at_least(1))
    """Number of words in a row that a query may take from its passage; a longer run is rejected as a copy."""
    max_copied_share: float = field(default=0.8, metadata=SETTING | above(0) | at_most(1))
    """Share of the words of a query (of five words or more) that may stand in one run of its passage."""
    max_likeness: float = field(default=0.8, metadata=SETTING | above(0) | at_most(1))
    """Share of common terms (Jaccard) with an earlier query from which on a query is rejected as a duplicate of it."""
    round_trip: Literal["bm25", "dense", "either", "none"] = field(default="either", metadata=SETTING)
    """Whose search must find the source passages again: either takes the better rank of BM25 and the encoder, where
    there is one; none leaves the round trip out."""
    round_trip_depth: int = field(default=20, metadata=SETTING | at_least(2))
    """Number of hits among which every source passage must be; in a small corpus at most 2 % of it, and 3."""
    max_flatness: float = field(default=0.95, metadata=SETTING | above(0) | at_most(1))
    """Score of the last of these BM25 hits as a share of the first one's from which on a query is rejected as too
    general, because nothing tells its passage from the others."""
    min_likelihood_gain: float = field(default=0.0, metadata=SETTING | at_least(0))
    """Nats per token by which the source passage must raise the LLM's likelihood of the query above that with an
    unrelated passage; 0 does not ask the LLM. It costs two more calls a query."""
    num_in_flight: int = field(default=64, metadata=OPERATION | at_least(1))
    """Number of queries written at the same time."""
    num_engines: int = field(default=1, metadata=OPERATION | at_least(1))
    """Number of independent engines over one queue, each in a process with a GPU of its own (vllm and transformers)."""
    batch_tokens: int = field(default=1024, metadata=OPERATION | at_least(1))
    """Padded tokens in one forward pass of the transformers engine."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the draw of passages and of sampling; the number of the attempt is added."""
    engine_hour_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of an hour of the machine that runs the engine, all its GPUs together; 0 leaves it uncounted."""
    prompt_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million prompt tokens at an endpoint."""
    cached_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million prompt tokens that an endpoint found in its cache."""
    completion_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million completion tokens at an endpoint."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        try:
            parse_styles(self.styles)
        except ValueError as error:
            yield f"styles {self.styles!r}: {error}"
        if self.min_query_words > self.max_query_words:
            yield (
                f"min_query_words {self.min_query_words}: is above max_query_words {self.max_query_words}; "
                "no query could have both"
            )
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
        if bool(self.encoder_uri) != bool(self.index_uri):
            yield f"index_uri {self.index_uri!r}: an encoder and its index go together; name both or none"
        if self.round_trip == "dense" and not self.encoder_uri:
            yield "round_trip 'dense': needs encoder_uri and index_uri; name them, or use bm25"
