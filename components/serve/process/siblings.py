"""One answer to /metrics for all worker processes: each sample carries the label `worker`.

A scrape reaches any of the workers. That one asks the others over a socket in the supervisor's folder and merges what
they say, so gauges stay gauges, and a counter that restarts with its worker restarts under its own label, as Prometheus
expects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# A worker that does not answer within this time is reported as down, not waited for.
_ANSWER_SECONDS = 1.0


class Siblings:
    """The workers of one supervisor, seen from one of them."""

    def __init__(self, folder: Path, number: int, num_workers: int, exposition: Callable[[], bytes]) -> None:
        """`exposition` gives this worker's own metrics."""
        self._folder, self._number, self._num_workers, self._exposition = folder, number, num_workers, exposition

    async def listen(self) -> asyncio.Server:
        """Answers the other workers."""
        path = self._path(self._number)
        path.unlink(missing_ok=True)  # of a predecessor that died

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(self._exposition())
            await writer.drain()
            writer.close()

        return await asyncio.start_unix_server(answer, path)

    async def exposition(self) -> bytes:
        """All workers' metrics in Prometheus' text format."""
        texts = await asyncio.gather(*(self._text_of(number) for number in range(self._num_workers)))
        return merged({str(number): text for number, text in enumerate(texts)})

    async def _text_of(self, number: int) -> str:
        if number == self._number:
            return self._exposition().decode()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._path(number))
                content = await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            return ""
        return content.decode()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"


def merged(texts: dict[str, str]) -> bytes:
    """One exposition from those of several workers; an empty one is a worker that is down."""
    registry = CollectorRegistry()
    registry.register(_Merged(texts))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts

    def describe(self) -> Iterable[Metric]:
        # Without it the registry would collect once to learn the names.
        return []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for worker, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                merged_family = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                merged_family.samples += [
                    sample._replace(labels={**sample.labels, "worker": worker}) for sample in family.samples
                ]
        yield from families.values()
        up = GaugeMetricFamily("retriever_worker_up", "1 where the worker answers.", labels=["worker"])
        for worker, text in self._texts.items():
            up.add_metric([worker], float(bool(text)))
        yield up
