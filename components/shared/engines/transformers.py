"""A small causal LM on the CPU by transformers alone: for a laptop, and as the measure for the other engines."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.shared.contract.needs import check_gpu_is_used
from components.shared.engines.config import WeightPrecision
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Likelihood,
    LikelihoodRequest,
    Request,
    Result,
    check_length,
    model_name,
    token_ids,
)
from components.shared.engines.loading import load_causal, loading

if TYPE_CHECKING:
    import torch

# A request, the tokens of its prompt or context, and those of its continuation.
Queued = tuple[Request, list[int], list[int]]


class TransformersEngine:
    """A small causal LM on the CPU: likelihoods in length-sorted batches, completions by generate()."""

    def __init__(
        self, llm_uri: str, *, batch_tokens: int, revision: str = "", precision: WeightPrecision = "fp32"
    ) -> None:
        """Loads a folder, a hub name, or a .gguf file (dequantised to fp32), and turns the weights to the precision."""
        check_gpu_is_used(
            "engine transformers", num_gpus=0, remedy="use engine vllm, or a profile that gives this task no GPU"
        )
        import torch
        from transformers.utils import logging as transformers_logging

        self._torch = torch
        # A bar of a second tells a log nothing.
        transformers_logging.disable_progress_bar()
        with loading(llm_uri, revision=revision) as source:
            self._tokenizer, self._model = load_causal(llm_uri, source, revision=revision)
        if precision == "bf16":
            to_bf16(self._model)
        self._end_ids = _end_ids(self._model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        self._batch_tokens = batch_tokens
        self._queue: list[Queued] = []
        self._texts: list[str] | None = None
        self.model = model_name(llm_uri, revision=revision, precision=precision)

    @property
    def can_constrain(self) -> bool:
        """True: see `_Constrained`."""
        return True

    def submit(self, request: Request) -> None:
        """Queues a request."""
        context, continuation = token_ids(self._tokenizer, request)
        check_length(request, len(context) + len(continuation), self._model.config.max_position_embeddings)
        self._queue.append((request, context, continuation))

    def collect(self) -> list[Result]:
        """Computes one batch: the oldest queued request, and those like it that are nearest in length."""
        if not self._queue:
            return []
        batch = self._next_batch()
        start = time.monotonic()
        with self._torch.inference_mode():
            results = self._weigh(batch) if isinstance(batch[0][0], LikelihoodRequest) else self._generate(batch)
        seconds = (time.monotonic() - start) / len(batch)
        return [replace(result, engine_seconds=seconds) for result in results]

    def _next_batch(self) -> list[Queued]:
        """Takes the oldest request and those nearest to it in length: nobody waits for ever, and little is padded.

        Longest first would let late long requests overtake short ones without end.
        """
        oldest = self._queue[0]
        alike = [place for place, queued in enumerate(self._queue) if _decoding(queued[0]) == _decoding(oldest[0])]
        alike.sort(key=lambda place: abs(_length(self._queue[place]) - _length(oldest)))
        taken: set[int] = set()
        longest = 0
        for place in alike:
            longest = max(longest, _length(self._queue[place]))
            if taken and (len(taken) + 1) * longest > self._batch_tokens:
                break
            taken.add(place)
        batch = [self._queue[place] for place in sorted(taken)]
        self._queue = [queued for place, queued in enumerate(self._queue) if place not in taken]
        return batch

    def close(self) -> None:
        """Drops the queue."""
        self._queue.clear()

    def _weigh(self, batch: Sequence[Queued]) -> list[Result]:
        ids, mask, positions = self._left_padded([context + continuation for _, context, continuation in batch])
        longest = max(len(continuation) for _, _, continuation in batch)
        # Left padding puts every continuation at the end, so that the vocabulary projection, a fifth of a small model's
        # work, is computed for those positions only.
        logits = self._model(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=longest + 1, use_cache=False
        ).logits
        logprobs = logits[:, :-1].float().log_softmax(-1)
        results: list[Result] = []
        for row, (request, context, continuation) in enumerate(batch):
            targets = self._torch.tensor(continuation)
            weighed = logprobs[row, longest - len(continuation) :].gather(-1, targets[:, None])[:, 0]
            results.append(Likelihood(request.key, tuple(weighed.tolist()), len(context) + len(continuation)))
        return results

    def _generate(self, batch: Sequence[Queued]) -> list[Result]:
        ids, mask, _ = self._left_padded([context for _, context, _ in batch])
        first = batch[0][0]
        assert isinstance(first, CompletionRequest)
        self._torch.manual_seed(first.seed)
        # A model's own generation defaults would bend the distribution, greedy decoding too (a repetition penalty);
        # vLLM has none.
        sampling: dict[str, Any] = {"do_sample": False, "repetition_penalty": 1.0}
        if first.sampling_temperature > 0:
            drawn = {"temperature": first.sampling_temperature, "top_k": first.top_k, "top_p": first.top_p}
            sampling = {"do_sample": True, "repetition_penalty": 1.0} | drawn
        if first.pattern:
            sampling["logits_processor"] = [self._constrained(first.pattern, ids.shape[1])]
        ends = {"pad_token_id": min(self._end_ids), "eos_token_id": sorted(self._end_ids)}
        output = self._model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=first.max_tokens, **ends, **sampling
        )
        results: list[Result] = []
        for (request, context, _), generated in zip(batch, output[:, ids.shape[1] :].tolist(), strict=True):
            length = next((place for place, token in enumerate(generated) if token in self._end_ids), None)
            text = self._tokenizer.decode(generated[:length], skip_special_tokens=True)
            num_tokens = len(generated) if length is None else length + 1
            results.append(
                Completion(request.key, text, "length" if length is None else "stop", len(context), num_tokens)
            )
        return results

    def _constrained(self, pattern: str, num_prompt: int) -> _Constrained:
        if self._texts is None:
            tokens = range(len(self._tokenizer))
            self._texts = self._tokenizer.batch_decode([[token] for token in tokens], skip_special_tokens=False)
        return _Constrained(pattern, self._texts, self._end_ids, num_prompt)

    def _left_padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        longest = max(map(len, rows))
        ids = self._torch.zeros((len(rows), longest), dtype=self._torch.long)
        mask = self._torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, longest - len(tokens) :] = self._torch.tensor(tokens)
            mask[row, longest - len(tokens) :] = 1
        return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def to_bf16(model: Any) -> None:  # noqa: ANN401 any causal LM of transformers
    """Turns its weights to bf16; only the projection onto the vocabulary stays fp32.

    A logit of 20 has steps of .125 in bf16, and the projection is computed for the few tokens that are weighed.
    """
    import torch

    # A copy, because it may share its weights with the embeddings.
    head = copy.deepcopy(model.get_output_embeddings())
    model.to(torch.bfloat16)
    if head is not None:
        head.register_forward_pre_hook(_in_fp32)
        model.set_output_embeddings(head)


def _in_fp32(_: torch.nn.Module, states: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (states[0].float(), *states[1:])


class _Constrained:
    """Lets a reply go on only where its text can still become a match of the pattern.

    For patterns of literals, alternatives and repetition: only tokens made of the pattern's own characters are tried.
    """

    def __init__(self, pattern: str, texts: Sequence[str], end_ids: set[int], num_prompt: int) -> None:
        """`texts` are the vocabulary's; the first `num_prompt` tokens of each row are the prompt."""
        import regex

        self._pattern, self._num_prompt, self._end_ids = regex.compile(pattern), num_prompt, sorted(end_ids)
        characters = set(pattern)
        self._candidates = [(token, text) for token, text in enumerate(texts) if text and characters.issuperset(text)]
        self._texts = dict(self._candidates)
        self._allowed: dict[str, list[int]] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of the tokens that may not follow become minus infinity."""
        allowed = scores.new_full(scores.shape, -math.inf)
        for row, generated in enumerate(input_ids[:, self._num_prompt :].tolist()):
            text = "".join(self._texts.get(token, "") for token in generated)
            tokens = self._tokens(text)
            allowed[row, tokens] = scores[row, tokens]
        return allowed

    def _tokens(self, text: str) -> list[int]:
        if text not in self._allowed:
            matches = self._pattern.fullmatch
            tokens = [token for token, added in self._candidates if matches(text + added, partial=True)]
            if matches(text):
                tokens += self._end_ids
            self._allowed[text] = tokens or self._end_ids
        return self._allowed[text]


def _length(queued: Queued) -> int:
    return len(queued[1]) + len(queued[2])


def _decoding(request: Request) -> tuple[object, ...]:
    """What requests must have in common to be computed in one batch."""
    if isinstance(request, LikelihoodRequest):
        return ()
    return request.max_tokens, request.sampling_temperature, request.seed, request.top_p, request.top_k, request.pattern


def _end_ids(*sources: int | list[int] | None) -> set[int]:
    """All tokens that end a reply; a model may have several, of which its tokenizer names one."""
    ends: set[int] = set()
    for source in sources:
        ends |= set() if source is None else {source} if isinstance(source, int) else set(source)
    return ends
