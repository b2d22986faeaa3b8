"""The server as a process of its own, over a real socket: how it starts, what it imports, how it ends."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.components.serve.served import Process, Sources, write_sources

FORBIDDEN = ("torch", "transformers", "kfp", "vllm", "pydantic")


def test_curl_gets_search_embeddings_and_metrics(sources: Sources) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    server = Process(*sources.flags())

    def curl(path: str, *arguments: str) -> bytes:
        return subprocess.run(
            ["curl", "--fail", "--silent", "--show-error", server.url + path, *arguments],
            check=True,
            capture_output=True,
        ).stdout

    ranking = json.loads(curl("/search", "--json", '{"query": "danger of a glacier", "depth": 1}'))
    embedded = json.loads(curl("/v1/embeddings", "-H", "Content-Type: application/json", "-d", '{"input": "glacier"}'))
    metrics = curl("/metrics").decode()
    server.terminate()
    assert server.exit_code() == 0
    assert ranking["hits"][0]["passage_id"] == "glacier-danger"
    assert len(embedded["data"][0]["embedding"]) == 32
    assert 'retriever_requests_total{path="/search",status="200"} 1.0' in metrics


def test_sigterm_under_load_fails_no_request(sources: Sources) -> None:
    # As in a cluster: the load balancer asks /readyz, and clients send only while the last answer was yes.
    server = Process(*sources.flags(), "--drain-seconds=4", "--num-sessions=2")
    url, failures, statuses = server.url, [], []
    balanced, unready_seen, late = threading.Event(), threading.Event(), []
    balanced.set()

    def balance() -> None:
        with httpx.Client(base_url=url) as client:
            while client.get("/readyz").status_code == 200:
                time.sleep(0.05)
        unready_seen.set()
        time.sleep(0.3)  # other balancers notice later; this server must answer until then
        balanced.clear()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while balanced.is_set():
                was_unready = unready_seen.is_set()
                try:
                    statuses.append(client.post("/search", json={"query": "craft of a bakery", "depth": 2}).status_code)
                except httpx.HTTPError as error:
                    failures.append(repr(error))
                if was_unready:
                    late.append(statuses[-1])

    threads = [threading.Thread(target=balance), *(threading.Thread(target=send) for _ in range(4))]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    server.terminate()
    for thread in threads:
        thread.join()
    assert server.exit_code() == 0
    assert failures == []
    assert set(statuses) == {200}
    assert len(late) > 4
    assert [line["event"] for line in server.lines if line["event"] != "request"][-2:] == [
        "SIGTERM: draining",
        "server stopped",
    ]


def test_a_request_in_flight_when_the_listener_closes_is_answered(sources: Sources) -> None:
    server = Process(*sources.flags(), "--drain-seconds=0", "--num-sessions=1", "--batch-tokens=64")
    body = json.dumps({"input": ["volcano glacier violin bakery"] * 256}).encode()
    with httpx.Client(base_url=server.url, timeout=20) as client:
        answers: list[int] = []
        thread = threading.Thread(
            target=lambda: answers.append(client.post("/v1/embeddings", content=body).status_code)
        )
        thread.start()
        thread.join(0.02)
        server.terminate()
        thread.join()
    assert server.exit_code() == 0
    assert answers == [200]


def test_a_client_that_hangs_up_leaves_the_server_well(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-sessions=1", "--batch-tokens=64")
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"input": ["volcano glacier violin bakery"] * 256}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for sent in (head + body, head + body[:100], head[:10], b"no http"):
        for _ in range(5):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(sent)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        assert client.post("/search", json={"query": "volcano"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        metrics = client.get("/metrics").text
    server.terminate()
    assert server.exit_code() == 0
    assert "retriever_queue_tokens 0.0" in metrics
    assert not [line for line in server.lines if line["level"] == "error"]


def test_an_over_long_body_is_413_before_it_was_sent_whole(sources: Sources) -> None:
    server = Process(*sources.flags(), "--max-body-bytes=1000")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 5000)
        answer = b""
        while block := connection.recv(65536):
            answer += block
    server.terminate()
    assert server.exit_code() == 0
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the body is longer than 1000 bytes" in answer


def test_an_index_of_another_encoder_ends_with_65_and_one_line(sources: Sources, tmp_path: Path) -> None:
    other = write_sources(tmp_path, seed=1)
    server = Process(*Sources(other.encoder_uri, sources.index_uri).flags())
    assert server.exit_code() == 65
    (line,) = server.lines
    assert (line["level"], line["event"]) == ("error", "serve stopped")
    assert "their vectors do not mix" in line["problem"]


@pytest.mark.parametrize(
    ("flag", "problem"),
    [("--encoder-uri=/nowhere", "no finished artifact here"), ("--host=256.1.1.1", "cannot listen on 256.1.1.1")],
)
def test_what_a_user_can_mend_ends_with_65_and_one_line(sources: Sources, flag: str, problem: str) -> None:
    server = Process(*sources.flags(), flag)
    assert server.exit_code() == 65
    (line,) = server.lines
    assert problem in line["problem"]


def test_each_request_is_one_log_line_and_probes_are_none(sources: Sources) -> None:
    server = Process(*sources.flags())
    httpx.get(server.url + "/readyz")
    httpx.post(server.url + "/search/batch", json={"queries": ["volcano", "glacier"]})
    server.terminate()
    assert server.exit_code() == 0
    (line,) = [line for line in server.lines if line["event"] == "request"]
    assert (line["method"], line["path"], line["status"], line["texts"], line["tokens"]) == (
        "POST",
        "/search/batch",
        200,
        2,
        6,
    )


def test_serving_imports_neither_torch_nor_kfp(sources: Sources) -> None:
    code = (
        # bm25s takes scipy where there is one; the server's image has none.
        "import asyncio, sys\n"
        "sys.modules['scipy'] = None\n"
        "from components.serve import __main__\n"
        "from components.serve.config import ServeConfig\n"
        "from components.serve.service import Service\n"
        f"service = Service({sources.config(num_sessions=1)!r})\n"
        "asyncio.run(service.start())\n"
        "service.stop()\n"
        "print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[4]
    )
    imported = done.stdout.split()
    assert "onnxruntime" in imported
    assert [name for name in FORBIDDEN if name in imported] == []
