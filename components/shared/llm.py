"""Prompts -> completions or token log-likelihoods, from three engines behind one small interface.

An engine takes requests one by one and gives results as they finish, in any order: so a queue of dependent calls keeps it
full, and each result can be kept the moment it exists. Equal requests get equal results where sampling is greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A chat to continue; `key` names the result."""

    key: str
    turns: tuple[Turn, ...]
    max_tokens: int
    sampling_temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class LikelihoodRequest:
    """A continuation whose tokens are to be weighed given the context; plain text, no chat template."""

    key: str
    context: str
    continuation: str


Request = CompletionRequest | LikelihoodRequest


@dataclass(frozen=True, slots=True)
class Completion:
    """The LLM's reply; finish_reason `length` means it was cut at max_tokens."""

    key: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Natural log-likelihood of each token of the continuation, in order."""

    key: str
    logprobs: tuple[float, ...]
    prompt_tokens: int


Result = Completion | Likelihood


class Engine(Protocol):
    """What annotate asks of an LLM."""

    model: str
    """Name and revision, as recorded with every label."""

    def submit(self, request: Request) -> None:
        """Queues a request; does not wait."""

    def collect(self) -> list[Result]:
        """Waits until at least one queued request is finished and returns all that are; empty where none is queued.

        Raises:
            TransientError: Where the engine is out of reach; the finished results are not lost.
        """

    def close(self) -> None:
        """Frees the model or the connections."""


class TransformersEngine:
    """A small causal LM on the CPU: likelihoods in length-sorted batches, completions by generate()."""

    def __init__(self, llm_uri: str, *, batch_tokens: int) -> None:
        """Loads a folder, a hub name, or a .gguf file (dequantised to fp32)."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder, gguf = (str(Path(llm_uri).parent), Path(llm_uri).name) if llm_uri.endswith(".gguf") else (llm_uri, None)
        arguments = {"gguf_file": gguf} if gguf else {}
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **arguments)
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **arguments).eval()
        self._batch_tokens = batch_tokens
        self._queue: list[tuple[Request, list[int], list[int]]] = []
        self.model = Path(llm_uri).name if Path(llm_uri).exists() else f"{llm_uri}@{getattr(self._model.config, '_commit_hash', None)}"

    def submit(self, request: Request) -> None:
        """Queues a request."""
        context, continuation = _token_ids(self._tokenizer, request)
        self._queue.append((request, context, continuation))

    def collect(self) -> list[Result]:
        """Computes one batch: the longest queued requests of one kind."""
        if not self._queue:
            return []
        self._queue.sort(key=lambda entry: (isinstance(entry[0], LikelihoodRequest), len(entry[1]) + len(entry[2])))
        kind = type(self._queue[-1][0])
        longest = len(self._queue[-1][1]) + len(self._queue[-1][2])
        batch: list[tuple[Request, list[int], list[int]]] = []
        while self._queue and type(self._queue[-1][0]) is kind and (not batch or (len(batch) + 1) * longest <= self._batch_tokens):
            if kind is CompletionRequest and batch and _sampling(batch[0][0]) != _sampling(self._queue[-1][0]):
                break
            batch.append(self._queue.pop())
        with self._torch.inference_mode():
            return self._weigh(batch) if kind is LikelihoodRequest else self._generate(batch)

    def close(self) -> None:
        """Drops the queue."""
        self._queue.clear()

    def _weigh(self, batch: Sequence[tuple[Request, list[int], list[int]]]) -> list[Result]:
        ids, mask, positions = self._left_padded([context + continuation for _, context, continuation in batch])
        longest = max(len(continuation) for _, _, continuation in batch)
        # Left padding puts every continuation at the end, so that the vocabulary projection, a fifth of a small model's
        # work, is computed for those positions only.
        logits = self._model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=longest + 1, use_cache=False).logits
        logprobs = logits[:, :-1].float().log_softmax(-1)
        results: list[Result] = []
        for row, (request, context, continuation) in enumerate(batch):
            targets = self._torch.tensor(continuation)
            its = logprobs[row, longest - len(continuation) :].gather(-1, targets[:, None])[:, 0]
            results.append(Likelihood(request.key, tuple(its.tolist()), len(context) + len(continuation)))
        return results

    def _generate(self, batch: Sequence[tuple[Request, list[int], list[int]]]) -> list[Result]:
        ids, mask, _ = self._left_padded([context for _, context, _ in batch])
        max_tokens, sampling_temperature, seed = _sampling(batch[0][0])
        self._torch.manual_seed(seed)
        sampling = {"do_sample": True, "temperature": sampling_temperature} if sampling_temperature > 0 else {"do_sample": False}
        end = self._tokenizer.eos_token_id
        output = self._model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, pad_token_id=end, **sampling)
        results: list[Result] = []
        for (request, context, _), generated in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
            stopped = end in generated
            its = generated[: generated.index(end)] if stopped else generated
            text = self._tokenizer.decode(its, skip_special_tokens=True)
            results.append(Completion(request.key, text, "stop" if stopped else "length", len(context), len(its) + stopped))
        return results

    def _left_padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        longest = max(map(len, rows))
        ids = self._torch.zeros((len(rows), longest), dtype=self._torch.long)
        mask = self._torch.zeros_like(ids)
        for row, its in enumerate(rows):
            ids[row, longest - len(its) :] = self._torch.tensor(its)
            mask[row, longest - len(its) :] = 1
        return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def _sampling(request: Request) -> tuple[int, float, int]:
    assert isinstance(request, CompletionRequest)
    return request.max_tokens, request.sampling_temperature, request.seed


class _Tokenizer(Protocol):
    def __call__(self, text: str, *, add_special_tokens: bool) -> dict[str, list[int]]: ...

    def apply_chat_template(self, conversation: list[dict[str, str]], *, add_generation_prompt: bool, tokenize: bool) -> str: ...


def _token_ids(tokenizer: _Tokenizer, request: Request) -> tuple[list[int], list[int]]:
    """Token ids of the context and of the continuation; tokenised apart, so that the border is where the text says."""
    if isinstance(request, LikelihoodRequest):
        context = tokenizer(request.context, add_special_tokens=True)["input_ids"]
        return context, tokenizer(request.continuation, add_special_tokens=False)["input_ids"]
    chat = [{"role": turn.role, "content": turn.content} for turn in request.turns]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer(prompt, add_special_tokens=False)["input_ids"], []
