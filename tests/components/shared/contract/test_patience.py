"""What passes by itself is waited for inside the job, up to a stated time; what does not is said at once."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from components.shared.contract.ending import TransientError
from components.shared.contract.patience import passes_by_itself, wait_out


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def _answered(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://hub")
    return httpx.HTTPStatusError("said no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (httpx.ConnectError("no route"), True),
        (httpx.ReadTimeout("slow"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (_answered(429), True),
        (_answered(503), True),
        (_answered(408), True),
        (_answered(404), False),
        (_answered(401), False),
        (ValueError("no such model"), False),
        (FileNotFoundError("config.json"), False),
    ],
)
def test_a_network_and_a_busy_server_pass_and_a_refusal_does_not(error: Exception, passes: bool) -> None:
    assert passes_by_itself(error) is passes


def test_an_error_is_as_lasting_as_what_it_came_from() -> None:
    outer = OSError("cannot load the model")
    outer.__cause__ = _answered(502)
    assert passes_by_itself(outer)
    # A loop of causes, which a library may make, ends.
    outer.__cause__ = inner = OSError("inner")
    inner.__cause__ = outer
    assert not passes_by_itself(outer)


def test_where_nothing_is_asked_over_the_network_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not passes_by_itself(httpx.ConnectError("no route"))


def test_a_call_that_comes_right_gives_its_result() -> None:
    errors = [httpx.ConnectError("no route")]

    def call() -> str:
        if errors:
            raise errors.pop()
        return "here"

    assert wait_out("hub", call, seconds=60.0) == "here"


def test_patience_ends_with_try_again() -> None:
    def call() -> None:
        raise _answered(503)

    start = time.monotonic()
    with pytest.raises(TransientError, match=r"hub: said no; waited \d+ s, try again later"):
        wait_out("hub", call, seconds=2.0)
    assert time.monotonic() - start < 3


def test_what_does_not_pass_is_raised_as_it_is() -> None:
    def call() -> None:
        raise _answered(404)

    with pytest.raises(httpx.HTTPStatusError):
        wait_out("hub", call, seconds=60.0)


@contextmanager
def _hub(*statuses: int) -> Iterator[tuple[str, list[str]]]:
    """A model hub that answers with these, and the last one for ever; its address and what it was asked."""
    left, asked = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


_LOAD = """
import sys
from components.shared.contract.ending import TransientError
from components.shared.engines.loading import loading
try:
    with loading("org/model") as source:
        print("loads", source)
except TransientError:
    print("try again")
"""


@pytest.mark.parametrize(("statuses", "says"), [((503,), "try again"), ((429, 404), "loads org/model")])
def test_an_engine_waits_for_the_hub(statuses: tuple[int, ...], says: str, tmp_path: object) -> None:
    with _hub(*statuses) as (address, asked):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        environment |= {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "RETRIEVER_STORE_SECONDS": "4"}
        done = subprocess.run(
            [sys.executable, "-c", _LOAD], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.stdout.strip() == says, (done.stderr, asked)
    assert len(asked) >= 2
