"""What a component says of its LLM, said once: these fields are part of the config of every job that asks one.

No heavy library is needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Literal, TypeAlias

from components.shared.durable.storage import is_remote
from components.shared.roles import INPUT, OPERATION, PLACE, SETTING, above, at_least, at_most

WeightPrecision: TypeAlias = Literal["fp32", "bf16"]

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
    """Number of independent engines over one queue, each in a process with GPUs of its own (vllm and transformers)."""
    llm_revision: str = field(default="", metadata=SETTING)
    """Branch, tag or commit of the LLM on the hub (vllm and transformers); empty takes its newest state, which may
    move."""
    llm_precision: Literal["auto", "fp32", "bf16"] = field(default="fp32", metadata=SETTING)
    """Precision of the weights in the transformers engine. auto takes bf16 where the processor computes in it, it was
    at least 1.1 times as fast as fp32 in a measured second, and no token's log-likelihood moved by more than 0.25 nats;
    what was taken is kept in the journal for all who share it, and stands in the model's name of every label."""
    vllm_quantization: str = field(default="", metadata=SETTING)
    """Quantisation in which vLLM reads the weights, or which it makes when it loads them, such as fp8, awq or gptq;
    empty is what the model's own config says."""
    vllm_max_model_tokens: int = field(default=0, metadata=SETTING | at_least(0))
    """Longest prompt with its reply in tokens that vLLM keeps memory for; a longer one is refused. 0 is the model's own
    limit, whose cache may be more than a GPU holds."""
    vllm_tensor_parallel_size: int = field(default=1, metadata=OPERATION | at_least(1))
    """Number of GPUs that each vLLM engine deals its weights over, for an LLM that is larger than one GPU."""
    vllm_gpu_memory_share: float = field(default=0.9, metadata=OPERATION | above(0) | at_most(1))
    """Share of a GPU's memory that vLLM takes for weights and cache; less where something else runs there too."""
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
    yield from _local_contradictions(config)


def _local_contradictions(config: EngineConfig) -> Iterator[str]:
    """What only an engine in this process can do, asked of another one."""
    if config.llm_revision and (config.engine == "endpoint" or _is_no_hub_name(config.llm_uri)):
        yield (
            f"llm_revision {config.llm_revision!r}: only a model that this engine loads from the hub has revisions; "
            "leave it out, or name the model as the hub does"
        )
    if config.llm_precision != "fp32" and config.engine != "transformers":
        yield (
            f"llm_precision {config.llm_precision!r}: engine {config.engine} has a precision of its own, only "
            "transformers can be told; leave it out"
        )
    if config.engine == "vllm":
        return
    defaults = {field.name: field.default for field in fields(config)}
    for name in (name for name in defaults if name.startswith("vllm_")):
        if (value := getattr(config, name)) != defaults[name]:
            yield f"{name} {value!r}: engine {config.engine} is not vllm; leave it out"


def _is_no_hub_name(llm_uri: str) -> bool:
    return is_remote(llm_uri) or llm_uri.startswith(("/", ".", "~")) or llm_uri.endswith(".gguf")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How an engine in this process loads its LLM; the fields are those of EngineConfig."""

    revision: str = ""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    quantization: str = ""
    max_model_tokens: int = 0
    tensor_parallel_size: int = 1
    gpu_memory_share: float = 0.9

    @classmethod
    def of(cls, config: EngineConfig) -> LoadOptions:
        """Those of a component's config."""
        return cls(
            revision=config.llm_revision,
            precision=config.llm_precision,
            quantization=config.vllm_quantization,
            max_model_tokens=config.vllm_max_model_tokens,
            tensor_parallel_size=config.vllm_tensor_parallel_size,
            gpu_memory_share=config.vllm_gpu_memory_share,
        )
