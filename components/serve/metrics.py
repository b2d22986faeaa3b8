"""Prometheus metrics of the server; every series exists from the start, so that a rate never begins with a hole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from components.serve.protocols.bodies import InputType
from components.serve.protocols.operations import OPERATIONS
from components.shared.fusion.tuned import MODES, Mode

CONTENT_TYPE = CONTENT_TYPE_LATEST
PATHS = ("/", "/openapi.json", *(operation.path for operation in OPERATIONS))
_KNOWN = frozenset(PATHS)
_INPUT_TYPES: tuple[InputType, ...] = ("query", "passage")
# What the server answers by itself; others appear when first counted.
_STATUSES = ("200", "400", "401", "404", "405", "408", "413", "415", "429", "499", "500", "503")
_OTHER = "other"
Familiarity = Literal["seen", "unseen", "undecided"]
_FAMILIARITIES: tuple[Familiarity, ...] = ("seen", "unseen", "undecided")
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
            "retriever_search_seconds", "Time in the indexes, a request.", buckets=_SECONDS, registry=registry
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
        self._texts = Counter(
            "retriever_texts", "Texts that clients sent to be encoded.", ["input_type"], registry=registry
        )
        self._truncated = Counter(
            "retriever_texts_truncated",
            "Texts that were longer than the encoder takes and were cut, as the client asked.",
            ["input_type"],
            registry=registry,
        )
        self._not_finite = Counter(
            "retriever_not_finite",
            "Vectors and scores with numbers that are not finite; their requests are answered 500.",
            registry=registry,
        )
        self._searches = Counter("retriever_searches", "Queries searched, by mode.", ["mode"], registry=registry)
        self._begin_series()
        self._watched = _WatchedQueries()
        self._is_shown = {"scores": False, "languages": False}

    def _begin_series(self) -> None:
        for mode in MODES:
            self._searches.labels(mode)
        for outcome in ("done", "refused"):
            self._reloads.labels(outcome)
        for input_type in _INPUT_TYPES:
            self._texts.labels(input_type)
            self._truncated.labels(input_type)
        for path in (*PATHS, _OTHER):
            self._request_seconds.labels(path)
            for status in _STATUSES:
                self._requests.labels(path, status)

    def show_watched(self, *, scores: bool, languages: bool) -> None:
        """Shows what can be counted of the release's queries: an absent metric is not known, and no 0."""
        for name, is_wanted in (("scores", scores), ("languages", languages)):
            for counter in getattr(self._watched, name) if is_wanted != self._is_shown[name] else ():
                (self._registry.register if is_wanted else self._registry.unregister)(counter)
            self._is_shown[name] = is_wanted

    def count_judged(self, *, queries: int, without_good_hit: int) -> None:
        """Counts queries whose best score was compared with those of the release's own queries."""
        judged, without = self._watched.scores
        judged.inc(queries)
        without.inc(without_good_hit)

    def count_language(self, familiarity: Familiarity) -> None:
        """Counts a query by whether its language is one of the release's."""
        self._watched.languages[0].labels(familiarity).inc()

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

    def count_texts(self, input_type: InputType, *, texts: int, truncated: int) -> None:
        """Counts the texts of a request, and those of them that were cut."""
        self._texts.labels(input_type).inc(texts)
        if truncated:
            self._truncated.labels(input_type).inc(truncated)

    def count_not_finite(self, number: int) -> None:
        """Counts vectors or scores that are no answer because they are not finite."""
        self._not_finite.inc(number)

    def count_search(self, mode: Mode, *, queries: int, seconds: float) -> None:
        """Counts the queries of a request by their mode, and the indexes' share of its time."""
        self._searches.labels(mode).inc(queries)
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


class _WatchedQueries:
    """Counters that are shown only where the release says what to compare with."""

    def __init__(self) -> None:
        judged = Counter(
            "retriever_queries_judged",
            "Queries searched by vectors among all passages, whose best score is compared with the release's own.",
            registry=None,
        )
        without_good_hit = Counter(
            "retriever_queries_without_good_hit",
            "Those of them whose best score is below that of 19 in 20 of the release's dev and test queries.",
            registry=None,
        )
        languages = Counter(
            "retriever_query_languages",
            "Queries by whether their language is one of the release's passages and queries.",
            ["language"],
            registry=None,
        )
        for familiarity in _FAMILIARITIES:
            languages.labels(familiarity)
        self.scores, self.languages = (judged, without_good_hit), (languages,)


def label_of(path: str) -> str:
    """The path as a label: all models and all versions have one, whatever they are called."""
    if path in _KNOWN:
        return path
    parts = path.split("/")
    if len(parts) > 3 and parts[2] == "models":
        parts[3] = "{model}"
    if len(parts) > 5 and parts[4] == "versions":
        parts[5] = "{version}"
    label = "/".join(parts)
    return label if label in _KNOWN else _OTHER
