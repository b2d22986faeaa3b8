"""Prometheus metrics of a job: a /metrics endpoint while it runs, a push when it ends, JSON lines that survive kill -9.

`METRICS_PORT` starts the endpoint, `PUSHGATEWAY_URL` turns the push on; a failed push is logged and never fails a job.
`RETRIEVER_PIPELINE` and `RETRIEVER_TASK` say whose job it is, where several pipelines or several tasks of one component
push to the same gateway. Only gauges: a batch job has no rate that a scrape could see, and a pushed counter would
restart with each run. GAUGES declares them all; k8s/monitoring.md is made of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import ClassVar
from wsgiref.simple_server import WSGIServer

import orjson
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, Metric, pushadd_to_gateway, start_http_server
from prometheus_client.registry import Collector

from components.shared import log

PREFIX = "retriever_job_"
PORT_VARIABLE, GATEWAY_VARIABLE = "METRICS_PORT", "PUSHGATEWAY_URL"
_PUSH_SECONDS = 5.0


@dataclass(frozen=True)
class Declared:
    """What a gauge means, its unit, the names of its labels, and whether it ends with the job that it tells of."""

    meaning: str
    unit: str
    labels: tuple[str, ...] = ()
    is_live: bool = False


# Each is made when it is first set: a gauge registered at 0 would be pushed, and erase the last success.
GAUGES: Mapping[str, Declared] = {
    "last_duration_seconds": Declared("Time the last attempt took.", "seconds"),
    "last_success": Declared("1 where the last attempt succeeded, 0 where it failed.", "0 or 1"),
    "last_success_timestamp_seconds": Declared("Time of the last success.", "Unix seconds"),
    "last_failure_timestamp_seconds": Declared("Time of the last failure.", "Unix seconds"),
    "result": Declared("A number of the manifest of what the job made.", "in its name", ("name",)),
    "progress_units": Declared("Work that is done.", "in its label", ("activity", "unit"), is_live=True),
    "progress_planned_units": Declared("Work that there is.", "in its label", ("activity", "unit"), is_live=True),
    "progress_timestamp_seconds": Declared("Time when work was last done.", "Unix seconds", is_live=True),
    "llm_calls": Declared(
        "Calls of an LLM in this attempt: made, from the journal (answered before), refused.",
        "calls",
        ("source",),
        is_live=True,
    ),
    "train_step": Declared("Optimiser updates so far.", "steps"),
    "train_loss": Declared("Loss of the last step.", "nats"),
    "train_learning_rate": Declared("Learning rate of the last step.", "ratio"),
    "train_gradient_norm": Declared("Norm of the last step's gradient, before it was clipped.", "ratio"),
    "train_dev_ndcg_10": Declared("nDCG@10 on the dev queries when it was last measured.", "0 to 1"),
    "train_positives_per_query": Declared("Mean number of positives of a query in the last batch.", "passages"),
    "train_masked_pairs": Declared("Pairs of the last batch left out as likely false negatives.", "pairs"),
    "train_masked_share": Declared("Share of the last batch's pairs that was left out.", "0 to 1"),
    "train_tokens_per_second": Declared("Tokens that the last step read a second.", "tokens per second"),
    "train_peak_memory_bytes": Declared("Most memory held at once, of the GPU where there is one.", "bytes"),
}


class JobTelemetry:
    """The metrics of one job; names are prefixed `retriever_job_`, and GAUGES declares them all."""

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
        # What outlives the job in the gateway, and what does not.
        self._pushed, self._live = CollectorRegistry(), CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._start = time.monotonic()
        self._server: WSGIServer | None = None
        if port := os.environ.get(PORT_VARIABLE):
            self._serve(int(port))
        JobTelemetry._running = self
        log.listen(self._progress)

    def __enter__(self) -> JobTelemetry:
        return self

    def __exit__(self, *_: object) -> None:
        """A job that leaves without a word (an exception, SIGTERM) has failed, and says so."""
        if not self._is_finished:
            self.finish(succeeded=False, metrics={})
        self.close()

    @classmethod
    def show(cls, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge of the job that this process runs; does nothing where there is none (a script, a notebook)."""
        if cls._running is not None:
            cls._running.set(name, value, **labels)

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Sets one of GAUGES."""
        declared = GAUGES[name]
        if name not in self._gauges:
            registry = self._live if declared.is_live else self._pushed
            self._gauges[name] = Gauge(f"{PREFIX}{name}", declared.meaning, declared.labels, registry=registry)
        gauge = self._gauges[name]
        (gauge.labels(**labels) if declared.labels else gauge).set(value)

    def finish(self, *, succeeded: bool, metrics: dict[str, float]) -> None:
        """Sets the outcome and pushes everything to the gateway, where one is named.

        What is not set is not pushed either, so the time of the last success outlives a failure, and the other way.
        """
        self._is_finished = True
        for name, value in metrics.items():
            self.set("result", value, name=name)
        self.set("last_duration_seconds", time.monotonic() - self._start)
        self.set("last_success", float(succeeded))
        kind = "success" if succeeded else "failure"
        self.set(f"last_{kind}_timestamp_seconds", time.time())
        self._push()

    def close(self) -> None:
        """Ends the endpoint, where there is one; values shown later go nowhere."""
        if JobTelemetry._running is self:
            JobTelemetry._running = None
            log.listen(None)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _progress(self, activity: str, unit: str, done: int, planned: int | None) -> None:
        self.set("progress_units", done, activity=activity, unit=unit)
        if planned is not None:
            self.set("progress_planned_units", planned, activity=activity, unit=unit)
        self.set("progress_timestamp_seconds", time.time())

    def _serve(self, port: int) -> None:
        scraped = CollectorRegistry()
        # The last one is that of the process and of libraries: vLLM's own metrics are there.
        scraped.register(_Several(self._pushed, self._live, REGISTRY))
        try:
            self._server, _ = start_http_server(port, registry=scraped)
        except OSError as error:
            log.warning("metrics are not served", port=port, problem=str(error))

    def _push(self) -> None:
        url = os.environ.get(GATEWAY_VARIABLE)
        if not url or self._is_shard:
            return
        try:
            pushadd_to_gateway(
                url, job="retriever", registry=self._pushed, grouping_key=self._grouping, timeout=_PUSH_SECONDS
            )
        except (OSError, HTTPException, ValueError) as error:  # no route, no HTTP, no URL
            log.warning("metrics were not pushed", gateway=url, problem=str(error))


class _Several(Collector):
    """Several registries in one exposition."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        self._registries = registries

    def describe(self) -> list[Metric]:
        # Without it they would be collected once to learn the names.
        return []

    def collect(self) -> Iterator[Metric]:
        for registry in self._registries:
            yield from registry.collect()


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
