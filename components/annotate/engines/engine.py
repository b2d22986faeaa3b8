"""Prompts -> completions or token log-likelihoods, from three engines behind one small interface.

An engine takes requests one by one and gives results as they finish, in any order: so a queue of dependent calls keeps
it full, and each result can be kept the moment it exists. Equal requests get equal results where sampling is greedy.
Every engine cuts a likelihood's text at the same place: context and continuation are tokenised apart and their tokens
joined.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from components.shared import log, storage
from components.shared.hashing import file_digest

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "abort", "content_filter"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A chat to continue; `key` names the result.

    `pattern` is a regular expression of literals, alternatives and repetition that the reply must match, where the
    engine can constrain its decoding; empty: free. `chat_options` go to the model's chat template.
    """

    key: str
    turns: tuple[Turn, ...]
    max_tokens: int
    sampling_temperature: float
    seed: int
    top_p: float = 1.0
    top_k: int = 0
    pattern: str = ""
    chat_options: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """A continuation whose tokens are to be weighed given the context; plain text, no chat template."""

    key: str
    context: str
    continuation: str


Request = CompletionRequest | LikelihoodRequest


@dataclass(frozen=True, slots=True)
class Completion:
    """The LLM's reply; finish_reason `length` means it was cut at max_tokens.

    `cached_tokens` of the prompt came from the engine's prefix cache; `engine_seconds` is the call's share of the
    engine's busy time.
    """

    key: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    engine_seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural log-likelihood of each token of the continuation, in order."""

    key: str
    logprobs: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    engine_seconds: float = field(default=0.0, compare=False)


Result = Completion | Likelihood


class BusyTime:
    """Shares an engine's busy time among the requests it works on at once, so that their seconds add up to that time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock, self._last, self._num_requests, self._share = clock, clock(), 0, 0.0

    def start(self) -> float:
        """A request joins; give what this returns to `stop`."""
        self._advance()
        self._num_requests += 1
        return self._share

    def stop(self, started: float) -> float:
        """A request leaves; returns its seconds."""
        self._advance()
        self._num_requests -= 1
        return self._share - started

    def _advance(self) -> None:
        # Time of one request in the engine, were it always alone with the average of the others: processor sharing.
        now = self._clock()
        self._share += (now - self._last) / max(1, self._num_requests)
        self._last = now


@runtime_checkable
class Engine(Protocol):
    """What annotate asks of an LLM."""

    model: str
    """Name and revision, as recorded with every label."""

    @property
    def can_constrain(self) -> bool:
        """Whether the engine keeps a completion to its request's pattern."""

    def submit(self, request: Request) -> None:
        """Queues a request; does not wait."""

    def collect(self) -> list[Result]:
        """Waits until at least one queued request is finished and returns all that are; empty where none is queued.

        Raises:
            TransientError: Where the engine is out of reach; the finished results are not lost.
        """

    def close(self) -> None:
        """Frees the model or the connections."""


EngineName = Literal["vllm", "endpoint", "transformers"]


def open_engine(
    engine: EngineName,
    *,
    llm_uri: str,
    endpoint_uri: str = "",
    batch_tokens: int = 1024,
    seed: int = 0,
    num_engines: int = 1,
) -> Engine:
    """Opens the engine of that name; loading a model takes seconds to minutes.

    Args:
        engine: Which one.
        llm_uri: Folder, hub name or .gguf file; for an endpoint the model name it serves.
        endpoint_uri: Base URL of the server, for an endpoint only.
        batch_tokens: Padded tokens in one forward pass, for transformers only.
        seed: Of vLLM's sampling where a request has none of its own.
        num_engines: Independent ones over one queue, each in a process with a GPU of its own; an endpoint takes one.

    Raises:
        ValueError: Where the model cannot be found, or an argument contradicts the engine.
    """
    if bool(endpoint_uri) != (engine == "endpoint"):
        given = f"endpoint_uri {endpoint_uri!r} is given" if endpoint_uri else "endpoint_uri is empty"
        raise ValueError(
            f"engine {engine!r}, but {given}; an endpoint needs the server's base URL, the other engines take none"
        )
    if num_engines > 1 and engine == "endpoint":
        raise ValueError(
            f"num_engines {num_engines}: a server runs its own engines; use one here, and more of num_in_flight"
        )
    if num_engines > 1:
        from components.annotate.engines.many import ManyEngines

        return ManyEngines(num_engines, engine=engine, llm_uri=llm_uri, batch_tokens=batch_tokens, seed=seed)
    # Imported where they are used: each brings a library that the other engines' images do not have.
    if engine == "vllm":
        from components.annotate.engines.vllm import VllmEngine

        return VllmEngine(llm_uri, seed=seed)
    if engine == "endpoint":
        from components.annotate.engines.endpoint import EndpointEngine

        return EndpointEngine(endpoint_uri, llm_uri)
    from components.annotate.engines.transformers import TransformersEngine

    return TransformersEngine(llm_uri, batch_tokens=batch_tokens)


@runtime_checkable
class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that engines use."""

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]:
        """Token ids under `input_ids`."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, add_generation_prompt: bool, tokenize: bool, **chat_options: bool
    ) -> str:
        """The chat as the text that the model was trained on."""


def token_ids(tokenizer: Tokenizer, request: Request) -> tuple[list[int], list[int]]:
    """Token ids of the context and of the continuation; tokenised apart, so that the border is where the text says.

    Raises:
        ValueError: Where context or continuation has no token (the first token of a text has no likelihood), or
            where the model has no chat template for these turns.
    """
    if isinstance(request, LikelihoodRequest):
        context = tokenizer(request.context, add_special_tokens=True)["input_ids"]
        continuation = tokenizer(request.continuation, add_special_tokens=False)["input_ids"]
        check_border(request, len(context), len(continuation))
        return context, continuation
    from jinja2 import TemplateError

    chat = [{"role": turn.role, "content": turn.content} for turn in request.turns]
    try:
        options = dict(request.chat_options)
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False, **options)
    except (TemplateError, ValueError) as error:
        raise ValueError(
            f"the model has no chat template for turns {[turn.role for turn in request.turns]}: {error}"
        ) from error
    return tokenizer(prompt, add_special_tokens=False)["input_ids"], []


def check_border(request: LikelihoodRequest, num_context: int, num_continuation: int) -> None:
    """Raises ValueError where one side of the border has no token."""
    if not num_context or not num_continuation:
        raise ValueError(
            f"request {request.key!r}: context has {num_context} tokens, continuation {num_continuation}; both need one"
        )


def check_length(request: Request, num_tokens: int, max_model_tokens: int) -> None:
    """Raises ValueError where prompt and reply would not fit into the model; it would forget or fail."""
    needed = num_tokens + (request.max_tokens if isinstance(request, CompletionRequest) else 0)
    if needed > max_model_tokens:
        raise ValueError(
            f"request {request.key!r} needs {needed} tokens, the model takes {max_model_tokens}; "
            "use a smaller window or fewer passage words, or another model"
        )


def model_name(llm_uri: str) -> str:
    """The name as recorded with labels: without the machine's folders."""
    return Path(llm_uri).name if Path(llm_uri).exists() or storage.is_remote(llm_uri) else llm_uri


@contextmanager
def loading(llm_uri: str) -> Iterator[str]:
    """What transformers and vLLM can load: a local folder, or the hub name itself.

    Raises:
        ValueError: Where the block cannot load it; a library's OSError says neither what to do nor whose mistake it is.
    """
    try:
        source = str(storage.fetch(llm_uri)) if storage.is_remote(llm_uri) else llm_uri
        yield str(_unpacked_gguf(Path(source))) if source.endswith(".gguf") else source
    except OSError as error:
        problem = str(error).strip().split("\n", 1)[0]
        remedy = (
            "check the path"
            if Path(llm_uri).is_absolute() or llm_uri.startswith(".")
            else "check the name, or give a local folder"
        )
        raise ValueError(f"llm_uri {llm_uri!r} cannot be loaded ({problem}); {remedy}") from error


def _unpacked_gguf(path: Path) -> Path:
    """A Hugging Face folder (fp32 safetensors, tokenizer) with the content of a .gguf file, made once on a machine.

    Reading the .gguf costs 57 CPU seconds at 135M parameters (27 with `_parsed_once`), the folder 3; vLLM reads folders
    only. It takes 4 bytes a parameter under ~/.cache/retriever.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

    folder = Path.home() / ".cache" / "retriever" / "gguf" / f"{file_digest(path)[:16]}-transformers-{__version__}"
    if folder.exists():
        return folder
    log.event("unpacking a .gguf file, once on this machine", file=path.name, into=folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, _parsed_once():
        partial = Path(scratch) / folder.name
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(partial)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        # Saved by an empty model of the same shape: the loaded one's config says that its weights are quantised, which
        # they no longer are.
        config = type(model.config)(
            **{name: value for name, value in model.config.to_dict().items() if name != "quantization_config"}
        )
        with torch.device("meta"):
            empty = type(model)(config)
        empty.save_pretrained(partial, state_dict=model.state_dict())
        # Another process may have been faster; its folder has the same content.
        with suppress(OSError):
            partial.rename(folder)
    return folder


@contextmanager
def _parsed_once() -> Iterator[None]:
    """Makes transformers parse the file once, not three times, and build the map of tensor names once, not once a module."""
    import gguf

    its: dict[str, Callable[..., Any]] = {
        "GGUFReader": gguf.GGUFReader,
        "get_tensor_name_map": gguf.get_tensor_name_map,
    }
    vars(gguf).update({name: cache(function) for name, function in its.items()})
    try:
        yield
    finally:
        vars(gguf).update(its)
