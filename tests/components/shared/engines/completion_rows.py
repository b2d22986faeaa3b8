"""What servers really answer to a chat, one row each."""

import json

from components.shared.launch import TransientError
from tests.components.shared.engines.behaviours import USAGE, Row, chat, error
from tests.components.shared.engines.openai_server import Answer

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
    Row("no content at all", ({"choices": [{"message": {}, "finish_reason": "stop"}], "usage": USAGE},), text=""),
    Row("reasoning beside the content", (chat("[1]", reasoning_content="[9]", reasoning="[8]"),), text="[1]"),
    Row(
        "a refusal in a field of its own",
        (chat(None, refusal="I cannot help with that."),),
        text="I cannot help with that.",
    ),
    Row(
        "text of the old protocol",
        ({"choices": [{"text": "[1]", "finish_reason": "stop"}], "usage": USAGE},),
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
    Row("cached tokens null", (chat(usage={**USAGE, "prompt_tokens_details": None}),), text="[1]"),
    Row(
        "cached tokens of DeepSeek",
        (chat(usage={**USAGE, "prompt_cache_hit_tokens": 8}),),
        text="[1]",
        tokens=(9, 3, 8),
    ),
    # One prompt.
    Row(
        "context length", (error(_LONG, code="context_length_exceeded"),), 400, refusal="context_length_exceeded.*4096"
    ),
    Row(
        "content filter",
        (error("filtered", code="content_filter"),),
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
    Row("max_tokens is too large", (error("max_tokens is too large: 9"),), 400, refusal="max_tokens is too large: 9$"),
    Row("no choice", ({"choices": [], "usage": USAGE},), refusal="without a choice"),
    Row("a filter's error inside a 200", (error("blocked", code=400),), refusal="an error inside a 200, 400: blocked"),
    # Waiting.
    Row("a limit, then served", (Answer(429, b"{}", {"Retry-After": "0.01"}), chat()), text="[1]"),
    Row("a limit in milliseconds", (Answer(429, b"{}", {"Retry-After-Ms": "10"}), chat()), text="[1]"),
    Row("a limit inside a 200", (error("slow down", code=429), chat()), text="[1]"),
    Row("a limit in words inside a 200", (error("Rate limit reached"), chat()), text="[1]"),
    Row(
        "an upstream error in a choice", ({"choices": [{"error": {"code": 502, "message": "bad"}}]}, chat()), text="[1]"
    ),
    Row(
        "a limit that says 503",
        (error("slow down"),),
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
        (error("You exceeded your current quota", code="insufficient_quota"),),
        429,
        ends=ValueError,
        message="quota is used up",
    ),
    Row("quota inside a 200", (error("Insufficient balance", code=402),), ends=ValueError, message="quota is used up"),
    Row("no credit", (b"{}",), 402, ends=ValueError, message="cannot pay"),
    Row(
        "credit in words", (error("Your credit balance is too low"),), 400, ends=ValueError, message="quota is used up"
    ),
    Row("wrong key", (error("Incorrect API key"),), 401, ends=ValueError, message="set RETRIEVER_API_KEY"),
    Row("forbidden", (b"{}",), 403, ends=ValueError, message="may not use this model"),
    Row("no such model", (error("no model"),), 404, ends=ValueError, message="llm_uri must be a name"),
    Row("wrong method", (b"",), 405, ends=ValueError, message="ends in /v1"),
    Row(
        "unknown field",
        (error("Unrecognized request argument supplied: seed"),),
        400,
        ends=ValueError,
        message="--endpoint-omit seed$",
    ),
    Row(
        "a field with another name",
        (
            error(
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
        (error("Unsupported value: 'temperature' does not support 0.0"),),
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
