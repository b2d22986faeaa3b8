"""vLLM in this process: requests join and leave the running batch at every step, so a slow one holds up nobody.

A likelihood is a prompt of context and continuation tokens with `prompt_logprobs`; the one token that vLLM insists on
generating is thrown away.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.contract.needs import check_gpu_is_used
from components.shared.engines.config import LoadOptions
from components.shared.engines.engine import (
    BusyTime,
    Completion,
    CompletionRequest,
    Likelihood,
    Request,
    Result,
    check_length,
    model_name,
    token_ids,
)
from components.shared.engines.loading import loading
from components.shared.launch import TransientError
from components.shared.telemetry import PORT_VARIABLE

if TYPE_CHECKING:
    import vllm

# Before vLLM is imported. It reports usage to its makers unless told not to; the KV cache of its CPU build takes half
# of the memory unless told how many GiB it may have.
_ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}


class VllmEngine:
    """vLLM's own engine on GPUs, or on a CPU where its CPU build is installed."""

    def __init__(self, llm_uri: str, *, seed: int, options: LoadOptions | None = None) -> None:
        """Loads a folder, a hub name or a .gguf file: fp32 without compilation on a CPU, else the model's own dtype."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from vllm import EngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.llm_engine import LLMEngine

        from components.shared.checkpoint.tokenizer import check_vocabulary
        from components.shared.checkpoint.weights import check_whole

        on_cpu = current_platform.is_cpu()
        check_gpu_is_used(
            "vLLM's CPU build",
            num_gpus=0 if on_cpu else current_platform.device_count(),
            remedy="take vLLM's CUDA build, or a profile without GPUs",
        )
        if on_cpu:
            # Without a GPU to overlap with, a second process costs 5 s at the end and is left behind by a kill -9.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        options = options or LoadOptions()
        where = f"llm_uri {llm_uri!r}"
        with loading(llm_uri, revision=options.revision) as source:
            if Path(source).is_dir():
                check_whole(where, Path(source))
            arguments = EngineArgs(
                model=source,
                seed=seed,
                dtype="float32" if on_cpu else "auto",
                enforce_eager=on_cpu,
                # They are of use where somebody scrapes them.
                disable_log_stats=PORT_VARIABLE not in os.environ,
                **engine_arguments(options),
            )
            self._engine = LLMEngine.from_engine_args(arguments)
        self._tokenizer = self._engine.get_tokenizer()
        # Of the weights vLLM itself says what is missing.
        check_vocabulary(where, self._tokenizer, num_rows=self._engine.model_config.get_vocab_size())
        self._max_model_tokens: int = self._engine.model_config.max_model_len
        self._numbers = itertools.count()
        # vLLM's own id of a running request -> the request, the number of its continuation's tokens, and when it
        # started.
        self._running: dict[str, tuple[Request, int, float]] = {}
        self._busy = BusyTime()
        self.model = model_name(llm_uri, revision=options.revision, quantization=options.quantization)

    @property
    def can_constrain(self) -> bool:
        """True: vLLM's structured outputs."""
        return True

    def submit(self, request: Request) -> None:
        """Adds a request to the running batch."""
        from vllm import TokensPrompt

        context, continuation = token_ids(self._tokenizer, request)
        prompt = context + continuation
        check_length(request, len(prompt), self._max_model_tokens)
        number = str(next(self._numbers))
        self._engine.add_request(number, TokensPrompt(prompt_token_ids=prompt), _sampling_params(request))
        self._running[number] = request, len(continuation), self._busy.start()

    def collect(self) -> list[Result]:
        """Steps until a request is finished."""
        from vllm.v1.engine.exceptions import EngineDeadError

        results: list[Result] = []
        while self._running and not results:
            try:
                outputs = self._engine.step()
            except EngineDeadError as error:
                raise TransientError(
                    "vLLM's engine died (out of memory?); its log says why; finished work is kept"
                ) from error
            results = [self._finished(output) for output in outputs if output.finished]
        return results

    def _finished(self, output: vllm.RequestOutput) -> Result:
        request, num_continuation, started = self._running.pop(output.request_id)
        result = _result(request, num_continuation, output)
        # No prefix is looked up for a prompt whose log-likelihoods are asked for; vLLM then counts None.
        return replace(result, engine_seconds=self._busy.stop(started), cached_tokens=output.num_cached_tokens or 0)

    def close(self) -> None:
        """Ends the engine's processes and frees the memory."""
        self._running.clear()
        self._engine.engine_core.shutdown()


def engine_arguments(options: LoadOptions) -> dict[str, Any]:
    """The options under their names in vLLM; what is not asked for keeps its default there."""
    asked = {
        "revision": options.revision or None,
        "tokenizer_revision": options.revision or None,
        "quantization": options.quantization or None,
        "max_model_len": options.max_model_tokens or None,
    }
    return {
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_share,
        **{name: value for name, value in asked.items() if value is not None},
    }


def _sampling_params(request: Request) -> vllm.SamplingParams:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    once = RequestOutputKind.FINAL_ONLY
    if isinstance(request, CompletionRequest):
        return SamplingParams(
            max_tokens=request.max_tokens,
            temperature=request.sampling_temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed,
            structured_outputs=StructuredOutputsParams(regex=request.pattern) if request.pattern else None,
            output_kind=once,
        )
    return SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False, output_kind=once)


def _result(request: Request, num_continuation: int, output: vllm.RequestOutput) -> Result:
    prompt = output.prompt_token_ids
    if isinstance(request, CompletionRequest):
        (reply,) = output.outputs
        return Completion(request.key, reply.text, reply.finish_reason, len(prompt), len(reply.token_ids))
    weighed = zip(prompt[-num_continuation:], output.prompt_logprobs[-num_continuation:], strict=True)
    return Likelihood(request.key, tuple(logprobs[token].logprob for token, logprobs in weighed), len(prompt))
