"""Waiting for what passes by itself: a network, a server that is busy or comes up, too many requests.

Kubeflow does not run a failed command again, so a job waits inside, up to RETRIEVER_STORE_SECONDS as for a store, and
only then ends with the exit code that says "try again".
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from components.shared import log
from components.shared.contract.ending import TransientError
from components.shared.durable.stores import store_seconds

Result = TypeVar("Result")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
_BUSY = frozenset({408, 425, 429})
# By name, because the libraries that raise them (httpx, requests, urllib3) are in some images only.
_NETWORK_ERRORS = frozenset({"TransportError", "ConnectionError", "NewConnectionError", "MaxRetryError", "Timeout"})


def wait_out(
    what: str,
    call: Callable[[], Result],
    *,
    seconds: float | None = None,
    passes: Callable[[BaseException], bool] | None = None,
) -> Result:
    """The result of a call, which is repeated with growing pauses while it fails in a way that passes by itself.

    Args:
        what: What is asked, for the log.
        call: It may be repeated.
        seconds: How long it may take; default is what RETRIEVER_STORE_SECONDS says.
        passes: Whether an error passes by itself; default is `passes_by_itself`.

    Raises:
        TransientError: Where it still failed then.
        Exception: As the call raises it, where waiting does not help.
    """
    patience = float(store_seconds()) if seconds is None else seconds
    start, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
    while True:
        try:
            return call()
        except Exception as error:
            if not (passes or passes_by_itself)(error):
                raise
            problem, waited = _first_line(error), time.monotonic() - start
            if waited + pause > patience:
                raise TransientError(f"{what}: {problem}; waited {waited:.0f} s, try again later") from error
        log.warning("no answer; waiting", what=what, problem=problem, up_to_seconds=patience)
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def passes_by_itself(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is of the network or of a server that is busy or coming up."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        # Nothing is asked over the network, so nothing there can change.
        return False
    for cause in _chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status in _BUSY or status >= 500
        names = {known.__name__ for known in type(cause).__mro__}
        if isinstance(cause, ConnectionError | TimeoutError) or names & _NETWORK_ERRORS:
            return True
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
