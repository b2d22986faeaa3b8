"""The endpoint engine against a server that fails in every way servers do."""

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from components.shared.engines.dialect import Dialect
from components.shared.engines.endpoint import EndpointEngine
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Likelihood,
    LikelihoodRequest,
    Refusal,
    Result,
    Turn,
)
from components.shared.engines.opening import open_engine
from components.shared.launch import TransientError
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI, weight

Answered = Result | Refusal
MakeEngine = Callable[..., EndpointEngine]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    server = FakeOpenAI()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_engine(server: FakeOpenAI) -> Iterator[MakeEngine]:
    """Engines whose patience is short."""
    engines = []

    def make(uri: str = server.endpoint_uri, **settings: Any) -> EndpointEngine:
        engines.append(
            EndpointEngine(uri, "tiny", **{"patience_seconds": 0.5, "first_delay_seconds": 0.02, **settings})
        )
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def _chat(key: str, *, text: str = "the tides", max_tokens: int = 10) -> CompletionRequest:
    return CompletionRequest(key, (Turn("system", "Be brief."), Turn("user", text)), max_tokens, 0.0, 7)


def _drain(engine: EndpointEngine, results: list[Answered]) -> list[Answered]:
    """Collects into `results`, which the caller keeps when collect raises."""
    while batch := engine.collect():
        results += batch
    return results


def _failing(times: int, answer: Answer) -> Callable[[str, dict[str, Any]], Answer | None]:
    left = iter(range(times))
    return lambda _path, _body: None if next(left, None) is None else answer


def test_a_completion_carries_text_reason_and_cost(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(_chat("a"))
    engine.submit(_chat("b", max_tokens=2))
    results = {result.key: result for result in _drain(engine, [])}
    assert results == {
        "a": Completion("a", "echo of the tides", "stop", 2, 4),
        "b": Completion("b", "echo of", "length", 2, 2),
    }
    assert engine.collect() == []
    body = server.calls[0][1]
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the tides"}]
    assert (body["model"], body["temperature"], body["seed"]) == ("tiny", 0.0, 7)


def test_what_only_some_servers_know_is_sent_only_where_it_says_something(
    server: FakeOpenAI, make_engine: MakeEngine
) -> None:
    engine = make_engine()
    turns = (Turn("user", "the tides"),)
    options: dict[str, Any] = {
        "top_p": 0.95,
        "top_k": 20,
        "pattern": "(None)",
        "chat_options": (("enable_thinking", False),),
    }
    engine.submit(CompletionRequest("full", turns, 8, 0.6, 7, **options))
    _drain(engine, [])
    engine.submit(CompletionRequest("plain", turns, 8, 0.6, 7))
    _drain(engine, [])
    full, plain = (body for _, body, _ in server.calls)
    assert set(full) - set(plain) == {"top_p", "top_k", "structured_outputs", "chat_template_kwargs"}
    assert (full["top_p"], full["top_k"]) == (0.95, 20)
    assert full["structured_outputs"] == {"regex": "(None)"}
    assert full["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("is_vllm", [True, False])
def test_replies_are_constrained_where_the_server_says_that_it_is_vllm(
    server: FakeOpenAI, make_engine: MakeEngine, is_vllm: bool
) -> None:
    server.version = "0.32.0" if is_vllm else ""
    assert make_engine().can_constrain is is_vllm


def test_prompt_tokens_from_the_servers_cache_are_counted(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 16}}
    answer = {
        "choices": [{"message": {"role": "assistant", "content": "[1]"}, "finish_reason": "stop"}],
        "usage": usage,
    }
    server.fault = lambda _path, _body: Answer(200, json.dumps(answer).encode())
    engine = make_engine()
    engine.submit(_chat("a"))
    (result,) = _drain(engine, [])
    assert isinstance(result, Completion)
    assert result.cached_tokens == 16
    assert result.engine_seconds > 0


@pytest.mark.parametrize(
    ("content", "server_says", "expected"),
    [
        (None, "length", ("", "length")),
        (None, "content_filter", ("", "content_filter")),
        ("[1]", "tool_calls", ("[1]", "stop")),
    ],
)
def test_a_reply_without_content_or_with_a_strange_end_is_still_a_reply(
    server: FakeOpenAI, make_engine: MakeEngine, content: str | None, server_says: str, expected: tuple[str, str]
) -> None:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": server_says}
    answer = {"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 9}}
    server.fault = lambda _path, _body: Answer(200, json.dumps(answer).encode())
    engine = make_engine()
    engine.submit(_chat("a"))
    (result,) = engine.collect()
    assert isinstance(result, Completion)
    assert (result.text, result.finish_reason) == expected


@pytest.mark.parametrize("can_tokenize", [True, False])
def test_a_likelihood_is_that_of_the_continuation_only(
    server: FakeOpenAI, make_engine: MakeEngine, can_tokenize: bool
) -> None:
    server.can_tokenize = can_tokenize
    engine = make_engine()
    engine.submit(LikelihoodRequest("a", "tides rise because", " the moon pulls"))
    # Tokens: <s>, "tides", " rise", " because" | " the", " moon", " pulls".
    assert engine.collect() == [Likelihood("a", (weight(" the"), weight(" moon"), weight(" pulls")), 7)]
    asked_tokens = [path for path, _, _ in server.calls].count("/tokenize")
    assert asked_tokens == (3 if can_tokenize else 1)  # the question whether it can, context, continuation


def test_a_token_across_the_border_counts_as_the_continuations(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.can_tokenize = False
    engine = make_engine()
    engine.submit(LikelihoodRequest("a", "tides rise be", "cause the moon"))
    assert engine.collect() == [Likelihood("a", (weight(" because"), weight(" the"), weight(" moon")), 6)]


def test_a_server_whose_tokens_do_not_spell_the_text_is_refused(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    echoed = {"tokens": ["tides", "RISE", "x"], "token_logprobs": [None, -1.0, -1.0]}
    answer = {"choices": [{"text": "", "logprobs": echoed}], "usage": {"prompt_tokens": 2}}
    server.can_tokenize = False
    server.fault = lambda path, _body: Answer(200, json.dumps(answer).encode()) if path == "/v1/completions" else None
    engine = make_engine()
    engine.submit(LikelihoodRequest("a", "tides", " rise"))
    (result,) = engine.collect()
    assert isinstance(result, Refusal)
    assert re.search(r"do not end in the continuation ' rise'.*serve the model with vLLM", result.words)


def test_a_server_without_echo_is_refused_with_the_remedy(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.can_echo = False
    engine = make_engine()
    engine.submit(LikelihoodRequest("a", "tides", " rise"))
    with pytest.raises(
        ValueError,
        match=r"/v1/completions: the server gives no likelihoods .*serve the model with vLLM, or use a method",
    ):
        engine.collect()


def test_a_border_needs_a_token_on_both_sides(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(LikelihoodRequest("a", "tides", ""))
    (result,) = engine.collect()
    assert result == Refusal("a", "request 'a': context has 2 tokens, continuation 0; both need one")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_a_busy_server_is_asked_again(server: FakeOpenAI, make_engine: MakeEngine, status: int) -> None:
    server.fault = _failing(2, Answer(status, b"busy"))
    engine = make_engine()
    engine.submit(_chat("a"))
    assert [result.key for result in engine.collect()] == ["a"]
    assert len(server.calls) == 3


def _in_two_seconds() -> str:
    """As an HTTP date, which drops the part of a second: one to two seconds from now."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))


@pytest.mark.parametrize(("value", "at_least"), [(lambda: "0.4", 0.4), (_in_two_seconds, 0.95), (lambda: "soon", 0.0)])
def test_retry_after_is_honoured_in_seconds_and_as_a_date(
    server: FakeOpenAI, make_engine: MakeEngine, value: Callable[[], str], at_least: float
) -> None:
    first = iter([True])
    server.fault = lambda _path, _body: (
        Answer(429, b"slow down", {"Retry-After": value()}) if next(first, False) else None
    )
    engine = make_engine(patience_seconds=10.0)
    start = time.monotonic()
    engine.submit(_chat("a"))
    assert [result.key for result in engine.collect()] == ["a"]
    assert time.monotonic() - start >= at_least


def test_delays_grow_and_differ(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    arrivals: list[float] = []

    def note(_path: str, _body: dict[str, Any]) -> Answer:
        arrivals.append(time.monotonic())
        return Answer(503, b"")

    server.fault = note
    engine = make_engine(patience_seconds=1.6, first_delay_seconds=0.2)
    engine.submit(_chat("a"))
    with pytest.raises(TransientError):
        engine.collect()
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    # Half to all of 0.2, 0.4, 0.8 s; only the lower ends are certain on a busy machine.
    assert [gap >= least for gap, least in zip(gaps, (0.1, 0.2), strict=False)] == [True] * 2


def test_a_server_that_stays_busy_is_transient_and_named(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.fault = lambda _path, _body: Answer(503, b"model is loading")
    engine = make_engine()
    engine.submit(_chat("a"))
    with pytest.raises(
        TransientError, match=r"/v1/chat/completions: status 503, model is loading; gave up after \d+ attempts in \d s"
    ):
        engine.collect()
    assert len(server.calls) > 3


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "set RETRIEVER_API_KEY"), (403, "may not use this model"), (404, "ends in /v1")]
)
def test_a_call_that_nobody_may_make_is_the_users_to_mend_and_never_repeated(
    server: FakeOpenAI, make_engine: MakeEngine, status: int, remedy: str
) -> None:
    server.fault = lambda _path, _body: Answer(status, b'{"error": "no"}')
    engine = make_engine()
    engine.submit(_chat("a"))
    with pytest.raises(ValueError, match=rf"http://127.0.0.1:\d+/v1/chat/completions: status {status}, no; .*{remedy}"):
        engine.collect()
    assert len(server.calls) == 1


def _refusing(wanted: str, status: int = 400) -> Callable[[str, dict[str, Any]], Answer | None]:
    """Refuses the prompts that hold a word, naming their length as servers do."""

    def refuse(_path: str, body: dict[str, Any]) -> Answer | None:
        text = body["messages"][-1]["content"]
        return Answer(status, f'{{"error": "prompt of {len(text)} characters"}}'.encode()) if wanted in text else None

    return refuse


def test_a_prompt_that_is_refused_touches_no_other(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.fault = _refusing("bad")
    engine = make_engine(num_concurrent=1)
    for number in range(60):
        engine.submit(_chat(str(number), text=f"bad {number}" if number % 3 else "good"))
    results = {result.key: result for result in _drain(engine, [])}
    assert len(results) == 60
    assert {key for key, result in results.items() if isinstance(result, Refusal)} == {
        str(number) for number in range(60) if number % 3
    }
    assert results["1"] == Refusal("1", "status 400, prompt of 5 characters")


@pytest.mark.parametrize(("num_good", "num_refused"), [(0, 7), (1, 63)])
def test_calls_that_are_all_refused_alike_end_the_job(
    server: FakeOpenAI, make_engine: MakeEngine, num_good: int, num_refused: int
) -> None:
    server.fault = _refusing("bad")
    engine = make_engine(num_concurrent=1)
    for number in range(200):
        engine.submit(_chat(str(number), text="good" if number < num_good else f"bad {number}"))
    results: list[Answered] = []
    with pytest.raises(ValueError, match=rf"characters \({num_refused + 1} calls in a row were refused alike\)"):
        _drain(engine, results)
    assert sum(isinstance(result, Refusal) for result in results) == num_refused
    assert len(server.calls) == num_good + num_refused + 1


def test_calls_that_are_refused_for_different_reasons_do_not_end_the_job(
    server: FakeOpenAI, make_engine: MakeEngine
) -> None:
    words = itertools.cycle(["too long", "filtered"])
    server.fault = lambda _path, _body: Answer(400, json.dumps({"error": next(words)}).encode())
    engine = make_engine(num_concurrent=1)
    for number in range(30):
        engine.submit(_chat(str(number)))
    assert len(_drain(engine, [])) == 30


@pytest.mark.parametrize("status", [500, 424])
def test_a_prompt_that_breaks_the_server_alone_is_refused_while_others_succeed(
    server: FakeOpenAI, make_engine: MakeEngine, status: int
) -> None:
    server.fault = _refusing("bad", status)
    engine = make_engine(num_concurrent=2, patience_seconds=60.0)
    engine.submit(_chat("bad", text="bad"))
    for number in range(300):
        engine.submit(_chat(str(number)))
    results = {result.key: result for result in _drain(engine, [])}
    assert len(results) == 301
    refused = results["bad"]
    assert isinstance(refused, Refusal)
    assert re.search(rf"status {status}, prompt of 3 characters, 6 times while other calls succeeded", refused.words)


def test_a_page_after_results_is_waited_out_as_maintenance(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(_chat("a"))
    assert len(engine.collect()) == 1
    server.fault = lambda _path, _body: Answer(200, b"<html>Back soon</html>", {"Content-Type": "text/html"})
    engine.submit(_chat("b"))
    with pytest.raises(TransientError, match="status 200 with text/html, 'Back soon'; gave up after"):
        engine.collect()


def test_a_route_that_is_gone_after_results_is_waited_for(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(_chat("a"))
    assert len(engine.collect()) == 1
    server.fault = _failing(2, Answer(404, b"default backend"))
    engine.submit(_chat("b"))
    assert [result.key for result in engine.collect()] == ["b"]


def test_a_wrong_page_is_told_within_one_retry_and_seconds(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.fault = lambda _path, _body: Answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
    engine = make_engine(patience_seconds=600.0, first_delay_seconds=1.0)
    start = time.monotonic()
    engine.submit(_chat("a"))
    with pytest.raises(ValueError, match="status 200 with text/html, 'Sign in'; is endpoint_uri the base URL"):
        engine.collect()
    assert time.monotonic() - start < 5.0
    assert len(server.calls) == 2


def test_fields_are_left_out_and_renamed_as_the_settings_say(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    dialect = Dialect.read(omit="seed, temperature", rename="max_tokens=max_completion_tokens")
    server.fault = lambda _path, _body: Answer(
        200, b'{"choices": [{"message": {"content": "[1]"}, "finish_reason": "stop"}]}'
    )
    engine = make_engine(dialect=dialect)
    engine.submit(_chat("a"))
    assert len(engine.collect()) == 1
    assert set(server.calls[0][1]) == {"model", "messages", "max_completion_tokens", "stream"}


@pytest.mark.parametrize(
    ("omit", "rename", "message"),
    [
        ("sede", "", "endpoint_omit names sede; a request has max_tokens,"),
        ("model", "", "endpoint_omit names model"),
        ("", "max_tokens", "'max_tokens' is no pair; write it as max_tokens=max_completion_tokens"),
        ("seed", "seed=random_seed", "both name seed"),
    ],
)
def test_a_field_that_is_never_sent_cannot_be_left_out_or_renamed(omit: str, rename: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dialect.read(omit=omit, rename=rename)


def test_parameters_of_the_address_go_along_and_into_no_message(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine(f"{server.endpoint_uri}/chat/completions?api-version=2024-10-21&code=secret")
    server.fault = lambda path, _body: Answer(401, path.encode())
    engine.submit(_chat("a"))
    with pytest.raises(ValueError, match=r"^http://127.0.0.1:\d+/v1/chat/completions: status 401"):
        engine.collect()
    assert server.calls[0][0] == "/v1/chat/completions?api-version=2024-10-21&code=secret"


def test_a_refused_connection_is_transient(make_engine: MakeEngine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = make_engine(f"http://127.0.0.1:{port}/v1")
    engine.submit(_chat("a"))
    with pytest.raises(TransientError, match=r"ConnectError.*gave up after \d+ attempts"):
        engine.collect()


def test_a_silent_server_is_transient(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.seconds = 3.0
    engine = make_engine(timeout_seconds=0.1)
    engine.submit(_chat("a"))
    with pytest.raises(TransientError, match="ReadTimeout"):
        engine.collect()


def test_a_server_that_vanishes_loses_no_finished_result(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    served = threading.Semaphore(5)
    server.fault = lambda _path, _body: None if served.acquire(blocking=False) else Answer(500, b"out of memory")
    engine = make_engine(num_concurrent=2)
    for number in range(20):
        engine.submit(_chat(str(number), text=f"tide {number}"))
    results: list[Answered] = []
    with pytest.raises(TransientError, match="out of memory"):
        _drain(engine, results)
    assert len({result.key for result in results}) == 5
    # The other calls were not tried one after the other against a dead server: 5 served, and the tries of two.
    assert len({json.dumps(body) for _, body, _ in server.calls}) <= 5 + 2
    with pytest.raises(TransientError):
        engine.collect()


def test_a_connection_cut_in_the_middle_of_an_answer_is_tried_again(
    server: FakeOpenAI, make_engine: MakeEngine
) -> None:
    server.fault = _failing(1, Answer(200, b'{"choices"', {"Content-Length": "500", "Connection": "close"}))
    engine = make_engine(timeout_seconds=5.0)
    engine.submit(_chat("a"))
    assert [result.key for result in engine.collect()] == ["a"]


def test_no_more_calls_at_once_than_asked_for(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.seconds = 0.02
    engine = make_engine(num_concurrent=4)
    for number in range(40):
        engine.submit(_chat(str(number)))
    assert {result.key for result in _drain(engine, [])} == {str(number) for number in range(40)}
    assert 2 <= server.most_at_once <= 4


def test_close_ends_calls_in_flight_at_once(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.seconds = 3.0
    engine = make_engine(num_concurrent=2)
    for number in range(4):
        engine.submit(_chat(str(number)))
    start = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - start < 2.0


def test_the_key_goes_to_the_server_and_into_no_message(
    server: FakeOpenAI, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETRIEVER_API_KEY", "sk-secret-123")
    server.fault = lambda _path, _body: Answer(401, b'{"error": "Incorrect API key provided: sk-secret-123"}')
    engine = make_engine()
    engine.submit(_chat("a"))
    with pytest.raises(ValueError, match="set RETRIEVER_API_KEY") as caught:
        engine.collect()
    assert server.calls[0][2]["Authorization"] == "Bearer sk-secret-123"
    printed = capfd.readouterr()
    assert "sk-secret" not in f"{caught.value}{printed.out}{printed.err}{engine.model}"


def test_without_a_key_none_is_sent(
    server: FakeOpenAI, make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRIEVER_API_KEY", raising=False)
    engine = make_engine()
    engine.submit(_chat("a"))
    engine.collect()
    assert "Authorization" not in server.calls[0][2]


@pytest.mark.parametrize("uri", ["host:8000/v1", "ftp://host/v1", "/v1", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="is no http"):
        EndpointEngine(uri, "tiny")


def test_a_password_in_the_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="put the key into RETRIEVER_API_KEY") as caught:
        EndpointEngine("http://me:hunter2@host/v1", "tiny")
    assert "hunter2" not in str(caught.value)


def test_open_engine_opens_an_endpoint(server: FakeOpenAI) -> None:
    engine = open_engine("endpoint", llm_uri="tiny", endpoint_uri=server.endpoint_uri)
    engine.submit(_chat("a"))
    assert [result.key for result in engine.collect()] == ["a"]
    engine.close()
