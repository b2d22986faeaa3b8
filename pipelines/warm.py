"""One process that has imported what the steps of a local run need; every step is forked from it and starts at once.

Importing torch and transformers takes eight seconds of a processor, and every step that trains, exports or asks an LLM
on a CPU needs them. The digests of the code that the steps run, a part of their identities, are there already, too. A
forked step is a process like any other: its own memory, signals and exit code.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from components.shared.contract.stopping import PARENT_VARIABLE, die_with_parent
from components.shared.identity import code_digest


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code; minus the signal where one ended it."""
    peak_mebibytes: float
    """The most memory it held."""


class WarmProcess:
    """The process that steps are forked from; it ends with this one, and the steps with it.

    Source of the way it works: the `forkserver` of Python's multiprocessing, which gives no resource usage.
    """

    def __init__(self, modules: Sequence[str], components: Sequence[str] = ()) -> None:
        """Starts it.

        Args:
            components: Whose code it reads before the first fork.
            modules: What it imports before the first fork; none may start a thread, which would be missing in the
                forked processes. Outside Linux nothing is imported: system libraries of other systems do not survive a
                fork.
        """
        ours, theirs = socket.socketpair()
        imported = modules if sys.platform == "linux" else ()
        # A process group of its own: Ctrl-C is ours to hand on, as SIGTERM, which ends a process that is still
        # importing without a traceback.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.warm", str(theirs.fileno()), ",".join(components), *imported],
            pass_fds=[theirs.fileno()],
            process_group=0,
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        )
        theirs.close()
        self._channel = ours.makefile("rw", encoding="utf-8")
        ours.close()

    @property
    def pid(self) -> int:
        """Of the process that steps are forked from."""
        return self._process.pid

    def run(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Ended:
        """Runs `python -m <module> <arguments>` to its end; interrupted, it ends the process first.

        Raises:
            ChildProcessError: Where the process that steps are forked from was killed.
        """
        try:
            self._say({"module": module, "arguments": list(arguments), "environment": dict(environment)})
            pid = self._hear()["pid"]
        except BaseException:
            self.close()
            raise
        try:
            ended = self._hear()
        except BaseException:
            # It may have ended while the interruption came.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                self._hear()
            raise
        return Ended(ended["code"], ended["peak_kibibytes"] / 1024)

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()
        # What could not be said any more is lost with the process.
        with contextlib.suppress(ConnectionError):
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            self._channel.write(json.dumps(message) + "\n")
            self._channel.flush()
        except ConnectionError as error:
            raise self._gone() from error

    def _gone(self) -> ChildProcessError:
        return ChildProcessError(f"the process that steps are started from ended with exit code {self._process.wait()}")

    def _hear(self) -> dict[str, Any]:
        try:
            line = self._channel.readline()
        except ConnectionError as error:
            raise self._gone() from error
        if not line:
            raise self._gone()
        message: dict[str, Any] = json.loads(line)
        return message


def _serve(descriptor: int, components: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
    """Forks a process for every request; returns in the forked ones only, with what they are to run."""
    die_with_parent()
    for module in modules:
        # A step that lacks something says so itself.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    for component in components:
        code_digest(component)
    # What is imported stays: looked at by no collection, its pages are shared with the processes that are forked.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rw", encoding="utf-8") as channel:
        for line in channel:
            message: dict[str, Any] = json.loads(line)
            message["environment"][PARENT_VARIABLE] = str(os.getpid())
            pid = os.fork()
            if pid == 0:
                return message
            print(json.dumps({"pid": pid}), file=channel, flush=True)
            _, status, usage = os.wait4(pid, 0)
            ended = {"code": os.waitstatus_to_exitcode(status), "peak_kibibytes": usage.ru_maxrss}
            print(json.dumps(ended), file=channel, flush=True)
    sys.exit(0)


def _become(message: Mapping[str, Any]) -> None:
    """Runs the module as `python -m` does, in this process."""
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(message["environment"])
    sys.argv = [message["module"], *message["arguments"]]
    code = 0
    try:
        runpy.run_module(message["module"], run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        if not isinstance(ending.code, int | None):
            raise
        code = ending.code or 0
    _end(code)


def _end(code: int) -> None:
    """Ends this process as multiprocessing ends its own: without taking modules apart, which costs .7 s a step."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _become(_serve(int(sys.argv[1]), list(filter(None, sys.argv[2].split(","))), sys.argv[3:]))
