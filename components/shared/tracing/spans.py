"""OpenTelemetry spans of a request, a run and a job, sent over OTLP/HTTP where OTEL_EXPORTER_OTLP_ENDPOINT names one.

Without that variable nothing of OpenTelemetry is imported, and a span is one comparison. Its other variables
(OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and so on) mean what they mean everywhere. A
collector that is away costs spans, lines in the log and three seconds at the end, never a request or a job.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from components.shared import log
from components.shared.tracing.context import Trace, trace_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

Attribute = str | int | float | bool
ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_DISABLED_VARIABLE = "OTEL_SDK_DISABLED"
# On a cluster: what all pods of a run know, and of what the ids of their trace are made where nobody gives a parent.
RUN_VARIABLE = "RETRIEVER_RUN_ID"
# OTEL_EXPORTER_OTLP_TIMEOUT gives another: a collector that does not answer must not keep a job that is over for long.
_EXPORT_SECONDS = 3.0
_PROPAGATED = ("traceparent", "tracestate")
_NOTHING: AbstractContextManager[None] = nullcontext()


class Tracer:
    """The spans of this process; one at a time."""

    _running: ClassVar[Tracer | None] = None

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        """Sends spans to an exporter, in batches and from a thread of its own.

        Args:
            service: Its name where OTEL_SERVICE_NAME gives no other.
            exporter: Such as that for OTLP over HTTP.
        """
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = os.environ.get("OTEL_SERVICE_NAME") or service
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("retriever")
        Tracer._running = self

    @classmethod
    def open(cls, service: str) -> Tracer | None:
        """The tracer of this process where a collector is named; says so once where the extra is missing."""
        if not (endpoint := _endpoint()):
            return None
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            remedy = "pip install 'retriever-pipeline[traces]', or leave OTEL_EXPORTER_OTLP_ENDPOINT out"
            log.warning("no traces are sent", endpoint=endpoint, problem=str(error), remedy=remedy)
            return None
        _say_problems()
        has_timeout = any(name.endswith("_TIMEOUT") for name in os.environ if name.startswith("OTEL_EXPORTER_OTLP_"))
        return cls(service, OTLPSpanExporter(timeout=None if has_timeout else _EXPORT_SECONDS))

    def close(self) -> None:
        """Sends what is left."""
        if Tracer._running is self:
            Tracer._running = None
        self._provider.shutdown()

    def request(self, method: str, route: str, headers: Mapping[bytes, bytes]) -> RequestSpan:
        """The span of a request, child of the caller's where it sent one."""
        from opentelemetry.trace import SpanKind

        carrier = {name: headers[name.encode()].decode("latin-1") for name in _PROPAGATED if name.encode() in headers}
        parent = _context_of(carrier)
        # Names and attributes of OpenTelemetry's semantic conventions for HTTP servers.
        attributes = {"http.request.method": method, "http.route": route}
        span = self._tracer.start_span(f"{method} {route}", parent, SpanKind.SERVER, attributes)
        # A span that is not sampled forgets its parent.
        return RequestSpan(span, trace_of(headers.get(b"traceparent")).parent_id)

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, Attribute], environment: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """A span around a block: child of the current one, or of what an environment names; fails with the block."""
        parent = None if environment is None else _context_of(_carrier(environment))
        with self._tracer.start_as_current_span(name, parent, attributes=dict(attributes)):
            yield


class RequestSpan:
    """A request being answered; inside of its `with` block other spans are its children.

    Attributes:
        trace: Its place in the trace, for the answer's header and the log.
    """

    def __init__(self, span: Span, parent_id: str) -> None:
        """Takes the span that has begun, and the caller's, where it sent one."""
        self._span = span
        self._use: AbstractContextManager[object] = _NOTHING
        context = span.get_span_context()
        ids = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        self.trace = Trace(*ids, parent_id, f"{context.trace_flags:02x}")

    def __enter__(self) -> None:
        from opentelemetry.trace import use_span

        self._use = use_span(self._span, end_on_exit=False)
        self._use.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._use.__exit__(kind, error, traceback)

    def end(self, status: int) -> None:
        """Ends it with the status of the answer; from 500 on it is an error of the server."""
        from opentelemetry.trace import StatusCode

        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def span(name: str, **attributes: Attribute) -> AbstractContextManager[None]:
    """A span around a block, child of the current one; nothing where there is none, as where a server warms up."""
    tracer = Tracer._running
    if tracer is None:
        return _NOTHING
    from opentelemetry.trace import INVALID_SPAN, get_current_span

    return tracer.span(name, attributes) if get_current_span() is not INVALID_SPAN else _NOTHING


def note(**attributes: Attribute) -> None:
    """Adds facts to the current span; nothing where this process traces nothing."""
    if Tracer._running is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().set_attributes(attributes)


def fail() -> None:
    """Marks the current span as failed; nothing where this process traces nothing."""
    if Tracer._running is not None:
        from opentelemetry.trace import StatusCode, get_current_span

        get_current_span().set_status(StatusCode.ERROR)


def parent_variables() -> dict[str, str]:
    """What the environment of another process needs for its spans to be children of the current one."""
    if Tracer._running is None:
        # Where something is missing it has been said here, and not by every process again.
        return {_DISABLED_VARIABLE: "true"} if _endpoint() else {}
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = dict[str, str]()
    TraceContextTextMapPropagator().inject(carrier)
    return {name.upper(): value for name, value in carrier.items()}


@contextmanager
def process_span(service: str, name: str, **attributes: Attribute) -> Iterator[None]:
    """Traces a process from here to its end: a span that is a child of what TRACEPARENT names."""
    tracer = Tracer.open(service) if Tracer._running is None else None
    if tracer is None:
        with span(name, **attributes):
            yield
        return
    try:
        with tracer.span(name, attributes, os.environ):
            yield
    finally:
        tracer.close()


def _endpoint() -> str:
    """Of the collector; empty where none is named, or OpenTelemetry is switched off."""
    if os.environ.get(_DISABLED_VARIABLE, "").lower() == "true":
        return ""
    return next((value for name in ENDPOINT_VARIABLES if (value := os.environ.get(name))), "")


def _carrier(environment: Mapping[str, str]) -> dict[str, str]:
    given = {name: environment[name.upper()] for name in _PROPAGATED if environment.get(name.upper())}
    if "traceparent" not in given and (run_id := environment.get(RUN_VARIABLE)):
        # All pods of a run come to the same ids without a word between them.
        digest = hashlib.sha256(run_id.encode()).hexdigest()
        return {"traceparent": f"00-{digest[:32]}-{digest[32:48]}-01"}
    return given


def _context_of(carrier: Mapping[str, str]) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # An empty context and not the current one: without a parent a trace begins here.
    return TraceContextTextMapPropagator().extract(carrier, Context())


class _LogLines(logging.Handler):
    """What OpenTelemetry complains of, as lines like ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning("traces: " + record.getMessage().partition("\n")[0], logger=record.name)


def _say_problems() -> None:
    logger = logging.getLogger("opentelemetry")
    if not logger.handlers:
        logger.addHandler(_LogLines(logging.WARNING))
        logger.propagate = False
