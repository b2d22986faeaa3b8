"""What a component says of its LLM, said once: these fields are part of the config of every job that asks one.

No heavy library is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import INPUT, OPERATION, PLACE, SETTING, at_least, at_most

_PRICE = SETTING | at_least(0)


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """The LLM, the engine that runs it, the journal of its calls, how it is sampled, and what it costs."""

    llm_uri: str = field(metadata=INPUT)
    """Name on the hub, folder, or .gguf file of the LLM; with an endpoint the name of the model that it serves."""
    journal_uri: str = field(default="", metadata=PLACE)
    """Folder (local or in a bucket) of the log of LLM calls, shared by shards, by tasks and by runs: what it holds is
    not asked again. Empty puts it beside the output."""
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
    sampling_profile: str = field(default="auto", metadata=SETTING)
    """Profile of sampling.toml; auto takes that of the model's family, by its name. Thinking models have their vendor's
    sampling."""
    sampling_temperature: float = field(default=-1.0, metadata=SETTING | at_most(2))
    """Sampling temperature that replaces the profile's; 0 is greedy, a negative value keeps the profile's."""
    num_in_flight: int = field(default=64, metadata=OPERATION | at_least(1))
    """Number of queries that the LLM is asked about at the same time."""
    num_engines: int = field(default=1, metadata=OPERATION | at_least(1))
    """Number of independent engines over one queue, each in a process with a GPU of its own (vllm and transformers)."""
    batch_tokens: int = field(default=1024, metadata=OPERATION | at_least(1))
    """Padded tokens in one forward pass of the transformers engine."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of every draw and of sampling, where the number of the attempt is added."""
    engine_hour_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of an hour of the machine that runs the engine, all its GPUs together; 0 leaves it uncounted."""
    prompt_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million prompt tokens at an endpoint."""
    cached_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million prompt tokens that an endpoint found in its cache."""
    completion_million_dollars: float = field(default=0.0, metadata=_PRICE)
    """Price of a million completion tokens at an endpoint."""


def engine_contradictions(config: EngineConfig) -> Iterator[str]:
    """One line, beginning with the field's name, for every two of these fields that cannot be together."""
    if config.engine == "endpoint" and not config.endpoint_uri:
        yield "endpoint_uri '': engine endpoint needs the server's base URL, such as http://host:8000/v1"
    if config.engine != "endpoint" and config.endpoint_uri:
        yield (
            f"endpoint_uri {config.endpoint_uri!r}: engine {config.engine} asks no server; set engine to endpoint "
            "or leave it out"
        )
    if config.endpoint_uri and not config.endpoint_uri.startswith(("http://", "https://")):
        yield f"endpoint_uri {config.endpoint_uri!r}: is no URL; write http://host:8000/v1"
    if config.engine == "endpoint" and config.num_engines > 1:
        yield f"num_engines {config.num_engines}: a server runs its own engines; use 1, and more of num_in_flight"
