"""A cluster through kubectl, the one program that every user of a cluster has."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, TypeVar

Object = dict[str, Any]
Result = TypeVar("Result")

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Kube:
    """Commands in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def run(self, *arguments: str, given: str = "", seconds: float = 120) -> str:
        """Standard output of `kubectl --namespace NAMESPACE ARGUMENTS`; fails with what kubectl says."""
        done = self.attempt(*arguments, given=given, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def attempt(self, *arguments: str, given: str = "", seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """The same, whatever comes of it."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)

    def get(self, kind: str, name: str = "", *, selector: str = "") -> Object:
        """One object, or a list of those that the selector selects."""
        words = [kind, *([name] if name else []), *([f"--selector={selector}"] if selector else [])]
        return dict(json.loads(self.run("get", *words, "--output=json")))

    def items(self, kind: str, *, selector: str = "") -> list[Object]:
        return list(self.get(kind, selector=selector)["items"])

    def apply(self, *manifests: Object) -> None:
        self.run("apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def create(self, manifest: Object) -> str:
        """The name of what was created, which the cluster may have made up."""
        return str(
            json.loads(self.run("create", "--filename=-", "--output=json", given=json.dumps(manifest)))["metadata"][
                "name"
            ]
        )

    def secret(self, name: str, **values: str) -> None:
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})

    def logs(self, pod: str, container: str = "") -> str:
        return self.run("logs", pod, *([f"--container={container}"] if container else []))

    @contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[str]:
        """The address on this machine of a port of a pod, a Service's or a workload's."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", target, f":{port}"]
        # A file, because kubectl writes a line a connection, and a pipe that nobody empties would hold it up.
        with tempfile.TemporaryFile("w+") as said:
            forward = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, text=True)
            try:
                yield f"http://127.0.0.1:{until(30, f'port-forward {target}', lambda: _port(said), 0.2)}"
            finally:
                forward.terminate()
                forward.wait(10)


def _port(said: IO[str]) -> int | None:
    said.seek(0)
    match = _FORWARDING.search(said.read())
    return int(match[1]) if match else None


def until(seconds: float, what: str, look: Callable[[], Result | None], pause: float = 1.0) -> Result:
    """What `look` returns once that is true; fails after some seconds, saying what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(pause)


def is_true(thing: Object, condition: str) -> bool:
    """Whether an object's status has the condition, and it holds."""
    conditions = thing.get("status", {}).get("conditions", ())
    return any(one["type"] == condition and one["status"] == "True" for one in conditions)
