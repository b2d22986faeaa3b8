"""The client against the real server, and against one that fails in every way."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.serve.client import RetrieverClient, ServerError
from components.shared.encoding.encoder import Encoder
from tests.components.serve.served import Process, Sources

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def running(sources: Sources) -> Iterator[Process]:
    server = Process(*sources.flags(), "--num-sessions=1")
    yield server
    server.terminate()
    assert server.exit_code() == 0


@contextlib.contextmanager
def failing(*replies: tuple[int, dict[str, str], bytes] | None) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives these replies in turn (None: hangs up), the last one for ever; and what headers came."""
    seen: list[dict[str, str]] = []

    class Scripted(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append({name.lower(): value for name, value in self.headers.items()})
            reply = replies[min(len(seen), len(replies)) - 1]
            if reply is None:
                self.close_connection = True
                return
            status, headers, body = reply
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


FOUND = json.dumps({"query": "x", "hits": [{"passage_id": "p", "score": 0.5}]}).encode()
FULL = json.dumps(
    {"error": {"message": "the queue is full; try again in 0 s", "type": "rate_limit_error", "code": 429}}
).encode()


def test_search_embeddings_and_readiness_are_the_servers(running: Process, sources: Sources) -> None:
    with RetrieverClient(running.url) as client:
        ranking = client.search("danger of a glacier", depth=3)
        assert ranking.hits[0].passage_id == "glacier-danger"
        assert ranking.hits[0].text == "The danger of a glacier told in plain words."
        assert len(ranking.hits) == 3
        batch = client.search_batch(["danger of a glacier", "violin"], depth=3)
        assert [(ranking.query, len(ranking.hits)) for ranking in batch] == [("danger of a glacier", 3), ("violin", 3)]
        assert batch[0].hits == ranking.hits
        bare = client.search("danger of a glacier", include_text=False, passage_ids=["bakery-craft"])
        assert [(hit.passage_id, hit.title) for hit in bare.hits] == [("bakery-craft", "")]
        without = client.search("danger of a glacier", depth=1, exclude_passage_ids=["glacier-danger"])
        assert without.hits[0] == ranking.hits[1]
        vectors = client.embed(["a volcano", "violin"], input_type="passage")
        encoder = Encoder(Path(sources.encoder_uri))
        assert vectors == pytest.approx(
            encoder.encode_tokens(encoder.tokenize_passages(["a volcano", "violin"])), abs=1e-6
        )
        assert vectors.dtype == np.float32
        assert client.readiness()["ready"] is True
        assert ranking.version == client.readiness()["version"]


def test_a_refusal_for_good_is_raised_at_once_with_the_servers_words(running: Process) -> None:
    with (
        RetrieverClient(running.url) as client,
        pytest.raises(ServerError, match=r"^400: query: the text is empty$") as refused,
    ):
        client.search(" ")
    assert refused.value.status == 400


def test_what_may_work_later_is_sent_again_until_it_does() -> None:
    replies = [
        (429, {"retry-after": "0"}, FULL),
        None,
        (503, {}, b"<html>a proxy</html>"),
        (200, {"retriever-version": "v"}, FOUND),
    ]
    with failing(*replies) as (url, seen), RetrieverClient(url, api_key="secret", traceparent="00-trace") as client:
        ranking = client.search("x")
    assert ([hit.passage_id for hit in ranking.hits], ranking.version) == (["p"], "v")
    assert len(seen) == 4
    assert {(headers["authorization"], headers["traceparent"]) for headers in seen} == {("Bearer secret", "00-trace")}


def test_the_servers_time_to_come_back_is_kept() -> None:
    with failing((429, {"retry-after": "1"}, FULL), (200, {}, FOUND)) as (url, seen), RetrieverClient(url) as client:
        assert client.search("x").seconds >= 1.0
    assert len(seen) == 2


def test_no_wait_goes_beyond_the_time_of_the_call() -> None:
    with (
        failing((429, {"retry-after": "60"}, FULL)) as (url, seen),
        RetrieverClient(url, timeout_seconds=5.0) as client,
        pytest.raises(ServerError, match="429: the queue is full"),
    ):
        client.search("x")
    assert len(seen) == 1


def test_after_the_last_retry_the_failure_is_raised() -> None:
    with (
        failing((503, {}, FULL)) as (url, seen),
        RetrieverClient(url, num_retries=2) as client,
        pytest.raises(ServerError, match="503"),
    ):
        client.search("x")
    assert len(seen) == 3


def test_no_server_and_a_strange_server_are_named() -> None:
    with RetrieverClient("http://127.0.0.1:9", num_retries=1) as client:
        with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9 does not answer"):
            client.search("x")
        with pytest.raises(ServerError, match="does not answer"):
            client.readiness()
    with (
        failing((200, {}, b"<html>")) as (url, _),
        RetrieverClient(url) as client,
        pytest.raises(ServerError, match="not an answer of a retriever"),
    ):
        client.search("x")


def test_the_client_imports_nothing_of_the_server() -> None:
    code = "import sys, components.serve.client\nprint(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    heavy = {"onnxruntime", "faiss", "tokenizers", "starlette", "uvicorn", "pyarrow", "torch", "prometheus_client"}
    assert heavy & set(done.stdout.split()) == set()


def test_the_command_prints_passages_for_people_and_for_programs(running: Process) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "search",
        "danger of a glacier",
        f"--url={running.url}",
        "--depth=2",
    ]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    assert shown[0].startswith("  1. ")
    assert shown[0].endswith("glacier danger  [glacier-danger]")
    assert shown[1] == "     The danger of a glacier told in plain words."
    assert shown[-1].startswith("2 passages in ")
    printed = json.loads(
        subprocess.run([*command, "--json"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    )
    assert printed["hits"][0]["passage_id"] == "glacier-danger"
    failed = subprocess.run([*command[:5], "--url=http://127.0.0.1:9"], capture_output=True, text=True, cwd=ROOT)
    assert failed.returncode == 65
    assert "does not answer" in failed.stderr
