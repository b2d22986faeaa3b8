"""Any OpenAI-compatible server as an engine: many calls at once, patience with a server that is busy, none with a wrong call.

Completions go to /chat/completions. Likelihoods go to /completions with `echo` and `logprobs`, which vLLM and a few
others have and most commercial servers do not. Where the server also has vLLM's /tokenize, context and continuation are
tokenised apart, as the other engines do it; elsewhere the border is found in the echoed text, and refused where the
tokens do not spell it. The key is read from RETRIEVER_API_KEY; it appears in no message and no artifact.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import email.utils
import os
import queue
import random
import threading
from dataclasses import replace
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from components.annotate.engines.engine import (
    BusyTime,
    Completion,
    CompletionRequest,
    FinishReason,
    Likelihood,
    LikelihoodRequest,
    Request,
    Result,
    check_border,
)
from components.shared import log
from components.shared.launch import TransientError

if TYPE_CHECKING:
    import httpx

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "content_filter"}
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "set RETRIEVER_API_KEY to a key of this server",
    HTTPStatus.FORBIDDEN: "the key in RETRIEVER_API_KEY may not use this model",
    HTTPStatus.NOT_FOUND: "endpoint_uri usually ends in /v1, and llm_uri must be a name that GET /models lists",
}
_LONGEST_DELAY_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_EXCERPT_CHARACTERS = 300


class EndpointEngine:
    """A server that speaks OpenAI's protocol; an event loop in a thread of its own keeps `num_concurrent` calls going."""

    def __init__(
        self,
        endpoint_uri: str,
        model: str,
        *,
        num_concurrent: int = 64,
        timeout_seconds: float = 600.0,
        max_attempts: int = 8,
        first_delay_seconds: float = 1.0,
    ) -> None:
        """Connects to nothing yet.

        Args:
            endpoint_uri: Base URL, usually ending in /v1.
            model: Name under which the server knows the model.
            num_concurrent: Calls at the same time.
            timeout_seconds: Longest silence of the server within one call; a busy server queues.
            max_attempts: Tries of one call. With the default delays they span about two minutes, a server's restart.
            first_delay_seconds: Wait before the second try; doubles each time up to a minute, and is drawn between
                half and all of it.

        Raises:
            ValueError: Where endpoint_uri is no http(s) URL, or holds a password.
        """
        import httpx

        url = httpx.URL(endpoint_uri.rstrip("/"))
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"endpoint_uri {endpoint_uri!r} is no http(s) URL; give one such as http://host:8000/v1")
        if url.userinfo:
            raise ValueError(
                "endpoint_uri holds a user or password, which would be recorded in manifests; put the key in RETRIEVER_API_KEY"
            )
        self.model = model
        self._base = str(url)
        self._max_attempts, self._first_delay_seconds = max_attempts, first_delay_seconds
        self._key = os.environ.get("RETRIEVER_API_KEY", "")
        self._client = httpx.AsyncClient(
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
            timeout=httpx.Timeout(timeout_seconds, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=num_concurrent, max_keepalive_connections=num_concurrent),
        )
        self._slots = asyncio.Semaphore(num_concurrent)
        self._stopping = asyncio.Event()
        self._tokenizes: asyncio.Task[bool] | None = None
        self._num_pending = 0
        self._busy = BusyTime()
        self._done: queue.SimpleQueue[concurrent.futures.Future[Result]] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    @cached_property
    def can_constrain(self) -> bool:
        """Whether the server is vLLM, whose /version says so: the others have no regular expressions for replies."""
        return asyncio.run_coroutine_threadsafe(self._has_version(), self._loop).result()

    def submit(self, request: Request) -> None:
        """Queues a call."""
        self._num_pending += 1
        asyncio.run_coroutine_threadsafe(self._call(request), self._loop).add_done_callback(self._done.put)

    def collect(self) -> list[Result]:
        """Waits for a call to end. After one has failed for good the others in flight are still handed over, then it is raised.

        Raises:
            TransientError: Where the server stayed out of reach or busy for all attempts.
            ValueError: Where the server refuses a call, or answers otherwise than the protocol says.
        """
        results: list[Result] = []
        while self._num_pending and not results:
            for future in self._ended():
                self._num_pending -= 1
                if future.cancelled():
                    continue
                if (failure := future.exception()) is None:
                    results.append(future.result())
                elif self._failure is None:
                    self._failure = failure
        if not results and self._failure is not None:
            raise self._failure
        return results

    def close(self) -> None:
        """Ends the calls in flight and the connections."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _ended(self) -> list[concurrent.futures.Future[Result]]:
        ended = [self._done.get()]
        while not self._done.empty():
            ended.append(self._done.get())
        return ended

    async def _shut_down(self) -> None:
        its = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in its:
            task.cancel()
        await asyncio.gather(*its, return_exceptions=True)
        await self._client.aclose()

    async def _call(self, request: Request) -> Result:
        async with self._slots:
            if self._stopping.is_set():
                raise asyncio.CancelledError
            started = self._busy.start()
            seconds = 0.0
            try:
                result = await (
                    self._complete(request) if isinstance(request, CompletionRequest) else self._weigh(request)
                )
            except (ValueError, TransientError):
                self._stopping.set()
                raise
            finally:
                seconds = self._busy.stop(started)
            return replace(result, engine_seconds=seconds)

    async def _complete(self, request: CompletionRequest) -> Completion:
        url = f"{self._base}/chat/completions"
        answer = await self._post(url, {"model": self.model} | _chat_body(request))
        try:
            choice = answer["choices"][0]
            # No content at all where a reasoning parser took everything, or a filter did.
            text = choice["message"].get("content") or ""
            finish_reason = _FINISH_REASONS.get(choice.get("finish_reason"), "abort")
            usage = answer["usage"]
            # Many servers leave it out, or send null.
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            return Completion(
                request.key, text, finish_reason, usage["prompt_tokens"], usage["completion_tokens"], cached
            )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._not_the_protocol(url, answer, error) from error

    async def _weigh(self, request: LikelihoodRequest) -> Likelihood:
        url = f"{self._base}/completions"
        prompt: str | list[int] = request.context + request.continuation
        num_continuation = 0
        if await self._can_tokenize():
            context, continuation = (
                await self._tokenize(request.context, special=True),
                await self._tokenize(request.continuation),
            )
            check_border(request, len(context), len(continuation))
            prompt, num_continuation = context + continuation, len(continuation)
        # One token is asked for because many servers refuse none.
        body = {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
        answer = await self._post(url, body)
        try:
            choice = answer["choices"][0]
            num_prompt = answer["usage"]["prompt_tokens"]
            echoed = choice.get("logprobs") or {}
            logprobs = echoed.get("token_logprobs") or []
            if len(logprobs) < num_prompt or num_prompt < 2:
                raise ValueError(
                    f"{url}: the server gives no likelihoods of the prompt's tokens (echo with logprobs); "
                    "serve the model with vLLM, or use a method that needs completions only"
                )
            first = num_prompt - num_continuation if num_continuation else _find_border(request, echoed, num_prompt)
            weighed = tuple(float(logprob) for logprob in logprobs[first:num_prompt])
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise self._not_the_protocol(url, answer, error) from error
        return Likelihood(request.key, weighed, num_prompt)

    async def _can_tokenize(self) -> bool:
        """Asks the server once, whoever asks first."""
        if self._tokenizes is None:
            self._tokenizes = asyncio.get_running_loop().create_task(self._try_tokenize())
        return await asyncio.shield(self._tokenizes)

    async def _has_version(self) -> bool:
        import httpx

        url = f"{self._base.removesuffix('/v1')}/version"
        try:
            response = await self._client.get(url)
        except httpx.TransportError as error:
            # Whether it is gone for good the calls themselves will find out, with patience.
            log.warning("the server does not say what it is; replies are not constrained", url=url, problem=str(error))
            return False
        answer = _json_object(response.content) if response.is_success else None
        return answer is not None and "version" in answer

    async def _try_tokenize(self) -> bool:
        try:
            return len(await self._tokenize("two words", special=True)) > 1
        except ValueError as error:
            log.event("the server does not tokenize; likelihoods are cut at text offsets", problem=str(error))
            return False

    async def _tokenize(self, text: str, *, special: bool = False) -> list[int]:
        url = f"{self._base.removesuffix('/v1')}/tokenize"
        answer = await self._post(url, {"model": self.model, "prompt": text, "add_special_tokens": special})
        tokens = answer.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
            raise self._not_the_protocol(url, answer, KeyError("tokens"))
        return tokens

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The JSON object that the server answers; waits and tries again where that can help."""
        import httpx

        problem, is_malformed, asked_seconds = "", False, 0.0
        for attempt in range(self._max_attempts):
            if attempt:
                await self._pause(attempt, asked_seconds)
            try:
                response = await self._client.post(url, content=orjson.dumps(body))
            except httpx.TransportError as error:
                problem, is_malformed, asked_seconds = f"{type(error).__name__} {error}".strip(), False, 0.0
                continue
            if response.is_success and (answer := _json_object(response.content)) is not None:
                return answer
            problem, is_malformed = (
                f"status {response.status_code}, {self._excerpt(response.text)}",
                response.is_success,
            )
            if (
                not response.is_success
                and response.status_code not in _BUSY
                and response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
            ):
                remedy = _REMEDIES.get(response.status_code, "the server says what it cannot accept")
                raise ValueError(f"{url}: {problem}; {remedy}")
            asked_seconds = _retry_after_seconds(response)
        if is_malformed:
            raise ValueError(
                f"{url}: {problem}: not a JSON object in {self._max_attempts} attempts; is endpoint_uri the API's base URL?"
            )
        raise TransientError(f"{url}: {problem}; gave up after {self._max_attempts} attempts")

    async def _pause(self, attempt: int, asked_seconds: float) -> None:
        """Waits for the longer of our own growing delay and what the server asked for; ends at once where another call has failed."""
        own = min(self._first_delay_seconds * 2 ** (attempt - 1), _LONGEST_DELAY_SECONDS)
        # Half of it is drawn, so that calls which failed together do not come back together.
        delay = max(own * random.uniform(0.5, 1.0), asked_seconds)
        try:
            await asyncio.wait_for(self._stopping.wait(), delay)
        except TimeoutError:
            return
        raise asyncio.CancelledError

    def _excerpt(self, text: str) -> str:
        # Some servers repeat the key that they refuse.
        shown = text.replace(self._key, "***") if self._key else text
        return f"body {shown[:_EXCERPT_CHARACTERS]!r}"

    def _not_the_protocol(self, url: str, answer: dict[str, Any], error: Exception) -> ValueError:
        shown = self._excerpt(orjson.dumps(answer).decode())
        return ValueError(
            f"{url}: not an OpenAI-compatible answer ({type(error).__name__} {error}), {shown}; check endpoint_uri"
        )


def _chat_body(request: CompletionRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "messages": [{"role": turn.role, "content": turn.content} for turn in request.turns],
        "max_tokens": request.max_tokens,
        "temperature": request.sampling_temperature,
        "seed": request.seed,
    }
    # What is not part of OpenAI's protocol is sent only where it says something: many servers refuse a field they do
    # not know.
    if request.top_p < 1.0:
        body["top_p"] = request.top_p
    if request.top_k:
        body["top_k"] = request.top_k
    if request.pattern:
        body["structured_outputs"] = {"regex": request.pattern}
    if request.chat_options:
        body["chat_template_kwargs"] = dict(request.chat_options)
    return body


def _find_border(request: LikelihoodRequest, echoed: dict[str, Any], num_prompt: int) -> int:
    """Place of the continuation's first token; a token across the border counts as the continuation's.

    Offsets are measured from the end of the prompt: a server may count tokens at its beginning that are not in our
    text.

    Raises:
        ValueError: Where the tokens do not spell the continuation (a character cut into bytes, another marking of
            spaces).
    """
    tokens, length = echoed["tokens"][:num_prompt], 0
    for place in range(num_prompt - 1, 0, -1):
        length += len(tokens[place])
        if length >= len(request.continuation):
            if "".join(tokens[place:]).endswith(request.continuation):
                return place
            break
    raise ValueError(
        f"request {request.key!r}: the server's tokens {tokens[-8:]} do not end in the continuation {request.continuation[-40:]!r}; "
        "serve the model with vLLM, whose /tokenize makes the border certain"
    )


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _retry_after_seconds(response: httpx.Response) -> float:
    """What the Retry-After header asks for, in seconds or as a date, no longer than a minute; 0 without one."""
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - datetime.datetime.now(datetime.UTC)).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_DELAY_SECONDS)
