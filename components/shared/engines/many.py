"""Several independent engines on one machine behind the interface of one: a work queue is all that they share.

Each engine is a process with GPUs of its own. One that dies (out of memory, a lost GPU) gives its unfinished requests
to the others; they share neither batches nor caches, so which one answers changes nothing.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from components.shared import log
from components.shared.engines.engine import Engine, PromptError, Refusal, Request, Result
from components.shared.launch import TransientError

# Requests at an engine beside those it can batch at once, so that it never waits for us.
_NUM_EACH = 64
_CLOSE_SECONDS = 30.0


class ManyEngines:
    """A queue of requests that the engines draw from."""

    def __init__(
        self,
        num_engines: int,
        opener: Callable[..., Engine],
        *,
        gpus_each: int = 1,
        **arguments: Any,  # noqa: ANN401 the opener's own
    ) -> None:
        """Starts the engines at the same time and waits until all have loaded their model.

        `opener` is called with the arguments in each engine's process, so it is a function of a module.

        Raises:
            ValueError: Where one cannot be opened.
        """
        context = multiprocessing.get_context("spawn")
        # Before Python waits for them at its own end, which is when it is told of an error.
        atexit.register(self.close)
        self._queue: deque[Request] = deque()
        self._running: dict[Connection, dict[str, Request]] = {}
        self._processes: dict[Connection, Any] = {}
        for devices in _devices(num_engines, gpus_each):
            ours, theirs = context.Pipe()
            # No daemon: those may have no processes of their own, and vLLM has one, and one a GPU.
            process = context.Process(target=_serve, args=(theirs, devices, opener, arguments), daemon=False)
            process.start()
            theirs.close()
            self._processes[ours], self._running[ours] = process, {}
        try:
            opened = [_received(connection) for connection in self._running]
        except BaseException:
            self.close()
            raise
        self.model, self._can_constrain = opened[0]

    @property
    def can_constrain(self) -> bool:
        """As its engines."""
        return bool(self._can_constrain)

    def submit(self, request: Request) -> None:
        """Queues a request."""
        self._queue.append(request)
        self._feed()

    def collect(self) -> list[Result | Refusal]:
        """Waits for any engine.

        Raises:
            TransientError: Where the last engine died.
            ValueError: Where an engine refuses a request.
        """
        results: list[Result | Refusal] = []
        while not results and (self._queue or any(self._running.values())):
            for connection in wait(list(self._running)):
                assert isinstance(connection, Connection)
                results += self._received(connection)
            self._feed()
        return results

    def close(self) -> None:
        """Ends the engines."""
        for connection, process in self._processes.items():
            connection.close()
            process.join(_CLOSE_SECONDS)
            if process.is_alive():
                process.terminate()
        self._running.clear()
        self._processes.clear()
        atexit.unregister(self.close)

    def _received(self, connection: Connection) -> list[Result | Refusal]:
        try:
            results: list[Result | Refusal] = _received(connection)
        except (EOFError, ConnectionResetError) as error:
            self._bury(connection, error)
            return []
        for result in results:
            del self._running[connection][result.key]
        return results

    def _bury(self, connection: Connection, error: OSError | EOFError) -> None:
        unfinished = self._running.pop(connection)
        connection.close()
        self._queue.extendleft(reversed(unfinished.values()))
        log.warning(
            "an engine died; the others take its requests", engines_left=len(self._running), requests=len(unfinished)
        )
        if not self._running:
            raise TransientError("the last engine died (out of memory?); finished work is kept") from error

    def _feed(self) -> None:
        while self._queue:
            connection = min(self._running, key=lambda connection: len(self._running[connection]))
            if len(self._running[connection]) >= _NUM_EACH:
                return
            request = self._queue.popleft()
            self._running[connection][request.key] = request
            try:
                connection.send(request)
            except (BrokenPipeError, ConnectionResetError) as error:
                self._bury(connection, error)


def _devices(num_engines: int, gpus_each: int = 1) -> list[str]:
    """The GPUs of each engine, separated by commas: of those this process may see, else by number."""
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    needed = num_engines * gpus_each
    if visible and len(visible) < needed:
        raise ValueError(
            f"num_engines {num_engines} of {gpus_each} GPUs, but CUDA_VISIBLE_DEVICES names {len(visible)}; "
            f"ask for {needed} GPUs"
        )
    chosen = visible[:needed] or [str(number) for number in range(needed)]
    return [",".join(chosen[start : start + gpus_each]) for start in range(0, needed, gpus_each)]


def _received(connection: Connection) -> Any:  # noqa: ANN401 whatever the engine's process sends
    message = connection.recv()
    if isinstance(message, Exception):
        raise message
    return message


def _serve(connection: Connection, devices: str, opener: Callable[..., Engine], arguments: dict[str, Any]) -> None:
    """An engine's process: takes what is there, answers what is finished, ends when the other side is gone."""
    # Ctrl-C ends the job, which ends its engines.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        engine = opener(**arguments)
        connection.send((engine.model, engine.can_constrain))
        num_running = 0
        while True:
            refusals: list[Result | Refusal] = []
            while (not num_running and not refusals) or connection.poll():
                request: Request = connection.recv()
                try:
                    engine.submit(request)
                    num_running += 1
                except PromptError as error:
                    refusals.append(Refusal(request.key, str(error)))
            results = refusals or list(engine.collect())
            num_running -= 0 if refusals else len(results)
            connection.send(results)
    except ValueError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        engine.close()
