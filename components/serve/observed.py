"""What holds for every request, whatever it asks: who may ask, how long it took, where it belongs in a trace.

Plain ASGI and no framework middleware: this runs for each request, and microseconds here are requests a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.serve.metrics import label_of
from components.serve.protocols.answers import error_response
from components.serve.protocols.operations import OPERATIONS
from components.serve.service import Service
from components.shared import log
from components.shared.tracing.context import Trace, trace_of
from components.shared.tracing.spans import RequestSpan

# What nobody needs a key for: probes and what they say, the page, the document. None of it reads the corpus.
OPEN = frozenset(("/", "/openapi.json", *(operation.path for operation in OPERATIONS if operation.is_open)))
_NOTHING = nullcontext()
_PROBES = OPEN - {"/", "/openapi.json", "/v2"}


class Observed:
    """Admits, counts, times and logs every request, and asks clients to reconnect elsewhere while draining."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 500
        headers = dict(scope["headers"])
        span = self._span(scope, headers)
        trace = span.trace if span else trace_of(headers.get(b"traceparent"))
        facts: dict[str, object] = {}
        scope["state"] = {**scope.get("state", {}), "facts": facts}

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._added_headers(headers, trace, start)]
            await send(message)

        self._service.metrics.request_started()
        try:
            app = self._refusal(scope, headers, facts) or self._app
            with span or _NOTHING:
                await app(scope, receive, observe)
        finally:
            seconds = time.monotonic() - start
            if span:
                span.end(status)
            self._service.metrics.request_finished(scope["path"], status, seconds)
            if self._service.config.access_log and not (scope["path"] in _PROBES and status == 200):
                _log_request(scope, status, seconds, trace)

    def _span(self, scope: Scope, headers: Mapping[bytes, bytes]) -> RequestSpan | None:
        """Probes would fill a collector with nothing."""
        tracer = self._service.tracer
        if tracer is None or scope["path"] in _PROBES:
            return None
        return tracer.request(scope["method"], label_of(scope["path"]), headers)

    def _refusal(self, scope: Scope, headers: Mapping[bytes, bytes], facts: dict[str, object]) -> Response | None:
        keys = self._service.keys
        if keys is None or scope["path"] in OPEN:
            return None
        name = keys.name_of(_key_of(headers))
        if name:
            facts["key_name"] = name
            return None
        return error_response(
            scope["path"], 401, "no valid API key; send it as Authorization: Bearer KEY", {"www-authenticate": "Bearer"}
        )

    def _added_headers(self, headers: Mapping[bytes, bytes], trace: Trace, start: float) -> list[tuple[bytes, bytes]]:
        added = [
            (b"traceparent", trace.traceparent),
            (b"server-timing", b"total;dur=%.2f" % ((time.monotonic() - start) * 1000)),
        ]
        if trace.parent_id and b"tracestate" in headers:
            added.append((b"tracestate", headers[b"tracestate"]))
        if self._service.draining:
            # A kept-alive connection that is idle when the listener closes would lose the client's next request.
            added.append((b"connection", b"close"))
        return added


def _key_of(headers: Mapping[bytes, bytes]) -> str:
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get(b"x-api-key", b"").decode("latin-1")


def _log_request(scope: Scope, status: int, seconds: float, trace: Trace) -> None:
    client = scope.get("client") or ("",)
    log.event(
        "request",
        method=scope["method"],
        path=scope["path"][:200],
        route=label_of(scope["path"]),
        status=status,
        milliseconds=round(seconds * 1000, 2),
        client=client[0],
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        **({"parent_id": trace.parent_id} if trace.parent_id else {}),
        **scope["state"]["facts"],
    )
