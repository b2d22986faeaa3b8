"""What servers really answer, one row each: the result, the refusal, or the error that ends the job."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from components.annotate.judging.parsing import parse_selection
from components.shared.engines.endpoint import EndpointEngine
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    FinishReason,
    Likelihood,
    LikelihoodRequest,
    Refusal,
    Request,
    Turn,
)
from components.shared.launch import TransientError
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI

_USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


def chat(
    content: object = "[1]", finish_reason: object = "stop", *, usage: object = _USAGE, **message: object
) -> dict[str, Any]:
    """A chat completion; `usage` "missing" leaves it out."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}}
    choice |= {} if finish_reason == "missing" else {"finish_reason": finish_reason}
    return {"choices": [choice]} | ({} if usage == "missing" else {"usage": usage})


def weighed(logprobs: list[Any], tokens: list[str] | None = None, usage: object = "missing") -> dict[str, Any]:
    """The echo of the prompt "tides rise" (two tokens), and one token more."""
    echoed = {"tokens": tokens or ["tides", " rise", " x"], "token_logprobs": logprobs}
    return {"choices": [{"text": "", "logprobs": echoed}]} | ({} if usage == "missing" else {"usage": usage})


@dataclass(frozen=True)
class Row:
    """A server's behaviour and what comes of it; the answers are given in turn, the last one for ever."""

    name: str
    answers: tuple[object, ...]
    status: int = 200
    text: str | None = None
    reason: FinishReason = "stop"
    tokens: tuple[int, int, int] = (9, 3, 0)
    is_counted: bool = True
    logprobs: tuple[float, ...] | None = None
    refusal: str | None = None
    ends: type[Exception] | None = None
    message: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def _error(message: str, **fields: object) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


_LONG = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
_HTML = (
    b"<html><head><title>Sign in</title><script>var x = 1;</script></head><body><h1>Company login</h1></body></html>"
)
_UNKNOWN = {"is_counted": False, "tokens": (0, 0, 0)}

COMPLETIONS = [
    # Ends.
    *(
        Row(f"finish reason {word}", (chat(finish_reason=word),), text="[1]")
        for word in (
            "stop",
            "eos",
            "eos_token",
            "end_turn",
            "stop_sequence",
            "STOP",
            "tool_calls",
            "",
            None,
            "missing",
            7,
        )
    ),
    *(
        Row(f"finish reason {word}", (chat(finish_reason=word),), text="[1]", reason="length")
        for word in (
            "length",
            "max_tokens",
            "model_length",
            "MAX_TOKENS",
            "FinishReason.MAX_TOKENS",
            "max_output_tokens",
        )
    ),
    *(
        Row(f"finish reason {word}", (chat(None, word),), text="", reason="content_filter")
        for word in ("content_filter", "SAFETY", "guardrail_intervened", "refusal")
    ),
    Row("a broken-off completion is asked for again", (chat("[", "abort"), chat("[2]")), text="[2]"),
    Row("a provider's error as finish reason is asked for again", (chat("", "error"), chat("[2]")), text="[2]"),
    Row("a server that only ever breaks off", (chat("[", "abort"),), ends=TransientError, message="broke off"),
    # Texts.
    Row(
        "content in parts",
        (chat([{"type": "text", "text": "[1],"}, {"type": "text", "text": " [2]"}]),),
        text="[1], [2]",
    ),
    Row(
        "a thinking part is no text",
        (chat([{"type": "thinking", "thinking": [{"type": "text", "text": "[9]"}]}, {"type": "text", "text": "[1]"}]),),
        text="[1]",
    ),
    Row("null content", (chat(None),), text=""),
    Row("no content at all", ({"choices": [{"message": {}, "finish_reason": "stop"}], "usage": _USAGE},), text=""),
    Row("reasoning beside the content", (chat("[1]", reasoning_content="[9]", reasoning="[8]"),), text="[1]"),
    Row(
        "a refusal in a field of its own",
        (chat(None, refusal="I cannot help with that."),),
        text="I cannot help with that.",
    ),
    Row(
        "text of the old protocol",
        ({"choices": [{"text": "[1]", "finish_reason": "stop"}], "usage": _USAGE},),
        text="[1]",
    ),
    Row("an object alone in a list", ([chat()],), text="[1]"),
    Row("a byte order mark before the JSON", (b"\xef\xbb\xbf" + json.dumps(chat()).encode(),), text="[1]"),
    Row("blank lines that keep a connection alive", (b"\n\n\n" + json.dumps(chat()).encode(),), text="[1]"),
    Row(
        "half a surrogate pair",
        (b'{"choices":[{"message":{"content":"[1] \\ud83d"}}],"usage":null}',),
        text="[1] \ud83d",
        **_UNKNOWN,
    ),
    Row("an error field that is null", (chat() | {"error": None},), text="[1]"),
    # Usage.
    *(
        Row(f"usage {usage}", (chat(usage=usage),), text="[1]", **_UNKNOWN)
        for usage in ("missing", None, [], {}, "9", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    ),
    *(
        Row(f"usage {usage}", (chat(usage=usage),), text="[1]", tokens=(9, 0, 0), is_counted=False)
        for usage in (
            {"prompt_tokens": 9},
            {"prompt_tokens": 9, "completion_tokens": None},
            {"prompt_tokens": 9, "completion_tokens": -1},
            {"prompt_tokens": 9, "completion_tokens": 2.5},
        )
    ),
    Row("usage from a total", (chat(usage={"prompt_tokens": 9, "total_tokens": 12}),), text="[1]"),
    Row("usage in Anthropic's names", (chat(usage={"input_tokens": 9, "output_tokens": 3}),), text="[1]"),
    Row("cached tokens null", (chat(usage={**_USAGE, "prompt_tokens_details": None}),), text="[1]"),
    Row(
        "cached tokens of DeepSeek",
        (chat(usage={**_USAGE, "prompt_cache_hit_tokens": 8}),),
        text="[1]",
        tokens=(9, 3, 8),
    ),
    # One prompt.
    Row(
        "context length", (_error(_LONG, code="context_length_exceeded"),), 400, refusal="context_length_exceeded.*4096"
    ),
    Row(
        "content filter",
        (_error("filtered", code="content_filter"),),
        400,
        refusal="status 400, content_filter: filtered",
    ),
    Row("too large", (b"Payload Too Large",), 413, refusal="status 413, Payload Too Large"),
    Row(
        "a complaint of FastAPI",
        ({"detail": [{"loc": ["body", "messages"], "msg": "bad"}]},),
        422,
        refusal="body.messages: bad",
    ),
    Row("a complaint as text", ({"detail": "nope"},), 400, refusal="status 400, nope"),
    Row("a complaint as message", ({"object": "error", "message": "nope"},), 400, refusal="status 400, nope"),
    Row("max_tokens is too large", (_error("max_tokens is too large: 9"),), 400, refusal="max_tokens is too large: 9$"),
    Row("no choice", ({"choices": [], "usage": _USAGE},), refusal="without a choice"),
    Row("a filter's error inside a 200", (_error("blocked", code=400),), refusal="an error inside a 200, 400: blocked"),
    # Waiting.
    Row("a limit, then served", (Answer(429, b"{}", {"Retry-After": "0.01"}), chat()), text="[1]"),
    Row("a limit in milliseconds", (Answer(429, b"{}", {"Retry-After-Ms": "10"}), chat()), text="[1]"),
    Row("a limit inside a 200", (_error("slow down", code=429), chat()), text="[1]"),
    Row("a limit in words inside a 200", (_error("Rate limit reached"), chat()), text="[1]"),
    Row(
        "an upstream error in a choice", ({"choices": [{"error": {"code": 502, "message": "bad"}}]}, chat()), text="[1]"
    ),
    Row(
        "a limit that says 503",
        (_error("slow down"),),
        503,
        ends=TransientError,
        message="503, slow down; gave up after",
    ),
    Row(
        "a limit for an hour",
        (Answer(429, b"{}", {"Retry-After": "3600"}),),
        ends=TransientError,
        message="asks for 3600 s more",
    ),
    Row(
        "an internal error",
        (b"Internal Server Error",),
        500,
        ends=TransientError,
        message="status 500.*patience-seconds",
    ),
    Row(
        "a limit per minute of Gemini",
        (
            Answer(429, b'{"error": {"message": "exceeded your current quota", "status": "RESOURCE_EXHAUSTED"}}', {}),
            chat(),
        ),
        text="[1]",
    ),
    # Nobody will be served.
    Row(
        "quota",
        (_error("You exceeded your current quota", code="insufficient_quota"),),
        429,
        ends=ValueError,
        message="quota is used up",
    ),
    Row("quota inside a 200", (_error("Insufficient balance", code=402),), ends=ValueError, message="quota is used up"),
    Row("no credit", (b"{}",), 402, ends=ValueError, message="cannot pay"),
    Row(
        "credit in words", (_error("Your credit balance is too low"),), 400, ends=ValueError, message="quota is used up"
    ),
    Row("wrong key", (_error("Incorrect API key"),), 401, ends=ValueError, message="set RETRIEVER_API_KEY"),
    Row("forbidden", (b"{}",), 403, ends=ValueError, message="may not use this model"),
    Row("no such model", (_error("no model"),), 404, ends=ValueError, message="llm_uri must be a name"),
    Row("wrong method", (b"",), 405, ends=ValueError, message="ends in /v1"),
    Row(
        "unknown field",
        (_error("Unrecognized request argument supplied: seed"),),
        400,
        ends=ValueError,
        message="--endpoint-omit seed$",
    ),
    Row(
        "a field with another name",
        (
            _error(
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead."
            ),
        ),
        400,
        ends=ValueError,
        message="--endpoint-rename max_tokens=max_completion_tokens$",
    ),
    Row(
        "an extra field of pydantic",
        ({"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted"}]},),
        422,
        ends=ValueError,
        message="--endpoint-omit top_k$",
    ),
    Row(
        "a temperature that may not be 0",
        (_error("Unsupported value: 'temperature' does not support 0.0"),),
        400,
        ends=ValueError,
        message="--endpoint-omit temperature$",
    ),
    # Another thing than a server of the protocol.
    Row(
        "a login page",
        (_HTML,),
        headers=(("Content-Type", "text/html; charset=utf-8"),),
        ends=ValueError,
        message="status 200 with text/html, 'Sign in Company login'; is endpoint_uri",
    ),
    Row(
        "a redirect to a login",
        (b"",),
        302,
        headers=(("Location", "https://sso.example/login?secret=1"),),
        ends=ValueError,
        message="status 302.*a redirect to https://sso.example/login;",
    ),
    Row(
        "a stream",
        (b'data: {"choices": []}\n\n',),
        headers=(("Content-Type", "text/event-stream"),),
        ends=ValueError,
        message="text/event-stream, 'data:",
    ),
    Row("JSON of another service", ({"status": "ok"},), ends=ValueError, message="it has no choices.*status"),
    Row("a choice without a message", ({"choices": [{}]},), ends=ValueError, message="has no message"),
    Row("content of a wrong type", (chat(7),), ends=ValueError, message="content is int"),
    Row("a page, then served", (_HTML, chat()), text="[1]"),
    Row("JSON that breaks off, then served", (b'{"choices": [', chat()), text="[1]"),
    Row("an empty body, then served", (b"", chat()), text="[1]"),
]

LIKELIHOODS = [
    Row("null first", (weighed([None, -1.5, -9.0]),), logprobs=(-1.5,)),
    Row(
        "usage counts the prompt",
        (weighed([None, -1.5], ["tides", " rise"], {"prompt_tokens": 2, "completion_tokens": 0}),),
        logprobs=(-1.5,),
    ),
    Row(
        "a token before our text",
        (weighed([None, -3.0, -1.5, -9.0], ["<s>", "tides", " rise", " x"]),),
        logprobs=(-1.5,),
    ),
    Row(
        "tokens with SentencePiece's marks",
        (weighed([None, -1.5, -9.0], ["\u2581tides", "\u2581rise", "\u2581x"]),),
        logprobs=(-1.5,),
    ),
    Row(
        "tokens with GPT-2's marks",
        (weighed([None, -1.5, -9.0], ["tides", "\u0120rise", "\u0120x"]),),
        logprobs=(-1.5,),
    ),
    Row(
        "prompt_logprobs of vLLM",
        (
            {
                "choices": [
                    {
                        "text": "x",
                        "prompt_logprobs": [
                            None,
                            {
                                "7": {"logprob": -1.5, "decoded_token": " rise"},
                                "8": {"logprob": -0.5, "decoded_token": " fall"},
                            },
                        ],
                    }
                ]
            },
        ),
        logprobs=(-1.5,),
    ),
    Row(
        "a list of contents",
        (
            {
                "choices": [
                    {
                        "logprobs": {
                            "content": [
                                {"token": "tides", "logprob": None},
                                {"token": " rise", "logprob": -1.5},
                                {"token": " x", "logprob": -9.0},
                            ]
                        }
                    }
                ]
            },
        ),
        logprobs=(-1.5,),
    ),
    Row(
        "null in the middle",
        (weighed([None, None, -9.0]),),
        refusal=r"token 0 of the continuation has no log-likelihood \(null\)",
    ),
    Row(
        "minus infinity",
        (b'{"choices":[{"logprobs":{"tokens":["tides"," rise"," x"],"token_logprobs":[null,-Infinity,-9.0]}}]}',),
        refusal="probability 0 .*-inf",
    ),
    Row("minus infinity of vLLM", (weighed([None, -9999.0, -9.0]),), refusal="probability 0 .*-9999"),
    Row(
        "not a number",
        (b'{"choices":[{"logprobs":{"tokens":["tides"," rise"," x"],"token_logprobs":[null,NaN,-9.0]}}]}',),
        refusal="nan, which is no log-likelihood",
    ),
    Row(
        "a probability instead of its logarithm",
        (weighed([None, 0.7, 0.2]),),
        refusal="0.7, which is no log-likelihood",
    ),
    Row(
        "tokens of another text",
        (weighed([None, -1.0, -9.0], ["moon", " falls", " x"]),),
        refusal="do not end in the continuation",
    ),
    Row(
        "no log-likelihoods",
        ({"choices": [{"text": "x", "logprobs": None}]},),
        ends=ValueError,
        message="gives no likelihoods.*serve the model with vLLM, or use a method",
    ),
    Row(
        "those of the reply only",
        (weighed([-1.0], [" x"], {"prompt_tokens": 2, "completion_tokens": 1}),),
        ends=ValueError,
        message="gives no likelihoods",
    ),
    Row(
        "echo is refused",
        (_error("echo is not supported with this model"),),
        400,
        ends=ValueError,
        message="--endpoint-omit echo$",
    ),
]


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
