"""A stop is heard wherever the process is, also where Python has nobody to raise it to."""

import functools
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

_LOST = """
import ctypes, sys, time, weakref
from pathlib import Path
from components.shared.contract.stopping import heed_lost_stops, heed_sigterm

{heed}()
started, survived = Path(sys.argv[1]), Path(sys.argv[2])

def linger():
    started.write_text("here")
    # In small pieces: what C does is not interrupted by Python's handler.
    for _ in range(600):
        time.sleep(0.1)

class Resource:
    def __del__(self):
        linger()

class Plain:
    pass

def in_a_finaliser():
    Resource()

def in_a_callback_of_a_weak_reference():
    plain = Plain()
    reference = weakref.ref(plain, lambda _: linger())
    del plain

def called_from_c():
    ctypes.CFUNCTYPE(None)(linger)()

{place}()
time.sleep(60)
survived.write_text("nobody stopped it")
"""


@pytest.mark.parametrize("place", ["in_a_finaliser", "in_a_callback_of_a_weak_reference", "called_from_c"])
@pytest.mark.parametrize(
    ("number", "heed", "code"),
    [(signal.SIGTERM, "heed_sigterm", 143), (signal.SIGINT, "heed_lost_stops", -signal.SIGINT)],
)
def test_a_stop_that_comes_where_nobody_can_catch_it_is_heard(
    place: str, number: signal.Signals, heed: str, code: int, tmp_path: Path
) -> None:
    started, survived = tmp_path / "started", tmp_path / "survived"
    program = _LOST.format(heed=heed, place=place)
    # A shell's background job inherits an ignored SIGINT; a person's terminal does not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", program, str(started), str(survived)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        while not started.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Exception ignored" not in errors
    assert not survived.exists()


def test_what_else_goes_wrong_in_a_finaliser_is_still_said() -> None:
    program = textwrap.dedent(
        """
        from components.shared.contract.stopping import heed_sigterm
        heed_sigterm()
        class Resource:
            def __del__(self):
                raise OSError("the disk is gone")
        Resource()
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "OSError: the disk is gone" in done.stderr
