"""A real Prometheus Pushgateway on loopback, and what was pushed to it."""

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.core import Sample
from prometheus_client.parser import text_string_to_metric_families

from components.shared.telemetry import PREFIX
from tests.bucket import await_port, free_ports


@contextmanager
def pushgateway() -> Iterator[str]:
    """The address of an empty gateway."""
    program = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if program is None:
        pytest.skip("no Pushgateway; apt-get install prometheus-pushgateway")
    while True:
        (port,) = free_ports(1)
        # Debian's keeps what was pushed in a file of the system, which the next one would begin with.
        flags = [f"--web.listen-address=127.0.0.1:{port}", "--persistence.file="]
        server = subprocess.Popen([program, *flags], stderr=subprocess.DEVNULL)
        await_port(port, server)
        # Another test's may have taken the port in between, and answers there: then ours ends at once.
        time.sleep(0.3)
        if server.poll() is None:
            break
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def pushed_groups(url: str) -> dict[tuple[str, ...], dict[str, float]]:
    """Our metrics by the group that they were pushed to: component, pipeline, task."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.name.startswith(PREFIX):
            group = tuple(sample.labels.get(name, "") for name in ("component", "pipeline", "task"))
            groups.setdefault(group, {})[_short(sample)] = sample.value
    return groups


def _short(sample: Sample) -> str:
    """A result by its own name, all else without the prefix."""
    return sample.labels.get("name", sample.name.removeprefix(PREFIX))
