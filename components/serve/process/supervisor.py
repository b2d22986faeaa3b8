"""Several server processes on one socket: started, watched, replaced, ended together.

The supervisor binds the socket and imports nothing heavy. Each worker opens the same memory-mapped index, whose pages
the kernel keeps once. A worker that is well says so once a second; one that died or fell silent is replaced. Workers
are started, not forked: FAISS hangs after a fork.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from components.serve.config import ServeConfig
from components.shared import log
from components.shared.launch import EXIT_BAD_DATA, EXIT_OK, EXIT_USAGE

# Set for a worker: "number,descriptor of the socket,descriptor to say that all is well,folder of the workers' sockets".
WORKER_VARIABLE = "RETRIEVER_WORKER"
BEAT_SECONDS = 1.0
# Opening and checking a large index takes minutes; a worker that once was well is silent for much less.
_START_SECONDS = 900.0
_LOOK_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class WorkerSeat:
    """What a worker gets from its supervisor."""

    number: int
    socket_fd: int
    beat_fd: int
    folder: Path

    @classmethod
    def from_environment(cls) -> WorkerSeat | None:
        """The seat of this process; None where it has no supervisor."""
        value = os.environ.get(WORKER_VARIABLE)
        if not value:
            return None
        number, socket_fd, beat_fd, folder = value.split(",", 3)
        return cls(int(number), int(socket_fd), int(beat_fd), Path(folder))


def bind(config: ServeConfig) -> socket.socket:
    """A bound socket that does not listen yet, so that a taken port is known before anything is loaded.

    Raises:
        ValueError: Where host and port cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"cannot listen on {config.host}:{config.port} ({error}); choose another --port or --host"
        ) from error
    return bound


@dataclass
class _Worker:
    number: int
    process: subprocess.Popen[bytes]
    beats: int
    started: float
    last_beat: float = field(default=0.0)

    def hear(self) -> None:
        try:
            if os.read(self.beats, 4096):
                self.last_beat = time.monotonic()
        except BlockingIOError:
            pass

    def silent_seconds(self) -> float:
        return time.monotonic() - (self.last_beat or self.started)


class Supervisor:
    """Starts the workers and keeps their number."""

    def __init__(self, config: ServeConfig, bound: socket.socket) -> None:
        self._config, self._bound = config, bound
        self._ending = self._reload = False
        self._failures = [0] * config.num_workers

    def run(self) -> int:
        """Until SIGTERM, or until the workers cannot start; the exit code."""
        for caught in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(caught, self._note)
        with tempfile.TemporaryDirectory(prefix="retriever-workers-") as folder:
            workers = [self._start(number, folder) for number in range(self._config.num_workers)]
            while not self._ending:
                time.sleep(_LOOK_SECONDS)
                if self._reload:
                    self._reload = False
                    _send(workers, signal.SIGHUP)
                for number, worker in enumerate(workers):
                    worker.hear()
                    code = self._code_of(worker)
                    if code in (EXIT_BAD_DATA, EXIT_USAGE) and not worker.last_beat:
                        # Another attempt would find the same.
                        return self._end(workers, code)
                    if code is not None and not self._ending:
                        workers[number] = self._replace(worker, code, folder)
            return self._end(workers, EXIT_OK)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload = True
        else:
            self._ending = True

    def _start(self, number: int, folder: str) -> _Worker:
        beats, beat = os.pipe2(os.O_NONBLOCK)
        seat = f"{number},{self._bound.fileno()},{beat},{folder}"
        process = subprocess.Popen(
            [sys.executable, "-m", "components.serve", *sys.argv[1:]],
            env={**os.environ, WORKER_VARIABLE: seat},
            pass_fds=(self._bound.fileno(), beat),
        )
        os.close(beat)
        return _Worker(number, process, beats, time.monotonic())

    def _code_of(self, worker: _Worker) -> int | None:
        """The exit code of a worker that is gone or had to be ended; None where it is well."""
        code = worker.process.poll()
        allowed = self._config.request_seconds + 10 * BEAT_SECONDS if worker.last_beat else _START_SECONDS
        if code is None and worker.silent_seconds() > allowed:
            log.error("a worker fell silent; it is ended", worker=worker.number, seconds=round(worker.silent_seconds()))
            worker.process.kill()
            code = worker.process.wait()
        return code

    def _replace(self, worker: _Worker, code: int, folder: str) -> _Worker:
        os.close(worker.beats)
        failures = self._failures[worker.number] = self._failures[worker.number] + 1 if not worker.last_beat else 0
        pause = min(_MAX_PAUSE_SECONDS, 0.5 * 2**failures)
        log.error("a worker ended; another is started", worker=worker.number, code=code, pause_seconds=pause)
        deadline = time.monotonic() + pause
        while time.monotonic() < deadline and not self._ending:
            time.sleep(_LOOK_SECONDS)
        return self._start(worker.number, folder)

    def _end(self, workers: list[_Worker], code: int) -> int:
        # Our copy of the socket goes first: connections that no worker will take must be refused, not kept waiting.
        self._bound.close()
        _send(workers, signal.SIGTERM)
        deadline = time.monotonic() + self._config.drain_seconds + self._config.request_seconds + 10.0
        for worker in workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.error("a worker did not end in time; it is ended", worker=worker.number)
                worker.process.kill()
                worker.process.wait()
            os.close(worker.beats)
        return code


def _send(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.poll() is None:
            worker.process.send_signal(number)
