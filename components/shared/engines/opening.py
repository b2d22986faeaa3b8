"""Which engine a name means; each is imported only when it is opened, because each needs a library of its own."""

from __future__ import annotations

from dataclasses import replace

from components.shared.engines.config import EngineConfig, LoadOptions
from components.shared.engines.engine import Engine, EngineName


def open_engine_of(config: EngineConfig, *, journal_uri: str) -> Engine:
    """Opens the engine of a component's config; `journal_uri` is the journal of its calls, which settles a precision.

    Raises:
        ValueError: As `open_engine`.
    """
    options = LoadOptions.of(config)
    if options.precision == "auto":
        options = _settled(config.llm_uri, options, batch_tokens=config.batch_tokens, journal_uri=journal_uri)
    return open_engine(
        config.engine,
        llm_uri=config.llm_uri,
        endpoint_uri=config.endpoint_uri,
        endpoint_omit=config.endpoint_omit,
        endpoint_rename=config.endpoint_rename,
        endpoint_patience_seconds=config.endpoint_patience_seconds,
        batch_tokens=config.batch_tokens,
        seed=config.seed,
        num_engines=config.num_engines,
        options=options,
    )


def open_engine(
    engine: EngineName,
    *,
    llm_uri: str,
    endpoint_uri: str = "",
    endpoint_omit: str = "",
    endpoint_rename: str = "",
    endpoint_patience_seconds: float = 600.0,
    batch_tokens: int = 1024,
    seed: int = 0,
    num_engines: int = 1,
    options: LoadOptions | None = None,
) -> Engine:
    """Opens the engine of that name; loading a model takes seconds to minutes.

    Args:
        engine: Which one.
        llm_uri: Folder, hub name or .gguf file; for an endpoint the model name it serves.
        endpoint_uri: Base URL of the server, for an endpoint only.
        endpoint_omit: Fields of the request that this server does not take, separated by commas.
        endpoint_rename: Fields that this server calls otherwise, such as max_tokens=max_completion_tokens.
        endpoint_patience_seconds: How long a server that is busy or away is waited for.
        batch_tokens: Padded tokens in one forward pass, for transformers only.
        seed: Of vLLM's sampling where a request has none of its own.
        num_engines: Independent ones over one queue, each in a process with GPUs of its own; an endpoint takes one.
        options: How an engine in this process loads its LLM.

    Raises:
        ValueError: Where the model cannot be found, or an argument contradicts the engine.
    """
    options = options or LoadOptions()
    _refuse_contradictions(engine, endpoint_uri, endpoint_omit, endpoint_rename, num_engines)
    if options.precision == "auto":
        # Once for all engines: each by itself might choose otherwise.
        options = _settled(llm_uri, options, batch_tokens=batch_tokens, journal_uri="")
    if num_engines > 1:
        from components.shared.engines.many import ManyEngines

        given = {"engine": engine, "llm_uri": llm_uri, "batch_tokens": batch_tokens, "seed": seed, "options": options}
        return ManyEngines(num_engines, open_engine, gpus_each=options.tensor_parallel_size, **given)
    # Imported where they are used: each brings a library that the other engines' images do not have.
    if engine == "vllm":
        from components.shared.engines.vllm import VllmEngine

        return VllmEngine(llm_uri, seed=seed, options=options)
    if engine == "endpoint":
        from components.shared.engines.dialect import Dialect
        from components.shared.engines.endpoint import EndpointEngine

        return EndpointEngine(
            endpoint_uri,
            llm_uri,
            dialect=Dialect.read(omit=endpoint_omit, rename=endpoint_rename),
            patience_seconds=endpoint_patience_seconds,
        )
    return _open_transformers(llm_uri, options, batch_tokens=batch_tokens)


def _open_transformers(llm_uri: str, options: LoadOptions, *, batch_tokens: int) -> Engine:
    from components.shared.engines.transformers import TransformersEngine

    assert options.precision != "auto", "settled before"
    return TransformersEngine(
        llm_uri, batch_tokens=batch_tokens, revision=options.revision, precision=options.precision
    )


def _settled(llm_uri: str, options: LoadOptions, *, batch_tokens: int, journal_uri: str) -> LoadOptions:
    from components.shared.calls.precision import settled

    chosen = settled(llm_uri, revision=options.revision, batch_tokens=batch_tokens, journal_uri=journal_uri)
    return replace(options, precision=chosen.precision)


def _refuse_contradictions(
    engine: EngineName, endpoint_uri: str, endpoint_omit: str, endpoint_rename: str, num_engines: int
) -> None:
    if bool(endpoint_uri) != (engine == "endpoint"):
        given = f"endpoint_uri {endpoint_uri!r} is given" if endpoint_uri else "endpoint_uri is empty"
        raise ValueError(
            f"engine {engine!r}, but {given}; an endpoint needs the server's base URL, the other engines take none"
        )
    if engine != "endpoint" and (endpoint_omit or endpoint_rename):
        raise ValueError(
            f"engine {engine!r} sends no request to a server, so endpoint_omit {endpoint_omit!r} and endpoint_rename "
            f"{endpoint_rename!r} say nothing; leave them empty, or use --engine endpoint"
        )
    if num_engines > 1 and engine == "endpoint":
        raise ValueError(
            f"num_engines {num_engines}: a server runs its own engines; use one here, and more of num_in_flight"
        )
