"""The endpoint engine against a server that fails in every way servers do."""

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from components.shared.engines.engine import (
    Refusal,
)
from components.shared.launch import TransientError
from tests.components.shared.engines.asking import Answered, MakeEngine, chat_request, drain, failing
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529])
def test_a_busy_server_is_asked_again(server: FakeOpenAI, make_engine: MakeEngine, status: int) -> None:
    server.fault = failing(2, Answer(status, b"busy"))
    engine = make_engine()
    engine.submit(chat_request("a"))
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
    engine.submit(chat_request("a"))
    assert [result.key for result in engine.collect()] == ["a"]
    assert time.monotonic() - start >= at_least


def test_delays_grow_and_differ(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    arrivals: list[float] = []

    def note(_path: str, _body: dict[str, Any]) -> Answer:
        arrivals.append(time.monotonic())
        return Answer(503, b"")

    server.fault = note
    engine = make_engine(patience_seconds=1.6, first_delay_seconds=0.2)
    engine.submit(chat_request("a"))
    with pytest.raises(TransientError):
        engine.collect()
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    # Half to all of 0.2, 0.4, 0.8 s; only the lower ends are certain on a busy machine.
    assert [gap >= least for gap, least in zip(gaps, (0.1, 0.2), strict=False)] == [True] * 2


def test_a_server_that_stays_busy_is_transient_and_named(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.fault = lambda _path, _body: Answer(503, b"model is loading")
    engine = make_engine()
    engine.submit(chat_request("a"))
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
    engine.submit(chat_request("a"))
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
        engine.submit(chat_request(str(number), text=f"bad {number}" if number % 3 else "good"))
    results = {result.key: result for result in drain(engine, [])}
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
        engine.submit(chat_request(str(number), text="good" if number < num_good else f"bad {number}"))
    results: list[Answered] = []
    with pytest.raises(ValueError, match=rf"characters \({num_refused + 1} calls in a row were refused alike\)"):
        drain(engine, results)
    assert sum(isinstance(result, Refusal) for result in results) == num_refused
    assert len(server.calls) == num_good + num_refused + 1


def test_calls_that_are_refused_for_different_reasons_do_not_end_the_job(
    server: FakeOpenAI, make_engine: MakeEngine
) -> None:
    words = itertools.cycle(["too long", "filtered"])
    server.fault = lambda _path, _body: Answer(400, json.dumps({"error": next(words)}).encode())
    engine = make_engine(num_concurrent=1)
    for number in range(30):
        engine.submit(chat_request(str(number)))
    assert len(drain(engine, [])) == 30


@pytest.mark.parametrize("status", [500, 424])
def test_a_prompt_that_breaks_the_server_alone_is_refused_while_others_succeed(
    server: FakeOpenAI, make_engine: MakeEngine, status: int
) -> None:
    server.fault = _refusing("bad", status)
    engine = make_engine(num_concurrent=2, patience_seconds=60.0)
    engine.submit(chat_request("bad", text="bad"))
    for number in range(300):
        engine.submit(chat_request(str(number)))
    results = {result.key: result for result in drain(engine, [])}
    assert len(results) == 301
    refused = results["bad"]
    assert isinstance(refused, Refusal)
    assert re.search(rf"status {status}, prompt of 3 characters, 6 times while other calls succeeded", refused.words)


def test_a_page_after_results_is_waited_out_as_maintenance(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(chat_request("a"))
    assert len(engine.collect()) == 1
    server.fault = lambda _path, _body: Answer(200, b"<html>Back soon</html>", {"Content-Type": "text/html"})
    engine.submit(chat_request("b"))
    with pytest.raises(TransientError, match="status 200 with text/html, 'Back soon'; gave up after"):
        engine.collect()


def test_a_route_that_is_gone_after_results_is_waited_for(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(chat_request("a"))
    assert len(engine.collect()) == 1
    server.fault = failing(2, Answer(404, b"default backend"))
    engine.submit(chat_request("b"))
    assert [result.key for result in engine.collect()] == ["b"]


def test_a_wrong_page_is_told_within_one_retry_and_seconds(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.fault = lambda _path, _body: Answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html"})
    engine = make_engine(patience_seconds=600.0, first_delay_seconds=1.0)
    start = time.monotonic()
    engine.submit(chat_request("a"))
    with pytest.raises(ValueError, match="status 200 with text/html, 'Sign in'; is endpoint_uri the base URL"):
        engine.collect()
    assert time.monotonic() - start < 5.0
    assert len(server.calls) == 2


def test_a_refused_connection_is_transient(make_engine: MakeEngine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = make_engine(f"http://127.0.0.1:{port}/v1")
    engine.submit(chat_request("a"))
    with pytest.raises(TransientError, match=r"ConnectError.*gave up after \d+ attempts"):
        engine.collect()


def test_a_silent_server_is_transient(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.seconds = 3.0
    engine = make_engine(timeout_seconds=0.1)
    engine.submit(chat_request("a"))
    with pytest.raises(TransientError, match="ReadTimeout"):
        engine.collect()


def test_a_server_that_vanishes_loses_no_finished_result(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    served = threading.Semaphore(5)
    server.fault = lambda _path, _body: None if served.acquire(blocking=False) else Answer(500, b"out of memory")
    engine = make_engine(num_concurrent=2)
    for number in range(20):
        engine.submit(chat_request(str(number), text=f"tide {number}"))
    results: list[Answered] = []
    with pytest.raises(TransientError, match="out of memory"):
        drain(engine, results)
    assert len({result.key for result in results}) == 5
    # The other calls were not tried one after the other against a dead server: 5 served, and the tries of two.
    assert len({json.dumps(body) for _, body, _ in server.calls}) <= 5 + 2
    with pytest.raises(TransientError):
        engine.collect()


def test_a_connection_cut_in_the_middle_of_an_answer_is_tried_again(
    server: FakeOpenAI, make_engine: MakeEngine
) -> None:
    server.fault = failing(1, Answer(200, b'{"choices"', {"Content-Length": "500", "Connection": "close"}))
    engine = make_engine(timeout_seconds=5.0)
    engine.submit(chat_request("a"))
    assert [result.key for result in engine.collect()] == ["a"]
