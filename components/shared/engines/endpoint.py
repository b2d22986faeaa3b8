"""Any OpenAI-compatible server as an engine: many calls at once, patience with a busy one, none with a wrong address.

Completions go to /chat/completions. Likelihoods go to /completions with `echo` and `logprobs`, which vLLM and a few
others have and most commercial servers do not. Where the server also has vLLM's /tokenize, context and continuation are
tokenised apart, as the other engines do it; elsewhere the border is found in the echoed text, and refused where the
tokens do not spell it. The key is read from RETRIEVER_API_KEY; it appears in no message and no artifact.

A prompt that the server refuses is that prompt's trouble and becomes a `Refusal`. Only where call after call is refused
for the same reason is it the trouble of all, and then the job ends and says so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import re
import threading
from collections.abc import Coroutine
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import httpx

from components.shared import log
from components.shared.engines.answers import UnusableError, read_completion, read_likelihood
from components.shared.engines.client import AbortedError, Client, RefusedError, shown
from components.shared.engines.dialect import Dialect, chat_body, field_remedy, likelihood_body
from components.shared.engines.engine import (
    BusyTime,
    Completion,
    CompletionRequest,
    Likelihood,
    LikelihoodRequest,
    PromptError,
    Refusal,
    Request,
    Result,
    check_border,
)
from components.shared.engines.problems import MISSING_REMEDIES
from components.shared.launch import TransientError

# Refusals alike in a row that end the job: fewer before the server has given its first result than after it.
_REFUSALS_AT_FIRST = 8
_REFUSALS_LATER = 64
_PATHS = ("/chat/completions", "/completions")

Answer = Result | Refusal


class EndpointEngine:
    """A server that speaks OpenAI's protocol; an event loop in its own thread keeps `num_concurrent` calls going."""

    def __init__(
        self,
        endpoint_uri: str,
        model: str,
        *,
        dialect: Dialect | None = None,
        num_concurrent: int = 64,
        timeout_seconds: float = 600.0,
        patience_seconds: float = 600.0,
        first_delay_seconds: float = 1.0,
    ) -> None:
        """Connects to nothing yet.

        Args:
            endpoint_uri: Base URL, usually ending in /v1; parameters after a question mark go along with every call.
            model: Name under which the server knows the model.
            dialect: Fields that the server does not take or calls otherwise.
            num_concurrent: Calls at the same time.
            timeout_seconds: Longest silence of the server within one call; a busy server queues.
            patience_seconds: How long after a call's first failure it is tried again; longer than a server's restart.
            first_delay_seconds: Wait before the second try; doubles each time up to a minute, and is drawn between
                half and all of it.

        Raises:
            ValueError: Where endpoint_uri is no http(s) URL, or holds a password.
        """
        self.model = model
        self._dialect = dialect or Dialect()
        self._client = Client(
            _base_url(endpoint_uri),
            num_concurrent=num_concurrent,
            timeout_seconds=timeout_seconds,
            patience_seconds=patience_seconds,
            first_delay=first_delay_seconds,
        )
        self._refusals = _Refusals()
        self._slots = asyncio.Semaphore(num_concurrent)
        self._tokenizes: asyncio.Task[bool] | None = None
        self._num_pending = 0
        self._busy = BusyTime()
        self._done: queue.SimpleQueue[concurrent.futures.Future[Answer]] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        self._thread.start()

    @cached_property
    def can_constrain(self) -> bool:
        """Whether the server is vLLM, whose /version says so: the others have no regular expressions for replies."""
        if "structured_outputs" in self._dialect.omitted:
            return False
        answer = self._wait(self._client.get(self._client.url("/version", below_root=True)))
        return isinstance(answer, dict) and "version" in answer

    def submit(self, request: Request) -> None:
        """Queues a call."""
        self._num_pending += 1
        asyncio.run_coroutine_threadsafe(self._call(request), self._loop).add_done_callback(self._done.put)

    def collect(self) -> list[Answer]:
        """Waits for a call to end; after one has failed for good the others' results come first, then it is raised.

        Raises:
            TransientError: Where the server stayed out of reach or busy for as long as it was waited for.
            ValueError: Where the server refuses all calls alike, or does not speak the protocol.
        """
        results: list[Answer] = []
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
        self._wait(self._shut_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 whatever the coroutine gives
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _ended(self) -> list[concurrent.futures.Future[Answer]]:
        ended = [self._done.get()]
        while not self._done.empty():
            ended.append(self._done.get())
        return ended

    async def _shut_down(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _call(self, request: Request) -> Answer:
        async with self._slots:
            if self._client.stopping.is_set():
                raise asyncio.CancelledError
            started, seconds = self._busy.start(), 0.0
            try:
                result = await self._asked(request)
            except (ValueError, TransientError):
                self._client.stopping.set()
                raise
            finally:
                seconds = self._busy.stop(started)
            return result if isinstance(result, Refusal) else replace(result, engine_seconds=seconds)

    async def _asked(self, request: Request) -> Answer:
        """The result of a call, or its refusal.

        Raises:
            ValueError: Where the refusal is the trouble of all calls.
        """
        body: dict[str, Any] = {}
        path = _PATHS[0] if isinstance(request, CompletionRequest) else _PATHS[1]
        url = self._client.url(path)
        try:
            if isinstance(request, CompletionRequest):
                body = self._body(chat_body(request))
                result: Result = await self._client.post(url, body, partial(_completed, request.key))
            else:
                prompt, num_continuation = await self._prompt(request)
                body = self._body(likelihood_body(prompt))
                read = partial(_likelihood, request, prompt=prompt, num_continuation=num_continuation)
                result = await self._client.post(url, body, read)
        except PromptError as error:
            return Refusal(request.key, str(error))
        except RefusedError as refused:
            remedy = field_remedy(str(refused), body) if refused.status else ""
            self._refusals.add(shown(url), refused, remedy)
            return Refusal(request.key, f"{refused}; {remedy}" if remedy else str(refused))
        self._refusals.end()
        return result

    def _body(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.model} | self._dialect.spoken(body)

    async def _prompt(self, request: LikelihoodRequest) -> tuple[str | list[int], int]:
        """What is weighed, and how many of its tokens are the continuation's: 0 where the server does not tokenize."""
        if not await self._can_tokenize():
            return request.context + request.continuation, 0
        context = await self._tokenize(request.context, special=True)
        continuation = await self._tokenize(request.continuation)
        check_border(request, len(context), len(continuation))
        return context + continuation, len(continuation)

    async def _can_tokenize(self) -> bool:
        """Asks the server once, whoever asks first."""
        if self._tokenizes is None:
            self._tokenizes = asyncio.get_running_loop().create_task(self._try_tokenize())
        return await asyncio.shield(self._tokenizes)

    async def _try_tokenize(self) -> bool:
        url = self._client.url("/tokenize", below_root=True)
        answer = await self._client.probe(url, self._tokenize_body("two words", special=True))
        tokens = (answer or {}).get("tokens")
        # llama.cpp has an address of this name too, which reads another field and finds no text in ours.
        if isinstance(tokens, list) and len(tokens) > 1 and all(isinstance(token, int) for token in tokens):
            return True
        log.event("the server does not tokenize; likelihoods are cut where the echoed text says", url=shown(url))
        return False

    async def _tokenize(self, text: str, *, special: bool = False) -> list[int]:
        url = self._client.url("/tokenize", below_root=True)
        return await self._client.post(url, self._tokenize_body(text, special=special), _tokens)

    def _tokenize_body(self, text: str, *, special: bool) -> dict[str, Any]:
        return {"model": self.model, "prompt": text, "add_special_tokens": special}


class _Refusals:
    """Refusals in a row, and whether they are alike: numbers and quoted words of the prompts make no difference."""

    def __init__(self) -> None:
        self._reason, self._num_alike, self._limit = "", 0, _REFUSALS_AT_FIRST

    def end(self) -> None:
        """A call has succeeded."""
        self._reason, self._num_alike, self._limit = "", 0, _REFUSALS_LATER

    def add(self, where: str, refused: RefusedError, remedy: str) -> None:
        """A call was refused.

        Raises:
            ValueError: Where so many were refused for the same reason that the next one will be too.
        """
        is_first_word = self._limit == _REFUSALS_AT_FIRST
        is_everybodys = bool(remedy) or refused.concerns_all
        reason = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|[0-9a-f-]*\d[0-9a-f-]*", "#", str(refused))
        self._num_alike = self._num_alike + 1 if reason == self._reason else 1
        self._reason = reason
        if self._num_alike >= self._limit or (is_first_word and is_everybodys):
            alike = f" ({self._num_alike} calls in a row were refused alike)" if self._num_alike > 1 else ""
            advice = remedy or MISSING_REMEDIES.get(refused.status, "")
            if not advice and not refused.concerns_all:
                advice = "change what the server cannot accept"
            raise ValueError(f"{where}: {refused}{alike}" + (f"; {advice}" if advice else ""))


def _base_url(endpoint_uri: str) -> httpx.URL:
    try:
        url = httpx.URL(endpoint_uri.strip())
    except httpx.InvalidURL as error:
        raise ValueError(
            f"endpoint_uri {endpoint_uri!r} is no URL ({error}); give one such as http://host:8000/v1"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"endpoint_uri {endpoint_uri!r} is no http(s) URL; give one such as http://host:8000/v1")
    if url.userinfo:
        raise ValueError(
            "endpoint_uri holds a user or password, which would be recorded in manifests; "
            "put the key into RETRIEVER_API_KEY"
        )
    path = url.path.rstrip("/")
    # People copy the whole address of a call from a server's documentation.
    for ending in _PATHS:
        path = path.removesuffix(ending)
    return url.copy_with(path=path or "/", fragment=None)


def _completed(key: str, answer: dict[str, Any]) -> Completion:
    completion = read_completion(key, answer)
    if completion.finish_reason == "abort":
        raise AbortedError(f"the server broke off (finish_reason {completion.reason!r})")
    return completion


def _likelihood(
    request: LikelihoodRequest, answer: dict[str, Any], *, prompt: str | list[int], num_continuation: int
) -> Likelihood:
    return read_likelihood(request, answer, prompt, num_continuation)


def _tokens(answer: dict[str, Any]) -> list[int]:
    tokens = answer.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in tokens):
        raise UnusableError("the server's /tokenize gave no tokens")
    return tokens
