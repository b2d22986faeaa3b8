"""A real Prometheus on loopback that scrapes what a test runs, and the questions it is asked."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.bucket import await_port, free_ports

_SCRAPE = "100ms"


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def series(self, query: str, *, start: float) -> list[dict[str, Any]]:
        """What a panel would draw from a time until now, ten times a second."""
        span = {"start": start, "end": time.time(), "step": 0.1}
        return self._asked("query_range", query=query, **span)["result"]  # type: ignore[no-any-return]

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        alerts = self._asked("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _asked(self, path: str, **parameters: object) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters).json()  # type: ignore[arg-type]
        assert answer["status"] == "success", answer
        return answer["data"]


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int], *, rules: Path | None = None) -> Iterator[Prometheus]:
    """Scrapes ports of this machine by the name of their job ten times a second; skips where it is not installed."""
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("no Prometheus; apt-get install prometheus")
    config = {
        "global": {"scrape_interval": _SCRAPE, "scrape_timeout": _SCRAPE, "evaluation_interval": _SCRAPE},
        "rule_files": [str(rules)] if rules else [],
        "scrape_configs": [
            {"job_name": name, "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for name, port in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    places = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command = [program, *places, f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        await_port(port, server)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()


def await_true(is_so: Callable[[], bool], *, seconds: float = 30.0) -> bool:
    """Whether it becomes so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
