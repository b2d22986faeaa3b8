"""One call to a server until it has a result, or until it is clear that it will have none."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import httpx
import orjson

from components.shared import log
from components.shared.engines.answers import MalformedError, NoLikelihoodsError, UnusableError
from components.shared.engines.problems import (
    MISSING_REMEDIES,
    Problem,
    first_words,
    json_object,
    response_problem,
)
from components.shared.launch import TransientError
from components.shared.roles import hint

_LONGEST_DELAY_SECONDS = 60.0
_STRANGE_DELAY_SECONDS = 2.0
_CONNECT_SECONDS = 10.0
# Tries of a call that fails while others succeed; with the default delays they span half a minute.
_FAILING_ATTEMPTS = 6

Read = TypeVar("Read")


class RefusedError(Exception):
    """The server will never serve this call; `status` is 0 where it answered and the answer is of no use.

    `concerns_all` where the server cannot serve any call of this kind.
    """

    def __init__(self, words: str, *, status: int = 0, concerns_all: bool = False) -> None:
        super().__init__(words)
        self.status, self.concerns_all = status, concerns_all


class AbortedError(Exception):
    """An answer whose end says that the server broke off."""


class Client:
    """Posts bodies; waits and tries again where that can help, up to a stated time."""

    def __init__(
        self,
        url: httpx.URL,
        *,
        num_concurrent: int,
        timeout_seconds: float,
        patience_seconds: float,
        first_delay: float,
    ) -> None:
        """Connects to nothing yet; `url` may carry parameters, such as Azure's api-version."""
        self._url, self._patience_seconds, self._first_delay = url, patience_seconds, first_delay
        self._key = os.environ.get("RETRIEVER_API_KEY", "")
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if self._key and url.host.endswith((".azure.com", ".azure-api.net")):
            headers["api-key"] = self._key
        self._http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=num_concurrent, max_keepalive_connections=num_concurrent),
        )
        self._has_said_that_it_waits = False
        self.num_results = 0
        # When the last try began that had a result; one in flight while the server dies says nothing of it afterwards.
        self._served_begun = 0.0
        self.stopping = asyncio.Event()

    def url(self, path: str, *, below_root: bool = False) -> httpx.URL:
        """The address of a path; `below_root` leaves the base URL's /v1 out."""
        base = self._url.path.rstrip("/")
        base = base.removesuffix("/v1") if below_root else base
        return self._url.copy_with(path=f"{base}{path}")

    async def close(self) -> None:
        """Ends the connections."""
        await self._http.aclose()

    async def get(self, url: httpx.URL) -> dict[str, Any] | None:
        """The JSON object at an address; None where there is none, for whatever reason."""
        try:
            response = await self._http.get(url)
        except httpx.RequestError as error:
            # Whether it is gone for good the calls themselves will find out, with patience.
            log.warning("the server does not say what it is", url=shown(url), problem=_named(error))
            return None
        return json_object(response.content) if response.is_success else None

    async def post(self, url: httpx.URL, body: Mapping[str, Any], read: Callable[[dict[str, Any]], Read]) -> Read:
        """What `read` makes of the answer.

        Raises:
            RefusedError: Where the server will not serve this call.
            ValueError: Where no call can succeed before the user changes something.
            TransientError: Where the server stayed busy or away for as long as it was waited for.
        """
        first_failure, attempt = 0.0, 0
        while True:
            begun = time.monotonic()
            result, problem = await self._try(url, body, read)
            if problem is None:
                assert result is not None, "an answer without a problem has a result"
                self.num_results += 1
                self._served_begun = max(self._served_begun, begun)
                return result
            attempt += 1
            if attempt == 1:
                first_failure = time.monotonic()
            waited = time.monotonic() - first_failure
            self._give_up(url, problem, attempt, waited, others_succeed=self._served_begun > first_failure)
            await self._pause(url, problem, attempt, waited)

    async def probe(self, url: httpx.URL, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer of a server that may not know this address; None where it does not."""
        for attempt in range(1, _FAILING_ATTEMPTS):
            answer, problem = await self._try(url, body, lambda answer: answer)
            if problem is None or problem.kind not in ("busy", "failing"):
                return answer
            await self._pause(url, problem, attempt, 0.0)
        return None

    async def _try(
        self, url: httpx.URL, body: Mapping[str, Any], read: Callable[[dict[str, Any]], Read]
    ) -> tuple[Read | None, Problem | None]:
        try:
            response = await self._http.post(url, content=orjson.dumps(body))
        except httpx.RequestError as error:
            return None, _connection_problem(error)
        problem = response_problem(response.status_code, response.headers, response.content)
        if problem is not None:
            return None, self._masked(problem)
        answer = json_object(response.content)
        assert answer is not None, "a response without a problem is a JSON object"
        try:
            return read(answer), None
        except AbortedError as error:
            return None, Problem("failing", str(error), response.status_code)
        except UnusableError as error:
            return None, Problem("refused", str(error), concerns_all=isinstance(error, NoLikelihoodsError))
        except MalformedError as error:
            said = f"not an OpenAI-compatible answer ({error}): {first_words(response.content)!r}"
            return None, self._masked(Problem("strange", said, response.status_code))

    def _give_up(self, url: httpx.URL, problem: Problem, attempt: int, waited: float, *, others_succeed: bool) -> None:
        """Raises where another try is of no use."""
        where, said = shown(url), problem.said
        if problem.kind == "refused":
            raise RefusedError(said, status=problem.status, concerns_all=problem.concerns_all)
        if problem.kind == "ended":
            raise ValueError(f"{where}: {said}; {problem.remedy}")
        if problem.kind == "missing" and (problem.status == 403 or not self.num_results):
            # A server that has given results is only away for a moment, but it may forbid a single prompt.
            if self.num_results:
                raise RefusedError(said, status=problem.status)
            raise ValueError(f"{where}: {said}; {MISSING_REMEDIES[problem.status]}")
        if problem.kind == "strange" and attempt > 1:
            if not self.num_results:
                raise ValueError(f"{where}: {said}; is endpoint_uri the base URL of an OpenAI-compatible API?")
            if others_succeed:
                raise RefusedError(said, status=problem.status)
        if problem.kind == "failing" and others_succeed and attempt >= _FAILING_ATTEMPTS:
            raise RefusedError(f"{said}, {attempt} times while other calls succeeded", status=problem.status)
        if waited + problem.asked_seconds > self._patience_seconds:
            asks = f", and asks for {problem.asked_seconds:.0f} s more" if problem.asked_seconds else ""
            raise TransientError(
                f"{where}: {said}; gave up after {attempt} attempts in {waited:.0f} s{asks} "
                f"({hint('endpoint_patience_seconds', f'{self._patience_seconds:g}')})"
            )

    async def _pause(self, url: httpx.URL, problem: Problem, attempt: int, waited: float) -> None:
        """Waits as long as the server asks, or longer with each attempt; ends at once where another call has failed."""
        own = min(self._first_delay * 2 ** min(attempt - 1, 10), _LONGEST_DELAY_SECONDS)
        if problem.kind == "strange":
            own = min(own, _STRANGE_DELAY_SECONDS)
        # Half of it is drawn, so that calls which failed together do not come back together.
        delay = max(own * random.uniform(0.5, 1.0), problem.asked_seconds)
        # The last try is made when the patience ends, not after it.
        delay = min(delay, max(self._patience_seconds - waited, 0.01))
        if not self._has_said_that_it_waits:
            self._has_said_that_it_waits = True
            log.warning(
                "waiting for the server",
                url=shown(url),
                problem=problem.said,
                at_most_seconds=round(self._patience_seconds),
            )
        try:
            await asyncio.wait_for(self.stopping.wait(), delay)
        except TimeoutError:
            return
        raise asyncio.CancelledError

    def _masked(self, problem: Problem) -> Problem:
        # Some servers repeat the key that they refuse.
        return replace(problem, said=problem.said.replace(self._key, "***")) if self._key else problem


def shown(url: httpx.URL) -> str:
    """An address without its parameters, which may hold secrets."""
    return str(url.copy_with(query=None))


def _connection_problem(error: httpx.RequestError) -> Problem:
    said = _named(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        remedy = "the server's certificate is not trusted here; set SSL_CERT_FILE to the file of its authority"
        return Problem("ended", said, remedy=remedy)
    if isinstance(error, httpx.DecodingError):
        return Problem("strange", said)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return Problem("busy", said)
    # It took the call and then broke off or fell silent: its own trouble, or the prompt's doing.
    return Problem("failing", said)


def _named(error: Exception) -> str:
    return f"{type(error).__name__} {error}".strip()
