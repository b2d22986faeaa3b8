"""Steps that are forked from a warm process are processes like any other."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.warm import Ended, WarmProcess

# A module of the standard library stands for the heavy ones.
_IMPORTED = "xml.dom.minidom"


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProcess]:
    with WarmProcess([_IMPORTED, "no.such.module"]) as process:
        yield process


@pytest.fixture
def run(warm: WarmProcess, tmp_path: Path) -> Callable[..., Ended]:
    """Runs code as a module's, in a process forked from the warm one."""

    def _run(code: str, **environment: str) -> Ended:
        (tmp_path / "code_of_step.py").write_text(textwrap.dedent(code))
        return warm.run("tests.pipelines.step_of", [str(tmp_path)], {**os.environ, **environment})

    return _run


def test_what_is_imported_is_there_and_the_environment_is_that_of_the_step(
    run: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = run(
        f"""
        import json, os, pathlib, sys
        seen = [{_IMPORTED!r} in sys.modules, os.environ["ONLY_HERE"], sys.argv[1:], os.getpid() == os.getpgid(0)]
        pathlib.Path(sys.argv[1], "seen.json").write_text(json.dumps(seen))
        """,
        ONLY_HERE="yes",
    )
    assert ended.code == 0
    assert json.loads((tmp_path / "seen.json").read_text()) == [True, "yes", [str(tmp_path)], True]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("import sys; sys.exit(65)", 65),
        ("raise KeyError('a mistake of ours')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("import atexit, os; atexit.register(os._exit, 7)", 7),
    ],
)
def test_the_exit_code_is_that_of_the_process(run: Callable[..., Ended], code: str, expected: int) -> None:
    assert run(code).code == expected


def test_threads_are_waited_for_exit_functions_run_and_nothing_written_is_lost(
    run: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = run(
        """
        import atexit, pathlib, sys, threading, time
        place = pathlib.Path(sys.argv[1])
        sys.stdout = (place / "said").open("w")
        print("not flushed")
        atexit.register((place / "ended").write_text, "yes")
        def work():
            time.sleep(0.2)
            (place / "worked").write_text("yes")
        threading.Thread(target=work).start()
        """
    )
    assert ended.code == 0
    assert [(tmp_path / name).read_text() for name in ("said", "worked", "ended")] == ["not flushed\n", "yes", "yes"]


def test_memory_is_counted_for_every_step_by_itself(run: Callable[..., Ended]) -> None:
    large = run("held = bytearray(200 << 20)")
    small = run("")
    assert large.peak_mebibytes - small.peak_mebibytes > 150


def test_a_process_that_is_gone_is_named_and_leaves_no_traceback_of_ours(tmp_path: Path) -> None:
    (tmp_path / "code_of_step.py").write_text("")
    with WarmProcess([]) as warm:
        step = ("tests.pipelines.step_of", [str(tmp_path)], dict(os.environ))
        assert warm.run(*step).code == 0
        os.kill(warm.pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match="ended with exit code -9"):
            warm.run(*step)


def test_steps_end_when_the_run_is_killed(tmp_path: Path) -> None:
    runner = textwrap.dedent(
        """
        import os, sys
        from pipelines.warm import Ended, WarmProcess
        with WarmProcess([]) as warm:
            warm.run("tests.pipelines.step_of", sys.argv[1:], dict(os.environ))
        """
    )
    (tmp_path / "code_of_step.py").write_text(
        "import os, pathlib, sys, time\n"
        "from components.shared.contract.stopping import die_with_parent\n"
        "die_with_parent()\n"
        "pathlib.Path(sys.argv[1], 'pid').write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", runner, str(tmp_path)])
    pid = _wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    pytest.fail("the step outlived its run")


def _wait_for(path: Path) -> int:
    for _ in range(400):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written")
