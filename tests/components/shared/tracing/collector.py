"""A collector on loopback: what OTLP/HTTP posts to it, decoded by the protocol's own messages."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


@dataclass(frozen=True)
class Seen:
    """A span as the collector got it."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    failed: bool
    nanoseconds: int
    attributes: dict[str, str | int | float | bool]


@dataclass
class Collector:
    """Where spans go."""

    url: str
    spans: list[Seen] = field(default_factory=list)

    def named(self, name: str) -> Seen:
        (only,) = [span for span in self.spans if span.name == name]
        return only

    def names(self) -> list[str]:
        return sorted(span.name for span in self.spans)


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector that keeps what it gets."""

    class Take(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            assert self.path == "/v1/traces"
            kept.spans.extend(_decoded(ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    kept = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _decoded(request: ExportTraceServiceRequest) -> Iterator[Seen]:
    for of_resource in request.resource_spans:
        resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
        for span in (span for scope in of_resource.scope_spans for span in scope.spans):
            yield Seen(
                service=resource["service.name"],
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                failed=span.status.code == Status.STATUS_CODE_ERROR,
                nanoseconds=span.end_time_unix_nano - span.start_time_unix_nano,
                attributes={
                    pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
                    for pair in span.attributes
                },
            )
