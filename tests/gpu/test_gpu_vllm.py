"""vLLM on a GPU weighs as transformers does in fp32 on the CPU, and answers within a pattern.

Runs where vLLM's CUDA build is installed: `make test-gpu GPU_PYTHON=that/environment/bin/python`.
"""

import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from components.shared.calls.precision import MOST_MEAN_NATS, MOST_TOKEN_NATS, differences, weighed
from components.shared.engines.config import LoadOptions
from components.shared.engines.engine import Completion, CompletionRequest, Engine, Likelihood, Request, Result, Turn
from components.shared.engines.opening import open_engine
from tests.gpu.devices import vllm_gpu

# vLLM's own imports warn.
pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
# Its whole body is in 16 bits there, the projection onto the vocabulary too.
_WIDER = 2.0


@pytest.fixture(scope="module")
def llm() -> Path:
    vllm_gpu()
    from pipelines.packaged import find_llm

    return find_llm()


@pytest.fixture(scope="module")
def engine(llm: Path) -> Iterator[Engine]:
    options = LoadOptions(max_model_tokens=2048, gpu_memory_share=0.3)
    engine = open_engine("vllm", llm_uri=str(llm), seed=1, options=options)
    yield engine
    engine.close()


def _run(engine: Engine, requests: Sequence[Request]) -> dict[str, Result]:
    for request in requests:
        engine.submit(request)
    results: dict[str, Result] = {}
    while batch := engine.collect():
        results |= {result.key: result for result in batch if isinstance(result, Completion | Likelihood)}
    return results


def test_log_likelihoods_are_those_of_fp32_on_a_cpu(engine: Engine, llm: Path) -> None:
    rows = [[row.logprobs for row in weighed(its)] for its in (engine, open_engine("transformers", llm_uri=str(llm)))]
    token_nats, mean_nats = differences(*rows)
    assert token_nats <= _WIDER * MOST_TOKEN_NATS
    assert mean_nats <= _WIDER * MOST_MEAN_NATS
    ours, theirs = ([statistics.fmean(row) for row in side] for side in rows)
    # Every passage's own question is likelier than the average of the others, by both.
    for side in (ours, theirs):
        own = side[::2]
        assert statistics.fmean(own) > statistics.fmean(side)


def test_a_reply_keeps_to_its_pattern(engine: Engine) -> None:
    request = CompletionRequest("a", (Turn("user", "Choose: [1] or [2]?"),), 8, 0.0, 7, pattern=r"\[(1|2)\]")
    result = _run(engine, [request])["a"]
    assert isinstance(result, Completion)
    assert re.fullmatch(r"\[(1|2)\]", result.text)


def test_greedy_answers_do_not_depend_on_their_neighbours(engine: Engine) -> None:
    requests: list[Request] = [
        CompletionRequest(f"c{number}", (Turn("user", text),), 12, 0.0, 7)
        for number, text in enumerate(("What is the capital of France?", "Name three colours.", "Why is ice cold?"))
    ]
    together, alone = _run(engine, requests), _run(engine, requests[:1])
    first, again = together["c0"], alone["c0"]
    assert isinstance(first, Completion)
    assert isinstance(again, Completion)
    assert first.text[:20] == again.text[:20]
