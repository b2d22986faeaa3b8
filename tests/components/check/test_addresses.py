"""A model of the hub is asked for there, with what passes by itself waited out."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from components.check import addresses
from components.check.addresses import unreadable
from components.shared.contract.ending import TransientError


class _Hub(BaseHTTPRequestHandler):
    statuses: list[int]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    handler = type("Hub", (_Hub,), {"statuses": [200], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "2")
    monkeypatch.setattr(addresses, "_PAUSE_SECONDS", 0.1)
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_that_the_hub_has_is_readable_with_the_token_of_the_pod(
    hub: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert list(unreadable("annotate.llm_uri=org/model@main")) == []
    assert hub.asked == [("/api/models/org/model", "Bearer secret")]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_model_that_is_gated_or_unknown_is_named_with_the_remedy(hub: type[_Hub], status: int) -> None:
    hub.statuses = [status]
    (problem,) = unreadable("annotate.llm_uri=org/model")
    assert problem.startswith(f"annotate.llm_uri: org/model: the hub answers {status}")
    assert "--secret SECRET:HF_TOKEN" in problem


def test_a_hub_that_is_busy_is_waited_for(hub: type[_Hub]) -> None:
    hub.statuses = [503, 429, 200]
    assert list(unreadable("annotate.llm_uri=org/model")) == []
    assert len(hub.asked) == 3


def test_a_hub_that_stays_away_ends_with_try_again(hub: type[_Hub]) -> None:
    hub.statuses = [503]
    with pytest.raises(TransientError, match=r"the hub answers 503; see whether pods may reach the hub"):
        list(unreadable("annotate.llm_uri=org/model"))
