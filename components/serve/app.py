"""The HTTP face of a Service: routes and answers.

Every request is answered 200, 4xx or 503, from one release; its version is in the header `retriever-version`.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from components.serve import openapi, page, parsing
from components.serve.batching import QueueFullError, SessionDiedError
from components.serve.metrics import CONTENT_TYPE
from components.serve.observed import Observed
from components.serve.release import FoundPassage, Release, Vectors
from components.serve.responses import JSONResponse, error_response
from components.serve.service import Service
from components.serve.siblings import Siblings
from components.shared import log

Result = TypeVar("Result")

_MODEL = "/v2/models/{model}"


def create_app(service: Service, siblings: Siblings | None = None) -> ASGIApp:
    """The ASGI application of a service; its lifespan starts and stops the service."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        service.stop()

    def route(path: str, answer: Callable[[Service, Request], Awaitable[Response]], method: str = "GET") -> Route:
        async def call(request: Request) -> Response:
            return await answer(service, request)

        return Route(path, call, methods=[method])

    document, page_response = openapi.document(service.config), page.response()
    routes = [
        route("/search", _search, "POST"),
        route("/v1/embeddings", _embeddings, "POST"),
        route("/search/batch", _search_batch, "POST"),
        route(f"{_MODEL}/infer", _infer, "POST"),
        route("/healthz", _healthz),
        route("/readyz", _readyz),
        Route("/metrics", _metrics(service, siblings)),
        route("/v1/models", _models),
        route("/v2", _server_metadata),
        route("/v2/health/live", _live),
        route("/v2/health/ready", _ready),
        route(_MODEL, _model_metadata),
        route(f"{_MODEL}/ready", _model_ready),
        Route("/openapi.json", _always(JSONResponse(document))),
        Route("/", _always(page_response)),
    ]
    starlette = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refusal, Exception: _fault}
    )
    observed = Observed(starlette, service)
    origins = [origin.strip() for origin in service.config.allowed_origins.split(",") if origin.strip()]
    if not origins:
        return observed
    headers = ["authorization", "content-type", "x-api-key", "traceparent", "tracestate"]
    return CORSMiddleware(observed, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=headers)


async def _search(service: Service, request: Request) -> Response:
    wanted = parsing.parse_search(await _body(service, request), _limits(service))
    with service.release.used() as release:
        (result,) = await _results(service, request, release, wanted)
        return _answer(release, result)


async def _search_batch(service: Service, request: Request) -> Response:
    wanted = parsing.parse_search_batch(await _body(service, request), _limits(service))
    with service.release.used() as release:
        return _answer(release, {"results": await _results(service, request, release, wanted)})


async def _results(
    service: Service, request: Request, release: Release, wanted: parsing.SearchRequest
) -> list[dict[str, object]]:
    token_ids = await _tokenize(service, request, release, wanted.queries, "query", truncate=wanted.truncate)
    rankings = await _limited(service, request, release.search(token_ids, wanted))
    return [
        {"query": query, "hits": list(map(_hit, ranking))}
        for query, ranking in zip(wanted.queries, rankings, strict=True)
    ]


async def _embeddings(service: Service, request: Request) -> Response:
    body = await _body(service, request)
    with service.release.used() as release:
        wanted = parsing.parse_embeddings(body, _limits(service), dimension=release.encoder.dimension)
        token_ids = await _tokenize(
            service, request, release, wanted.texts, wanted.input_type, truncate=wanted.truncate
        )
        vectors = await _limited(service, request, release.encode(token_ids))
        embeddings = _base64(vectors) if wanted.encoding_format == "base64" else vectors
        num_tokens = sum(map(len, token_ids))
        return _answer(
            release,
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(embeddings)
                ],
                "model": wanted.model or service.config.model_name,
                "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            },
        )


async def _infer(service: Service, request: Request) -> Response:
    _known_model(service, request)
    wanted = parsing.parse_infer(await _body(service, request), _limits(service))
    with service.release.used() as release:
        token_ids = await _tokenize(
            service, request, release, wanted.texts, wanted.input_type, truncate=wanted.truncate
        )
        vectors = await _limited(service, request, release.encode(token_ids))
        output = {"name": "embedding", "datatype": "FP32", "shape": list(vectors.shape), "data": vectors.reshape(-1)}
        named = {"id": wanted.request_id} if wanted.request_id else {}
        return _answer(
            release,
            {"model_name": service.config.model_name, "model_version": release.version, **named, "outputs": [output]},
        )


async def _healthz(service: Service, _: Request) -> Response:
    problem = service.not_alive()
    return JSONResponse({"alive": not problem, "problem": problem}, 503 if problem else 200)


async def _readyz(service: Service, _: Request) -> Response:
    problem, release = service.not_ready(), service.release
    facts = {
        "version": release.version,
        "encoder": release.encoder.digest,
        "passages": release.index.num_passages,
        "dimension": release.encoder.dimension,
    }
    return JSONResponse({"ready": not problem, "problem": problem, **facts}, 503 if problem else 200)


async def _live(service: Service, _: Request) -> Response:
    problem = service.not_alive()
    return JSONResponse({"live": not problem}, 503 if problem else 200)


async def _ready(service: Service, _: Request) -> Response:
    problem = service.not_ready()
    return JSONResponse({"ready": not problem}, 503 if problem else 200)


async def _models(service: Service, _: Request) -> Response:
    return JSONResponse(
        {"object": "list", "data": [{"id": service.config.model_name, "object": "model", "owned_by": "retriever"}]}
    )


async def _server_metadata(_service: Service, _: Request) -> Response:
    return JSONResponse({"name": "retriever", "version": openapi.VERSION, "extensions": []})


async def _model_metadata(service: Service, request: Request) -> Response:
    _known_model(service, request)
    release = service.release
    return JSONResponse(
        {
            "name": service.config.model_name,
            "versions": [release.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, release.encoder.dimension]}],
        }
    )


async def _model_ready(service: Service, request: Request) -> Response:
    _known_model(service, request)
    problem = service.not_ready()
    return JSONResponse({"name": service.config.model_name, "ready": not problem}, 503 if problem else 200)


def _known_model(service: Service, request: Request) -> None:
    if request.path_params["model"] != service.config.model_name:
        raise HTTPException(404, f"no such model; this server has {service.config.model_name}")


def _metrics(service: Service, siblings: Siblings | None) -> Callable[[Request], Awaitable[Response]]:
    async def call(_: Request) -> Response:
        content = await siblings.exposition() if siblings else service.metrics.exposition()
        return Response(content, media_type=CONTENT_TYPE)

    return call


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def call(_: Request) -> Response:
        return response

    return call


def _answer(release: Release, content: object) -> Response:
    return JSONResponse(content, headers={"retriever-version": release.version})


async def _body(service: Service, request: Request) -> bytes:
    return await parsing.read_body(
        request, max_bytes=service.config.max_body_bytes, seconds=service.config.body_seconds
    )


def _limits(service: Service) -> parsing.Limits:
    config = service.config
    return parsing.Limits(config.max_texts, config.max_depth, config.max_filter_ids)


async def _tokenize(
    service: Service,
    request: Request,
    release: Release,
    texts: Sequence[str],
    input_type: parsing.InputType,
    *,
    truncate: bool,
) -> list[list[int]]:
    token_ids = await release.tokenize(texts, input_type, truncate=truncate)
    num_tokens = sum(map(len, token_ids))
    request.state.facts.update(texts=len(texts), tokens=num_tokens, version=release.version)
    max_tokens = release.max_tokens(input_type)
    for position, ids in enumerate(token_ids):
        if len(ids) > max_tokens:
            raise HTTPException(
                413,
                f"text {position} has {len(ids)} tokens or more, the encoder takes {max_tokens} of a {input_type}; "
                'shorten it, or send "truncate": true to have it cut',
            )
    if num_tokens > service.config.max_queued_tokens:
        raise HTTPException(
            413,
            f"{num_tokens} tokens, this server takes {service.config.max_queued_tokens} a request; send fewer texts",
        )
    return token_ids


async def _limited(service: Service, request: Request, work: Awaitable[Result]) -> Result:
    """The work's result, unless the time is up or the client has gone: then the work is cancelled and leaves the queue."""
    # After the body the next message can only be the disconnect. The work itself needs no task: its time is ended
    # instead.
    gone = asyncio.ensure_future(request.receive())
    limit = asyncio.timeout(service.config.request_seconds)
    is_over = False

    def end_work(_: object) -> None:
        if not (is_over or limit.expired()):
            limit.reschedule(0)

    try:
        async with limit:
            gone.add_done_callback(end_work)
            return await work
    except QueueFullError as error:
        raise HTTPException(429, str(error), {"retry-after": str(error.retry_seconds)}) from error
    except SessionDiedError as error:
        raise HTTPException(503, str(error), {"retry-after": "1"}) from error
    except TimeoutError as error:
        if gone.done():
            raise HTTPException(parsing.CLIENT_GONE, "the client has gone") from error
        problem = f"not answered within {service.config.request_seconds:g} s; the server is overloaded"
        raise HTTPException(503, problem, {"retry-after": "1"}) from error
    finally:
        is_over = True
        gone.cancel()


def _hit(found: FoundPassage) -> dict[str, object]:
    hit = {"passage_id": found.hit.passage_id, "score": found.hit.score}
    return hit if found.passage is None else {**hit, "title": found.passage.title, "text": found.passage.text}


def _base64(vectors: Vectors) -> list[str]:
    return [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return error_response(request.url.path, error.status_code, error.detail, error.headers)


async def _fault(request: Request, error: Exception) -> Response:
    log.error("a request failed by our fault", problem=repr(error))
    return error_response(request.url.path, 500, "the server failed; see its log")
