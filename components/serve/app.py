"""The HTTP face of a Service: every operation of the table, the page, and the document, as one ASGI application.

Every request is answered 200, 4xx, 503, or 500 with its reason, from one release; its version is in the header
`retriever-version`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from components.serve import page
from components.serve.metrics import CONTENT_TYPE
from components.serve.observed import Observed
from components.serve.process.siblings import Siblings
from components.serve.protocols.answers import HealthAnswer, JSONResponse, ReadinessAnswer, error_response
from components.serve.protocols.inference import InferenceProtocol
from components.serve.protocols.openai import OpenAIProtocol
from components.serve.protocols.openapi import document
from components.serve.protocols.operations import OPERATIONS
from components.serve.protocols.search import SearchProtocol
from components.serve.service import Service
from components.shared import log

Answer = Callable[[Request], Awaitable[Response]]


def create_app(service: Service, siblings: Siblings | None = None) -> ASGIApp:
    """The ASGI application of a service; its lifespan starts and stops the service."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await service.start()
        yield
        service.stop()

    answers = _answers(service, siblings)
    starlette = Starlette(
        routes=[
            *(
                Route(operation.path, answers[operation.name.removesuffix("OfVersion")], methods=[operation.method])
                for operation in OPERATIONS
            ),
            Route("/openapi.json", _always(JSONResponse(document(service.config, service.limits)))),
            Route("/", _always(page.response())),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refusal, Exception: _fault},
    )
    return _with_origins(Observed(starlette, service), service.config.allowed_origins)


def _with_origins(app: ASGIApp, allowed_origins: str) -> ASGIApp:
    origins = [origin.strip() for origin in allowed_origins.split(",") if origin.strip()]
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", "x-api-key", "traceparent", "tracestate"],
        expose_headers=["retriever-version", "retriever-truncated-texts", "traceparent"],
    )


def _answers(service: Service, siblings: Siblings | None) -> Mapping[str, Answer]:
    """Who answers each operation, by its name in the table."""
    own, openai, inference = SearchProtocol(service), OpenAIProtocol(service), InferenceProtocol(service)

    async def healthz(_: Request) -> Response:
        problem = service.not_alive()
        answer: HealthAnswer = {"alive": not problem, "problem": problem}
        return JSONResponse(answer, 503 if problem else 200)

    async def readyz(_: Request) -> Response:
        problem, release = service.not_ready(), service.release
        fusion = release.ranker.fusion
        answer: ReadinessAnswer = {
            "ready": not problem,
            "problem": problem,
            "version": release.version,
            "encoder": release.encoder.digest,
            "passages": release.index.num_passages,
            "dimension": release.encoder.dimension,
            "modes": list(release.ranker.modes),
            "default_mode": release.ranker.default_mode,
            "fusion": {
                "method": fusion.method,
                "weight": fusion.weight,
                "depth": fusion.depth,
                "reason": fusion.reason,
            },
            "synthetic": release.is_synthetic,
        }
        return JSONResponse(answer, 503 if problem else 200)

    async def metrics(_: Request) -> Response:
        content = await siblings.exposition() if siblings else service.metrics.exposition()
        return Response(content, media_type=CONTENT_TYPE)

    return {
        "search": own.search,
        "searchBatch": own.search_batch,
        "embeddings": openai.embeddings,
        "models": openai.models,
        "model": openai.model,
        "infer": inference.infer,
        "serverMetadata": inference.server_metadata,
        "live": inference.live,
        "ready": inference.ready,
        "modelMetadata": inference.model_metadata,
        "modelReady": inference.model_ready,
        "modelConfig": inference.model_config,
        "healthz": healthz,
        "readyz": readyz,
        "metrics": metrics,
    }


def _always(response: Response) -> Answer:
    async def call(_: Request) -> Response:
        return response

    return call


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 500:  # 503 says that there is too much to do, and a line for each would be more
        log.error("a request was not answered", path=request.url.path[:200], problem=error.detail)
    return error_response(request.url.path, error.status_code, error.detail, error.headers)


async def _fault(request: Request, error: Exception) -> Response:
    log.error("a request failed by our fault", problem=repr(error))
    return error_response(request.url.path, 500, "the server failed; see its log")
