"""The HTTP face of a Service: routes, answers and errors.

Every request is answered 200, 4xx or 503; errors have OpenAI's shape {"error": {"message", "type", "code"}}.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve import parsing
from components.serve.batching import QueueFullError, SessionDiedError
from components.serve.metrics import CONTENT_TYPE
from components.serve.service import FoundPassage, Service, Vectors
from components.shared import log

Result = TypeVar("Result")

_PROBES = ("/healthz", "/readyz", "/metrics")


class JSONResponse(Response):
    """JSON by orjson, which writes numpy arrays without a detour through lists."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Bytes of the body."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service; its lifespan starts and stops the service."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        service.stop()

    def endpoint(answer: Callable[[Service, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            return await answer(service, request)

        return call

    routes = [
        Route("/search", endpoint(_search), methods=["POST"]),
        Route("/v1/embeddings", endpoint(_embeddings), methods=["POST"]),
        Route("/healthz", endpoint(_healthz)),
        Route("/readyz", endpoint(_readyz)),
        Route("/metrics", endpoint(_metrics)),
    ]
    starlette = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refusal, Exception: _fault})
    return _Observed(starlette, service)


async def _search(service: Service, request: Request) -> Response:
    body = await parsing.read_body(request, max_bytes=service.config.max_body_bytes)
    wanted = parsing.parse_search(body, max_texts=service.config.max_texts, max_depth=service.config.max_depth)
    token_ids = await _tokenize(service, request, wanted.queries, "query")
    rankings = await _limited(service, request, service.search_tokens(token_ids, depth=wanted.depth))
    results = [{"query": query, "hits": list(map(_hit, ranking))} for query, ranking in zip(wanted.queries, rankings, strict=True)]
    return JSONResponse({"results": results})


async def _embeddings(service: Service, request: Request) -> Response:
    body = await parsing.read_body(request, max_bytes=service.config.max_body_bytes)
    wanted = parsing.parse_embeddings(body, max_texts=service.config.max_texts, dimension=service.encoder.dimension)
    token_ids = await _tokenize(service, request, wanted.texts, wanted.input_type)
    vectors = await _limited(service, request, service.encode(token_ids))
    embeddings = _base64(vectors) if wanted.encoding_format == "base64" else vectors
    num_tokens = sum(map(len, token_ids))
    return JSONResponse(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(embeddings)],
            "model": wanted.model,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }
    )


async def _healthz(service: Service, _: Request) -> Response:
    problem = service.not_alive()
    return JSONResponse({"alive": not problem, "problem": problem}, 503 if problem else 200)


async def _readyz(service: Service, _: Request) -> Response:
    problem = service.not_ready()
    facts = {"encoder": service.encoder.digest, "passages": service.index.num_passages, "dimension": service.encoder.dimension}
    return JSONResponse({"ready": not problem, "problem": problem, **facts}, 503 if problem else 200)


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE)


async def _tokenize(service: Service, request: Request, texts: Sequence[str], input_type: parsing.InputType) -> list[list[int]]:
    token_ids = await service.tokenize(texts, input_type)
    num_tokens = sum(map(len, token_ids))
    request.state.facts = {"texts": len(texts), "tokens": num_tokens}
    if num_tokens > service.config.max_queued_tokens:
        raise HTTPException(413, f"{num_tokens} tokens, this server takes {service.config.max_queued_tokens} a request; send fewer texts")
    return token_ids


async def _limited(service: Service, request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result, unless the time is up or the client has gone: then the work is cancelled and leaves the queue."""
    task = asyncio.ensure_future(work)
    # After the body the next message can only be the disconnect.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), timeout=service.config.request_seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    except QueueFullError as error:
        raise HTTPException(429, str(error), {"retry-after": str(error.retry_seconds)}) from error
    except SessionDiedError as error:
        raise HTTPException(503, str(error), {"retry-after": "1"}) from error
    finally:
        task.cancel()
        gone.cancel()
    if gone.done() and not gone.cancelled():
        raise HTTPException(parsing.CLIENT_GONE, "the client has gone")
    raise HTTPException(503, f"not answered within {service.config.request_seconds:g} s; the server is overloaded", {"retry-after": "1"})


def _hit(found: FoundPassage) -> dict[str, object]:
    hit = {"passage_id": found.hit.passage_id, "score": found.hit.score}
    return hit if found.passage is None else {**hit, "title": found.passage.title, "text": found.passage.text}


def _base64(vectors: Vectors) -> list[str]:
    return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, error.headers)


async def _fault(_: Request, error: Exception) -> Response:
    log.error("a request failed by our fault", problem=repr(error))
    return _error(500, "the server failed; see its log", None)


def _error(status: int, message: str, headers: Mapping[str, str] | None) -> Response:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status, headers)


class _Observed:
    """Counts and logs every request, and asks clients to reconnect elsewhere while draining."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500
        scope["state"] = {**scope.get("state", {}), "facts": {}}

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._service.draining:
                    # A kept-alive connection that is idle when the listener closes would lose the client's next request.
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        self._service.metrics.request_started()
        try:
            await self._app(scope, receive, observe)
        finally:
            seconds = time.monotonic() - start
            self._service.metrics.request_finished(scope["path"], status, seconds)
            if self._service.config.access_log and not (scope["path"] in _PROBES and status == 200):
                _log_request(scope, status, seconds)


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    client = scope.get("client") or ("",)
    log.event(
        "request",
        method=scope["method"],
        path=scope["path"][:200],
        status=status,
        milliseconds=round(seconds * 1000, 2),
        client=client[0],
        **scope["state"]["facts"],
    )
