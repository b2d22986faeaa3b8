"""How a process is stopped: SIGTERM unwinds it and gives its exit code, it dies with its parent, no stop is lost.

A stop is an exception that Python raises wherever the main thread happens to be. In a finaliser, a weak reference's
callback or a function called from C there is nobody to raise it to: Python prints it and goes on, and the process would
work to its end as if nobody had asked. Such a stop is said again a moment later.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from types import FrameType

from components.shared import log
from components.shared.contract.ending import EXIT_TERMINATED, tell_platform

# Set by a local run to its process id: a job whose parent is gone has nobody to work for, and its locks stand in the
# way.
PARENT_VARIABLE = "RETRIEVER_PARENT_PID"
_PR_SET_PDEATHSIG = 1

# Long enough to have left the finaliser that the stop was lost in.
_SAID_AGAIN_SECONDS = 0.05


class TerminatedError(SystemExit):
    """SIGTERM came: unwinds through the context managers, which flush journals and release locks."""


def heed_sigterm() -> None:
    """From now on SIGTERM ends this process with its exit code, also where Python loses the first exception."""
    signal.signal(signal.SIGTERM, _stop)
    heed_lost_stops()


def heed_lost_stops() -> None:
    """From now on a stop (SIGTERM's or Ctrl-C's) that was raised where nobody could catch it is said again."""
    previous = sys.unraisablehook

    def say_again(unraisable: sys.UnraisableHookArgs) -> None:
        lost = unraisable.exc_value
        if not isinstance(lost, TerminatedError | KeyboardInterrupt):
            previous(unraisable)
            return
        number = signal.SIGTERM if isinstance(lost, TerminatedError) else signal.SIGINT
        again = threading.Timer(_SAID_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        # An interpreter that is already leaving starts no thread, and need not.
        with contextlib.suppress(RuntimeError):
            again.start()

    sys.unraisablehook = say_again


def die_with_parent() -> None:
    """SIGTERM for this process when the one that PARENT_VARIABLE names dies; nothing where it names none."""
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        # It died before the line above.
        raise SystemExit(EXIT_TERMINATED)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    log.warning("SIGTERM: stopping; finished work is kept", pid=os.getpid())
    tell_platform("ended by SIGTERM; finished work is kept, run it again")
    raise TerminatedError(EXIT_TERMINATED)
