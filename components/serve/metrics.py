"""Prometheus metrics of the server; every series exists from the start, so that a rate never begins with a hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST
PATHS = (
    "/",
    "/search",
    "/search/batch",
    "/v1/embeddings",
    "/v1/models",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/{model}",
    "/v2/models/{model}/ready",
    "/v2/models/{model}/infer",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
)
_KNOWN = frozenset(PATHS)
_MODELS = "/v2/models/"
# What the server answers by itself; others appear when first counted.
_STATUSES = ("200", "400", "401", "404", "405", "408", "413", "429", "499", "500", "503")
_OTHER = "other"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)
_SHARES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)


class ServerMetrics:
    """One registry a server, so that several servers can live in one process."""

    def __init__(self) -> None:
        """Makes every metric and its label sets."""
        self._registry = registry = CollectorRegistry()
        self._series: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        ProcessCollector(registry=registry)
        self._requests = Counter("retriever_requests", "Requests answered.", ["path", "status"], registry=registry)
        self._request_seconds = Histogram(
            "retriever_request_seconds",
            "Time from the request to its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge("retriever_requests_in_flight", "Requests being answered.", registry=registry)
        self._ready = Gauge("retriever_ready", "1 where /readyz says yes.", registry=registry)
        self._queued_tokens = Gauge("retriever_queue_tokens", "Tokens waiting for a session.", registry=registry)
        self._queued_texts = Gauge("retriever_queue_texts", "Texts waiting for a session.", registry=registry)
        self._queue_seconds = Histogram(
            "retriever_queue_seconds", "Time a text waited for a session.", buckets=_SECONDS, registry=registry
        )
        self._encode_seconds = Histogram(
            "retriever_encode_seconds", "Time of one batch.", buckets=_SECONDS, registry=registry
        )
        self._search_seconds = Histogram(
            "retriever_search_seconds", "Time in the index, a request.", buckets=_SECONDS, registry=registry
        )
        self._batch_texts = Histogram("retriever_batch_texts", "Texts in a batch.", buckets=_TEXTS, registry=registry)
        self._batch_fill = Histogram(
            "retriever_batch_fill", "Share of a batch that is not padding.", buckets=_SHARES, registry=registry
        )
        self._reloads = Counter(
            "retriever_reloads", "Releases that were to replace the one before.", ["outcome"], registry=registry
        )
        self._version = Gauge("retriever_release", "1 for the release that is served.", ["version"], registry=registry)
        self._tokens = Counter("retriever_encoded_tokens", "Tokens encoded, padding left out.", registry=registry)
        for outcome in ("done", "refused"):
            self._reloads.labels(outcome)
        for path in (*PATHS, _OTHER):
            self._request_seconds.labels(path)
            for status in _STATUSES:
                self._requests.labels(path, status)

    def watch_queue(self, *, tokens: Callable[[], float], texts: Callable[[], float]) -> None:
        """Reads the queue's depth whenever the metrics are asked for."""
        self._queued_tokens.set_function(tokens)
        self._queued_texts.set_function(texts)

    def watch_ready(self, is_ready: Callable[[], bool]) -> None:
        """Reads the readiness whenever the metrics are asked for."""
        self._ready.set_function(is_ready)

    def request_started(self) -> None:
        """Counts a request as being answered."""
        self._in_flight.inc()

    def request_finished(self, path: str, status: int, seconds: float) -> None:
        """Counts an answer; unknown paths share one label, or a scanner could fill the memory with series."""
        self._in_flight.dec()
        count, timer = self._series_of(path, status)
        count.inc()
        timer.observe(seconds)

    def _series_of(self, path: str, status: int) -> tuple[Counter, Histogram]:
        # Kept, because looking a series up by its labels costs more than counting.
        label = label_of(path)
        key = (label, status)
        if key not in self._series:
            self._series[key] = self._requests.labels(label, str(status)), self._request_seconds.labels(label)
        return self._series[key]

    def count_batch(
        self, *, texts: int, tokens: int, padded_tokens: int, encode_seconds: float, queue_seconds: Sequence[float]
    ) -> None:
        """Counts an encoded batch."""
        self._batch_texts.observe(texts)
        self._batch_fill.observe(tokens / padded_tokens)
        self._encode_seconds.observe(encode_seconds)
        self._tokens.inc(tokens)
        for seconds in queue_seconds:
            self._queue_seconds.observe(seconds)

    def count_search(self, seconds: float) -> None:
        """Counts the index's share of a request."""
        self._search_seconds.observe(seconds)

    def reloads(self, outcome: str) -> None:
        """Counts a release that was to replace the one before: done or refused."""
        self._reloads.labels(outcome).inc()

    def set_version(self, version: str) -> None:
        """Names the release that is served."""
        self._version.clear()
        self._version.labels(version).set(1)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def label_of(path: str) -> str:
    """The path as a label: models have one, whatever they are called."""
    if path.startswith(_MODELS):
        _, slash, verb = path.removeprefix(_MODELS).partition("/")
        path = f"{_MODELS}{{model}}{slash}{verb}"
    return path if path in _KNOWN else _OTHER
