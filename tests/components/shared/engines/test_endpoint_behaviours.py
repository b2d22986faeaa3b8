"""What servers really answer: the result, the refusal, or the error that ends the job."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components.annotate.judging.parsing import parse_selection
from components.shared.engines.endpoint import EndpointEngine
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Likelihood,
    LikelihoodRequest,
    Refusal,
    Request,
    Turn,
)
from tests.components.shared.engines.behaviours import Row
from tests.components.shared.engines.completion_rows import COMPLETIONS
from tests.components.shared.engines.likelihood_rows import LIKELIHOODS
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    server = FakeOpenAI(can_tokenize=False)
    server.start()
    yield server
    server.stop()


def _behave(row: Row, path: str) -> Callable[[str, dict[str, Any]], Answer | None]:
    left = list(row.answers)

    def answer(asked: str, _body: dict[str, Any]) -> Answer | None:
        if asked != path:
            return None
        given = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(given, Answer):
            return given
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        return Answer(row.status, content, dict(row.headers))

    return answer


def _result(server: FakeOpenAI, request: Request) -> object:
    engine = EndpointEngine(server.endpoint_uri, "tiny", patience_seconds=0.5, first_delay_seconds=0.02)
    try:
        engine.submit(request)
        (result,) = engine.collect()
        return result
    finally:
        engine.close()


def _check_failures(row: Row, server: FakeOpenAI, request: Request) -> bool:
    if row.ends is not None:
        with pytest.raises(row.ends, match=f"(?s){row.message}"):
            _result(server, request)
        return True
    if row.refusal is not None:
        result = _result(server, request)
        assert isinstance(result, Refusal)
        assert re.search(row.refusal, result.words), result.words
        return True
    return False


@pytest.mark.parametrize("row", COMPLETIONS, ids=lambda row: row.name)
def test_what_comes_of_a_completion(row: Row, server: FakeOpenAI) -> None:
    server.fault = _behave(row, "/v1/chat/completions")
    request = CompletionRequest("a", (Turn("user", "which?"),), 8, 0.0, 7, top_k=20)
    if _check_failures(row, server, request):
        return
    result = _result(server, request)
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason) == (row.text, row.reason)
    assert (result.prompt_tokens, result.completion_tokens, result.cached_tokens) == row.tokens
    assert result.is_counted is row.is_counted
    label = parse_selection(result.text, num_passages=3, finish_reason=result.finish_reason)
    assert (label.outcome == "truncated") is (row.reason == "length")
    assert (label.outcome == "ok") is (row.reason == "stop" and result.text in ("[1]", "[2]", "[1], [2]"))


@pytest.mark.parametrize("row", LIKELIHOODS, ids=lambda row: row.name)
def test_what_comes_of_a_likelihood(row: Row, server: FakeOpenAI) -> None:
    server.fault = _behave(row, "/v1/completions")
    request = LikelihoodRequest("a", "tides", " rise")
    if _check_failures(row, server, request):
        return
    result = _result(server, request)
    assert isinstance(result, Likelihood)
    assert result.logprobs == row.logprobs


def _echo(shift: int) -> dict[str, Any]:
    """An echo of nine tokens by a model that foresees each of them, at its own place or `shift` places before it."""
    tokens = [f" word{number}" for number in range(9)]
    best = [{token: -0.1} for token in tokens]
    echoed = {"tokens": tokens, "token_logprobs": [None] + [-0.1] * 8, "top_logprobs": best[shift:] + best[:shift]}
    return {"choices": [{"text": "", "logprobs": echoed}], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}


def test_a_server_whose_likelihoods_are_shifted_by_a_token_is_refused(server: FakeOpenAI) -> None:
    request = LikelihoodRequest("a", " word0 word1 word2 word3 word4 word5 word6", " word7 word8")
    for shift, ends in ((0, None), (1, ValueError)):
        row = Row("shift", (_echo(shift),), ends=ends, message="shifted by one token .*serve the model with vLLM")
        server.fault = _behave(row, "/v1/completions")
        if not _check_failures(row, server, request):
            assert _result(server, request) == Likelihood("a", (-0.1, -0.1), 9)


def test_the_table_is_long_and_its_names_differ() -> None:
    names = [row.name for row in (*COMPLETIONS, *LIKELIHOODS)]
    assert len(set(names)) == len(names) >= 90
