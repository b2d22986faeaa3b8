"""Prompts -> completions or token log-likelihoods, from three engines behind one small interface.

An engine takes requests one by one and gives results as they finish, in any order: so a queue of dependent calls keeps
it full, and each result can be kept the moment it exists. Equal requests get equal results where sampling is greedy.
Every engine cuts a likelihood's text at the same place: context and continuation are tokenised apart and their tokens
joined.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from components.shared.durable import storage
from components.shared.engines.finish import FinishReason as FinishReason
from components.shared.engines.finish import read_reason

Role = Literal["system", "user", "assistant"]


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
    """The LLM's reply; `reason` is the engine's own word for its end, None where it said none.

    `cached_tokens` of the prompt came from the engine's prefix cache; `engine_seconds` is the call's share of the
    engine's busy time. Where the engine did not say how many tokens there were, they are 0 and `is_counted` is False.
    """

    key: str
    text: str
    reason: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    engine_seconds: float = field(default=0.0, compare=False)
    is_counted: bool = True

    @property
    def finish_reason(self) -> FinishReason:
        """Our reading of `reason`; `length` means that the reply was cut at max_tokens."""
        return read_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural log-likelihood of each token of the continuation, in order; every one of them is finite."""

    key: str
    logprobs: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    engine_seconds: float = field(default=0.0, compare=False)
    is_counted: bool = True


Result = Completion | Likelihood


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the engine will not answer, however often it is asked; `words` are the engine's own reason."""

    key: str
    words: str


class PromptError(ValueError):
    """One prompt that the engine cannot take, such as one that is too long; the other prompts are not touched by it."""


class BusyTime:
    """Shares an engine's busy time among the requests that it works on at once; their seconds add up to that time."""

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
    """What ask and annotate ask of an LLM."""

    model: str
    """Name and revision, as recorded with every label."""

    @property
    def can_constrain(self) -> bool:
        """Whether the engine keeps a completion to its request's pattern."""

    def submit(self, request: Request) -> None:
        """Queues a request; does not wait.

        Raises:
            PromptError: Where the engine can see at once that it cannot take this prompt.
        """

    def collect(self) -> Sequence[Result | Refusal]:
        """Waits until at least one queued request is finished and returns all that are; empty where none is queued.

        Raises:
            TransientError: Where the engine is out of reach; the finished results are not lost.
            ValueError: Where no request can succeed before the user changes something.
        """

    def close(self) -> None:
        """Frees the model or the connections."""


EngineName = Literal["vllm", "endpoint", "transformers"]


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
        PromptError: Where context or continuation has no token; the first token of a text has no likelihood.
        ValueError: Where the model has no chat template for these turns.
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
    """Raises PromptError where one side of the border has no token."""
    if not num_context or not num_continuation:
        raise PromptError(
            f"request {request.key!r}: context has {num_context} tokens, continuation {num_continuation}; both need one"
        )


def check_length(request: Request, num_tokens: int, max_model_tokens: int) -> None:
    """Raises PromptError where prompt and reply would not fit into the model, which would then forget or fail."""
    needed = num_tokens + (request.max_tokens if isinstance(request, CompletionRequest) else 0)
    if needed > max_model_tokens:
        raise PromptError(
            f"request {request.key!r} needs {needed} tokens, the model takes {max_model_tokens}; "
            "use a smaller window or fewer passage words, or another model"
        )


def model_name(llm_uri: str, *, revision: str = "", quantization: str = "", precision: str = "fp32") -> str:
    """The name as recorded with labels: without the machine's folders, with what else was asked for of its weights.

    fp32 goes without saying, so that calls of versions that knew nothing else are still found.
    """
    name = Path(llm_uri).name if Path(llm_uri).exists() or storage.is_remote(llm_uri) else llm_uri
    asked = (
        ("revision", revision),
        ("quantization", quantization),
        ("precision", "" if precision == "fp32" else precision),
    )
    return name + "".join(f";{word} {value}" for word, value in asked if value)
