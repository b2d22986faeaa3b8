"""A job in a process of its own that starts at once, forked from a server that has imported the heavy libraries.

`python -m components.train` imports for nine seconds before its first line runs; a test that kills a job twenty times
would wait for nothing else. What a test sees is the same: a process with its own signals, files, flags and exit code.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

# torch, transformers and onnxruntime; importing them starts no thread, so that the server may be forked.
_HEAVY = ["components.train.job", "components.export.job", "components.annotate.job", "components.index.job"]
_ROOT = Path(__file__).parents[1]


class Started:
    """A running `python -m <module> <flags>`, or `python -c <code> <flags>`."""

    def __init__(
        self,
        module: str,
        *flags: str,
        code: str = "",
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it; what it writes to stdout and stderr goes into the file `output`, or away.

        `code` is run in place of the module, which then is only a name.
        """
        self._output = output
        place = os.devnull if output is None else str(output)
        # The server has the environment of the moment it was started at.
        arguments = (module, code, list(flags), place, {**os.environ, **(environment or {})})
        self._process: ForkServerProcess = _context().Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, minus the signal where one ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 300) -> int:
        """Its exit code, once it has ended."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """As `kill` does."""
        os.kill(self.pid, number)

    def said(self) -> bytes:
        """What it has written so far."""
        assert self._output is not None
        return self._output.read_bytes()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_HEAVY)
    return context


def _run(module: str, code: str, flags: list[str], output: str, environment: dict[str, str]) -> None:
    # The server ignores what a terminal sends; a job of its own does not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(_ROOT)
    sys.argv = [module, *flags]
    if code:
        exec(code, {"__name__": "__main__"})
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
