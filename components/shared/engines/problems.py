"""What went wrong with a call, told from status, headers and body: what waiting mends, and what it does not.

Servers say the same thing in many ways: a limit as 429, as 503, or as an `error` object inside a 200; a quota that is
used up as 429 too, though no waiting brings it back.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import orjson

Kind = Literal["busy", "failing", "missing", "refused", "ended", "strange"]

_EXCERPT_CHARACTERS = 300
_BUSY = frozenset({408, 425, 429, 502, 503, 504, 529})
# The server's own trouble with this call: it may pass, and it may come from the prompt.
_FAILING = frozenset({409, 423, 424, 499})
_MISSING = frozenset({403, 404, 405})
_ENDED: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "set RETRIEVER_API_KEY to a key of this server",
    HTTPStatus.PAYMENT_REQUIRED: "this account cannot pay for more calls; add credit, or use another key or server",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "the proxy named by HTTPS_PROXY wants a login; set it, or NO_PROXY",
}
MISSING_REMEDIES: dict[int, str] = {
    HTTPStatus.FORBIDDEN: "the key in RETRIEVER_API_KEY may not use this model",
    HTTPStatus.NOT_FOUND: "endpoint_uri usually ends in /v1, and llm_uri must be a name that GET /models lists",
    HTTPStatus.METHOD_NOT_ALLOWED: "endpoint_uri usually ends in /v1",
}
_QUOTA_CODES = frozenset(
    [
        "insufficient_quota",
        "quota_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_funds",
        "insufficient_credits",
        "budget_exceeded",
        "payment_required",
        "credit_balance_too_low",
    ]
)
_QUOTA = re.compile(
    r"insufficient.{0,3}(?:quota|balance|credit|fund)|billing hard limit|out of credit|credit balance is too low"
    r"|budget has been exceeded|exceeded.{0,20}(?:budget|spend)",
    re.IGNORECASE,
)
QUOTA_REMEDY = "the quota is used up and waiting will not bring it back; raise it or use another key, then run again"
_BUSY_WORDS = re.compile(
    r"rate.?limit|too many requests|overloaded|over capacity|capacity|try again|temporarily|unavailable|throttl"
    r"|resource.?exhausted|queue is full|loading",
    re.IGNORECASE,
)
_FAILING_WORDS = re.compile(r"internal|server_error|timed? ?out|timeout|upstream|provider returned", re.IGNORECASE)
_TRY_AGAIN = re.compile(
    r"(?:try again in|retry.{0,9} (?:in|after)|\"retryDelay\":\s*\")\s*([0-9.]+)\s*(ms|s)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Problem:
    """Why there is no result. `said` is what came; `asked_seconds` is how long the server asks to be left alone.

    busy: nobody is served now. failing: this call is not served now. missing: nothing is there, or it may not be used.
    refused: this call will never be served. ended: no call will be, before somebody acts. strange: this is no server
    of the protocol.
    """

    kind: Kind
    said: str
    status: int = 0
    asked_seconds: float = 0.0
    remedy: str = ""
    concerns_all: bool = False


def json_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object of a body, also alone in a list; None where there is none.

    NaN, Infinity and halves of surrogate pairs are no JSON, but Python servers write them: they are read as they are
    meant, and refused where they matter.
    """
    try:
        answer = orjson.loads(content.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        try:
            answer = json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    return answer if isinstance(answer, dict) else None


def response_problem(status: int, headers: Mapping[str, str], content: bytes) -> Problem | None:
    """What is wrong with a response; None where it is a JSON object without an error."""
    answer = json_object(content)
    asked_seconds = _asked_seconds(headers, content)
    if 200 <= status < 300:
        if answer is None:
            return Problem("strange", f"{_came(status, headers)}, {first_words(content)!r}", status)
        return _problem_inside(answer, asked_seconds)
    said = f"status {status}, {_words(answer) if answer else first_words(content)}"
    if 300 <= status < 400:
        to = headers.get("location", "nowhere").split("?")[0]
        return Problem("strange", f"{_came(status, headers)}, a redirect to {to}", status)
    if _is_quota(status, _code(answer), said) and not (asked_seconds and _code(answer) not in _QUOTA_CODES):
        return Problem("ended", said, status, remedy=_ENDED.get(status, QUOTA_REMEDY))
    return Problem(_kind(status), said, status, asked_seconds, _ENDED.get(status, ""))


def _kind(status: int) -> Kind:
    if status in _BUSY:
        return "busy"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _FAILING:
        return "failing"
    if status in _ENDED:
        return "ended"
    return "missing" if status in _MISSING else "refused"


def _is_quota(status: int, code: str, said: str) -> bool:
    return status in (402, 403, 429, 400) and (code in _QUOTA_CODES or status == 402 or bool(_QUOTA.search(said)))


def _problem_inside(answer: Mapping[str, Any], asked_seconds: float) -> Problem | None:
    """The error that a 200 carries, at its top or in its first choice."""
    carrier: Any = answer
    if not answer.get("error"):
        choices = answer.get("choices")
        carrier = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(carrier, dict) or not carrier.get("error"):
            return None
    error = carrier["error"]
    said = f"an error inside a 200, {_words({'error': error})}"
    code = error.get("code", error.get("status")) if isinstance(error, dict) else None
    if isinstance(code, str) and code.isdigit():
        code = int(code)
    if _code({"error": error}) in _QUOTA_CODES or code == HTTPStatus.PAYMENT_REQUIRED or _QUOTA.search(said):
        return Problem("ended", said, 200, remedy=QUOTA_REMEDY)
    if isinstance(code, int) and not isinstance(code, bool) and code >= 400:
        return Problem(_kind(code), said, code, asked_seconds, _ENDED.get(code, ""))
    kind: Kind = "busy" if _BUSY_WORDS.search(said) else "failing" if _FAILING_WORDS.search(said) else "refused"
    return Problem(kind, said, 200, asked_seconds)


def _code(answer: Mapping[str, Any] | None) -> str:
    error = (answer or {}).get("error")
    values = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    return next((value for value in values if isinstance(value, str) and value in _QUOTA_CODES), "")


def _words(answer: Mapping[str, Any]) -> str:
    """The words of an error body, wherever the server puts them."""
    error = answer.get("error")
    if isinstance(error, dict):
        parts = [error.get("code"), error.get("type"), error.get("message")]
        shown = [str(part) for part in dict.fromkeys(parts) if isinstance(part, str | int) and part != ""]
        return _cut(": ".join(shown)) if error.get("message") else _cut(_json(error))
    if isinstance(error, str) and error:
        return _cut(error)
    detail = answer.get("detail")
    if isinstance(detail, list):
        return _cut("; ".join(_detail(part) for part in detail))
    for value in (detail, answer.get("message"), answer.get("errors")):
        if value:
            return _cut(value if isinstance(value, str) else _json(value))
    return _cut(_json(answer))


def _detail(part: object) -> str:
    """One complaint of a server made with FastAPI: where, and what."""
    if not isinstance(part, dict) or "msg" not in part:
        return _json(part)
    where = part.get("loc")
    return f"{'.'.join(map(str, where)) if isinstance(where, list) else where}: {part['msg']}"


def first_words(content: bytes) -> str:
    """The first words of a body, without the tags, scripts and styles of a page."""
    text = content[: 1 << 16].decode("utf-8", "replace")
    text = re.sub(r"<(script|style)\b.*?(?:</\1>|$)", " ", text, flags=re.DOTALL | re.IGNORECASE)
    return _cut(" ".join(re.sub(r"<[^>]*>", " ", text).split())) or "an empty body"


def _came(status: int, headers: Mapping[str, str]) -> str:
    kind = headers.get("content-type", "").split(";")[0] or "no content type"
    return f"status {status} with {kind}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str) -> str:
    # Halves of surrogate pairs cannot be printed.
    return text[:_EXCERPT_CHARACTERS].encode("utf-8", "replace").decode()


def _asked_seconds(headers: Mapping[str, str], content: bytes) -> float:
    """How long the server asks to be left alone: by its headers, in seconds, milliseconds or as a date; or in words."""
    try:
        return max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    except ValueError:
        pass
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
        return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
    except ValueError:
        pass
    try:
        at = email.utils.parsedate_to_datetime(value)
        now = datetime.datetime.now(at.tzinfo or datetime.UTC)
        return max((at.replace(tzinfo=now.tzinfo) - now).total_seconds(), 0.0)
    except (ValueError, TypeError):
        pass
    match = _TRY_AGAIN.search(content[:4096].decode("utf-8", "replace"))
    return float(match[1].rstrip(".") or 0) / (1000 if match[2] == "ms" else 1) if match else 0.0
