"""What the endpoint engine asks, how it reads the answers, and how it keeps the key."""

import json
import re
import time
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
    Turn,
)
from components.shared.engines.opening import open_engine
from tests.components.shared.engines.asking import MakeEngine, chat_request, drain
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI, weight


def test_a_completion_carries_text_reason_and_cost(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.submit(chat_request("a"))
    engine.submit(chat_request("b", max_tokens=2))
    results = {result.key: result for result in drain(engine, [])}
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
    drain(engine, [])
    engine.submit(CompletionRequest("plain", turns, 8, 0.6, 7))
    drain(engine, [])
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
    engine.submit(chat_request("a"))
    (result,) = drain(engine, [])
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
    engine.submit(chat_request("a"))
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


def test_fields_are_left_out_and_renamed_as_the_settings_say(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    dialect = Dialect.read(omit="seed, temperature", rename="max_tokens=max_completion_tokens")
    server.fault = lambda _path, _body: Answer(
        200, b'{"choices": [{"message": {"content": "[1]"}, "finish_reason": "stop"}]}'
    )
    engine = make_engine(dialect=dialect)
    engine.submit(chat_request("a"))
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
    engine.submit(chat_request("a"))
    with pytest.raises(ValueError, match=r"^http://127.0.0.1:\d+/v1/chat/completions: status 401"):
        engine.collect()
    assert server.calls[0][0] == "/v1/chat/completions?api-version=2024-10-21&code=secret"


def test_no_more_calls_at_once_than_asked_for(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.seconds = 0.02
    engine = make_engine(num_concurrent=4)
    for number in range(40):
        engine.submit(chat_request(str(number)))
    assert {result.key for result in drain(engine, [])} == {str(number) for number in range(40)}
    assert 2 <= server.most_at_once <= 4


def test_close_ends_calls_in_flight_at_once(server: FakeOpenAI, make_engine: MakeEngine) -> None:
    server.seconds = 3.0
    engine = make_engine(num_concurrent=2)
    for number in range(4):
        engine.submit(chat_request(str(number)))
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
    engine.submit(chat_request("a"))
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
    engine.submit(chat_request("a"))
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
    engine.submit(chat_request("a"))
    assert [result.key for result in engine.collect()] == ["a"]
    engine.close()
