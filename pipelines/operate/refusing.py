"""What an API's refusal means to a person: where it happened, what was wanted, and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import urllib3.exceptions

from components.shared.contract.ending import TransientError

Result = TypeVar("Result")

# Of one request; a server that needs longer does not answer.
REQUEST_SECONDS = 30
# It would write a line for every attempt before we say what happened.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
_MAY_PASS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class Api(NamedTuple):
    """A server's name in messages, and what helps against its refusals."""

    where: str
    unreachable: str
    credentials: str
    rights: str


def asked(api: Api, what: str, call: Callable[[], Result], failure: type[Exception]) -> Result:
    """The answer to a request; `failure` is the error of its client, with `status`, `reason` and `body`.

    Raises:
        TransientError: Where the server cannot be reached, is busy, or failed itself.
        ValueError: Where it refuses.
        Exception: As the client raises it, where there is no such thing (404) or there is one already (409).
    """
    try:
        return call()
    except urllib3.exceptions.HTTPError as error:
        raise _unreached(api, what, error) from error
    except failure as error:
        status = int(getattr(error, "status", 0) or 0)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
        raise refusal(api, what, status, words_of(error)) from error


def refusal(api: Api, what: str, status: int, words: str) -> Exception:
    """What to raise for an answer with this status."""
    if status == HTTPStatus.UNAUTHORIZED:
        return ValueError(f"{api.where}: {what}: the credentials are not accepted ({words}); {api.credentials}")
    if status == HTTPStatus.FORBIDDEN:
        return ValueError(f"{api.where}: {what}: permission denied ({words}); {api.rights}")
    if status in _MAY_PASS or status >= HTTPStatus.INTERNAL_SERVER_ERROR or not status:
        return TransientError(f"{api.where}: {what}: the server answers {status} ({words}); {api.unreachable}")
    return ValueError(f"{api.where}: {what}: the server refuses with {status} ({words}); see what it says, and mend it")


def words_of(error: Exception) -> str:
    """What the server said: the message of a status object, or the first line of whatever came."""
    import orjson

    body = getattr(error, "body", None) or getattr(error, "reason", None) or str(error)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        said = None
    if isinstance(said, dict):
        text = str(said.get("message") or said.get("error_message") or said.get("error") or text)
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:300]}..."


def _unreached(api: Api, what: str, error: Exception) -> Exception:
    reason = getattr(error, "reason", None) or error
    # The name of the object that an error of urllib3 begins with says nothing to a person.
    words = str(reason).rpartition("object at 0x")[2].partition(">: ")[2] or str(reason)
    if isinstance(reason, urllib3.exceptions.SSLError):
        return ValueError(f"{api.where}: {what}: the certificate is not trusted ({words}); {api.credentials}")
    return TransientError(f"{api.where}: {what}: no answer ({words}); {api.unreachable}")
