"""Overload, slow clients, and a thousand requests made up from the server's own document: never a 500, never a hang."""

import asyncio
import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import schemathesis.specs.openapi.adapter  # now and not under a running server: CPython 3.11 parses in one thread only
from hypothesis import HealthCheck, Phase, given, settings

from components.serve.protocols.operations import OPERATIONS
from tests.components.serve.served import InProcess, Process, Sources
from tests.tiny_encoder import write_tiny_encoder, write_tiny_index

EMBEDDINGS = "/v1/embeddings"


def address(server: Process) -> tuple[str, int]:
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def resident_mib(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


def test_four_times_overload_is_answered_200_or_429_and_the_accepted_wait_no_longer_than_promised(
    sources: Sources, tmp_path: Path
) -> None:
    # An encoder of 4096 dimensions over long texts takes long enough to be the bottleneck.
    words = [f"word{number}" for number in range(500)]
    slow = Sources(
        str(write_tiny_encoder(tmp_path / "encoder", 0, words, dimension=4096, passage_tokens=4096)),
        "",
        sources.dataset_uri,
    )
    write_tiny_index(tmp_path / "index", dataset=Path(sources.dataset_uri), encoder=tmp_path / "encoder")
    artifacts = Sources(slow.encoder_uri, str(tmp_path / "index"), sources.dataset_uri)
    server = Process(
        *artifacts.flags(),
        "--num-sessions=1",
        "--max-queue-seconds=0.5",
        "--max-queued-tokens=60000",
        "--no-access-log",
    )
    url = server.url
    text = " ".join(words[:400])

    async def crowd(num_clients: int, seconds: float) -> list[tuple[int, float]]:
        answers: list[tuple[int, float]] = []
        ends = time.monotonic() + seconds
        async with httpx.AsyncClient(
            base_url=url, timeout=30, limits=httpx.Limits(max_connections=num_clients)
        ) as client:

            async def ask() -> None:
                while time.monotonic() < ends:
                    start = time.monotonic()
                    body = {"input": [text] * 8, "input_type": "passage", "encoding_format": "base64"}
                    answer = await client.post(EMBEDDINGS, json=body)
                    answers.append((answer.status_code, time.monotonic() - start))
                    if answer.status_code == 429:
                        assert int(answer.headers["retry-after"]) >= 1
                        await asyncio.sleep(0.2)

            await asyncio.gather(*(ask() for _ in range(num_clients)))
        return answers

    asyncio.run(crowd(4, 1.0))
    before = resident_mib(server.pid)
    answers = asyncio.run(crowd(40, 6.0))
    after = resident_mib(server.pid)
    metrics = httpx.get(f"{url}/metrics").text
    server.terminate()
    assert server.exit_code() == 0
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {200, 429}
    accepted = sorted(seconds for status, seconds in answers if status == 200)
    # Half a second of waiting was promised; the rest is the batch itself, and a machine that others share. Forty
    # clients without a bound would wait for forty such batches.
    assert accepted[int(0.99 * len(accepted))] < 15.0
    assert after - before < 150
    assert "retriever_queue_tokens 0.0" in metrics


def test_a_client_that_sends_its_body_slowly_is_408_and_one_that_sends_nothing_is_hung_up_on(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-sessions=1", "--body-seconds=0.5")
    body = json.dumps({"query": "volcano"}).encode()
    head = f"POST /search HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with (
        socket.create_connection(address(server), timeout=10) as slow,
        socket.create_connection(address(server), timeout=10) as silent,
    ):
        slow.sendall(head + body[:5])
        silent.sendall(b"POST /sea")
        assert httpx.post(f"{server.url}/search", json={"query": "volcano"}).status_code == 200
        answer = b""
        while block := slow.recv(65536):
            answer += block
        assert silent.recv(100) == b""
    server.terminate()
    assert server.exit_code() == 0
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_its_answer_does_not_stop_the_others_and_is_cut_off(sources: Sources) -> None:
    server = Process(
        *sources.flags(), "--num-sessions=1", "--request-seconds=1.5", "--max-texts=20000", "--max-queued-tokens=100000"
    )
    body = json.dumps({"input": ["volcano"] * 20000}).encode()
    head = f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(address(server))
        deaf.sendall(head + body)
        time.sleep(0.5)
        assert httpx.post(f"{server.url}/search", json={"query": "volcano"}).status_code == 200
        end = time.monotonic() + 20
        while not any(line["event"] == "a client did not read its answer" for line in server.lines):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert httpx.post(f"{server.url}/search", json={"query": "volcano"}).status_code == 200
    server.terminate()
    assert server.exit_code() == 0


def test_a_thousand_clients_that_hang_up_leave_no_text_in_the_queue(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-sessions=1", "--batch-tokens=64", "--no-access-log")
    body = json.dumps({"input": ["volcano glacier violin bakery"] * 200}).encode()
    head = f"POST {EMBEDDINGS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for _ in range(1000):
        with socket.create_connection(address(server)) as connection:
            connection.sendall(head + body)
    assert httpx.post(f"{server.url}/search", json={"query": "volcano"}, timeout=30).status_code in (200, 429)
    end = time.monotonic() + 20
    while "retriever_queue_tokens 0.0" not in httpx.get(f"{server.url}/metrics").text:
        assert time.monotonic() < end
        time.sleep(0.2)
    assert httpx.post(f"{server.url}/search", json={"query": "volcano"}).status_code == 200
    server.terminate()
    assert server.exit_code() == 0
    assert not [line for line in server.lines if line["level"] == "error"]


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::hypothesis.errors.HypothesisDeprecationWarning"
)  # schemathesis draws with `random`
def test_a_thousand_made_up_requests_are_answered_as_the_document_says(server: InProcess) -> None:
    schema = schemathesis.openapi.from_dict(server.get("/openapi.json").json())
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == len(OPERATIONS)
    # Of an operation without parameters and body nothing can be made up wrongly, and there is one request only.
    asked = [one for one in operations if "requestBody" in one.definition.raw or "{" in one.path]
    assert len(asked) == 12
    share = -(-1500 // (2 * len(asked)))
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    seen: Counter[int] = Counter()

    def check(case: Any) -> None:
        arguments = case.as_transport_kwargs(base_url="http://server")
        answer = server.request(
            arguments["method"],
            arguments["url"].removeprefix("http://server"),
            **{name: arguments[name] for name in ("params", "headers", "json") if arguments.get(name) is not None},
            **({"content": arguments["data"]} if arguments.get("data") is not None else {}),
        )
        seen[answer.status_code] += 1
        assert answer.status_code < 500, answer.text
        documented = case.operation.definition.raw["responses"]
        if answer.status_code not in (404, 405):  # a made-up model, a made-up method
            assert str(answer.status_code) in documented, (answer.status_code, answer.text)
        if answer.headers.get("content-type") == "application/json":
            case.operation.validate_response(schemathesis.Response.from_any(answer))

    for operation in asked:
        for mode in modes:
            strategy = operation.as_strategy(generation_mode=mode)
            run = settings(
                max_examples=share,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                deadline=None,
                derandomize=True,
            )(given(case=strategy)(check))
            run()
    for operation in operations:
        if operation not in asked:
            check(operation.Case())
    assert sum(seen.values()) >= 1000, seen
    assert {200, 400} <= set(seen)
