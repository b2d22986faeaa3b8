"""Prometheus metrics of a job: a /metrics endpoint while it runs, a push when it ends, JSON lines that survive kill -9.

`METRICS_PORT` starts the endpoint, `PUSHGATEWAY_URL` turns the push on; a failed push is logged and never fails a job.
`RETRIEVER_PIPELINE` and `RETRIEVER_TASK` say whose job it is, where several pipelines or several tasks of one component
push to the same gateway. Only gauges: a batch job has no rate that a scrape could see, and a pushed counter would
restart with each run.
"""

from __future__ import annotations

import os
import re
import time
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from wsgiref.simple_server import WSGIServer

import orjson
from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, start_http_server

from components.shared import log

_PUSH_SECONDS = 5.0
_FOREIGN = re.compile(r"[^a-zA-Z0-9_]")


class JobTelemetry:
    """The metrics of one job; names are prefixed `retriever_`, units are suffixes."""

    _running: ClassVar[JobTelemetry | None] = None

    def __init__(self, component: str, *, is_shard: bool = False) -> None:
        """Starts the endpoint, where a port is named.

        Args:
            component: The component whose job it is.
            is_shard: One of several that do the same task side by side; it pushes nothing, because shards share a
                group in the gateway and the last one would speak for all.
        """
        self._grouping = {"pipeline": os.environ.get("RETRIEVER_PIPELINE", "retriever"), "component": component}
        if task := os.environ.get("RETRIEVER_TASK"):
            self._grouping["task"] = task
        self._is_shard = is_shard
        self._is_finished = False
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._start = time.monotonic()
        self._server: WSGIServer | None = None
        if port := os.environ.get("METRICS_PORT"):
            self._serve(int(port))
        JobTelemetry._running = self

    def __enter__(self) -> JobTelemetry:
        return self

    def __exit__(self, *_: object) -> None:
        """A job that leaves without a word (an exception, SIGTERM) has failed, and says so."""
        if not self._is_finished:
            self.finish(succeeded=False, metrics={})
        self.close()

    @classmethod
    def show(cls, **values: float | int) -> None:
        """Sets gauges of the job that this process runs; does nothing where there is none (a script, a notebook)."""
        if cls._running is not None:
            for name, value in values.items():
                cls._running.set(name, float(value))

    def set(self, name: str, value: float) -> None:
        """Sets a gauge, made when first set."""
        self._gauge(name, f"{name.replace('_', ' ')} of the job").set(value)

    def finish(self, *, succeeded: bool, metrics: dict[str, float]) -> None:
        """Sets the outcome and pushes everything to the gateway, where one is named.

        What is not set is not pushed either, so the time of the last success outlives a failure, and the other way.
        """
        self._is_finished = True
        for name, value in metrics.items():
            self.set(name, value)
        self._outcome("last_duration_seconds", time.monotonic() - self._start)
        self._outcome("last_success", float(succeeded))
        kind = "success" if succeeded else "failure"
        self._outcome(f"last_{kind}_timestamp_seconds", time.time())
        self._push()

    def close(self) -> None:
        """Ends the endpoint, where there is one; values shown later go nowhere."""
        if JobTelemetry._running is self:
            JobTelemetry._running = None
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _serve(self, port: int) -> None:
        try:
            self._server, _ = start_http_server(port, registry=self._registry)
        except OSError as error:
            log.warning("metrics are not served", port=port, problem=str(error))

    def _push(self) -> None:
        url = os.environ.get("PUSHGATEWAY_URL")
        if not url or self._is_shard:
            return
        try:
            pushadd_to_gateway(
                url, job="retriever", registry=self._registry, grouping_key=self._grouping, timeout=_PUSH_SECONDS
            )
        except (OSError, HTTPException, ValueError) as error:  # no route, no HTTP, no URL
            log.warning("metrics were not pushed", gateway=url, problem=str(error))

    def _outcome(self, name: str, value: float) -> None:
        self._gauge(name, _OUTCOMES[name]).set(value)

    def _gauge(self, name: str, text: str) -> Gauge:
        # nDCG@10 is a fine name for a measure; PromQL and the text format of older scrapers want letters, digits and _.
        name = _FOREIGN.sub("_", name)
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"retriever_{name}", text, registry=self._registry)
        return self._gauges[name]


_OUTCOMES = {
    "last_duration_seconds": "Seconds the last attempt took.",
    "last_success": "1 where the last attempt succeeded.",
    "last_success_timestamp_seconds": "Unix time of the last success.",
    "last_failure_timestamp_seconds": "Unix time of the last failure.",
}


class MetricLines:
    """Metrics over time as JSON lines, one write a line, so that a kill loses at most the line being written."""

    def __init__(self, path: Path) -> None:
        """Opens the file for appending."""
        self._file = path.open("ab", buffering=0)

    def write(self, **values: object) -> None:
        """Appends one line."""
        self._file.write(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
