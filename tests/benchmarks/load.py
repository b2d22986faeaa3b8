"""A light load generator in a process of its own: raw sockets, requests made beforehand, latencies by status.

Run: python -m tests.benchmarks.load < plan.json. The plan: {"url", "path", "bodies": [...], "clients", "seconds",
"rate"}; with a rate requests are sent at their time whether or not earlier ones were answered, as independent users do;
without one each client sends its next request when it has its answer. An HTTP library would cost as much CPU as the
server it measures.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """One connection that sends one request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = bytearray()
        self._started = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._load.free(self)

    def send(self, request: bytes, started: float) -> None:
        self._started = started
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self._received) < end + 4 + length:
            return
        self._received.clear()
        self._load.answered(int(head[9:12]), time.perf_counter() - self._started)
        self._started = 0.0
        self._load.free(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._load.lost(self, in_flight=bool(self._started))


class Load:
    """Requests and what became of them."""

    def __init__(self, plan: dict[str, object]) -> None:
        self._plan = plan
        address = urlsplit(str(plan["url"]))
        self.host, self.port = address.hostname, address.port
        bodies = plan["bodies"]
        assert isinstance(bodies, list)
        self._requests: Iterator[bytes] = itertools.cycle([self._request(json.dumps(body).encode()) for body in bodies])
        self._rate = float(str(plan.get("rate", 0)))
        self._idle: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self.latencies: dict[int, list[float]] = {}
        self.failed = 0
        self._ends = float("inf")

    def _request(self, body: bytes) -> bytes:
        path, host = self._plan["path"], f"{self.host}:{self.port}"
        head = (
            f"POST {path} HTTP/1.1",
            f"host: {host}",
            "content-type: application/json",
            f"content-length: {len(body)}",
        )
        return "\r\n".join((*head, "", "")).encode() + body

    def free(self, connection: Connection) -> None:
        now = time.perf_counter()
        if self._rate:
            if self._waiting:
                connection.send(next(self._requests), self._waiting.popleft())
            else:
                self._idle.append(connection)
        elif now < self._ends:
            connection.send(next(self._requests), now)

    def arrive(self) -> None:
        now = time.perf_counter()
        if self._idle:
            self._idle.pop().send(next(self._requests), now)
        else:
            self._waiting.append(now)

    def answered(self, status: int, seconds: float) -> None:
        self.latencies.setdefault(status, []).append(seconds)

    def lost(self, connection: Connection, *, in_flight: bool) -> None:
        self.failed += in_flight
        if connection in self._idle:
            self._idle.remove(connection)

    async def run(self) -> dict[str, object]:
        loop = asyncio.get_running_loop()
        seconds, num_clients = float(str(self._plan["seconds"])), int(str(self._plan["clients"]))
        start = time.perf_counter()
        self._ends = start + seconds
        await asyncio.gather(
            *(loop.create_connection(lambda: Connection(self), self.host, self.port) for _ in range(num_clients))
        )
        if self._rate:
            for number in range(int(seconds * self._rate)):
                await asyncio.sleep(max(0.0, start + number / self._rate - time.perf_counter()))
                self.arrive()
        await asyncio.sleep(max(0.0, self._ends - time.perf_counter()))
        taken = time.perf_counter() - start
        counted = {status: len(seconds_each) for status, seconds_each in self.latencies.items()}
        # What is in flight at the end is waited for, so that nothing unanswered goes unnoticed, but not counted in the
        # rate.
        await asyncio.sleep(float(str(self._plan.get("settle_seconds", 1.0))))
        return {
            "seconds": taken,
            "counted": counted,
            "latencies": self.latencies,
            "failed": self.failed,
            "unsent": len(self._waiting),
            "cpu_seconds": time.process_time(),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Load(json.load(sys.stdin)).run())))
