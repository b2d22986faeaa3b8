"""Another release takes over under traffic: no request fails, and no answer mixes two."""

import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.shared.durable import storage
from tests.components.serve.served import InProcess, Process, Sources, write_sources
from tests.components.shared.flaky_proxy import flaky

QUERY = "the danger of a volcano"


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Another encoder with its index: every score differs."""
    return write_sources(tmp_path_factory.mktemp("second"), seed=1)


def point(pointer: Path, sources: Sources) -> None:
    uris = {"encoder_uri": sources.encoder_uri, "index_uri": sources.index_uri, "dataset_uri": sources.dataset_uri}
    pointer.with_suffix(".new").write_text(json.dumps(uris))
    os.replace(pointer.with_suffix(".new"), pointer)


def expected_answers(*all_sources: Sources) -> dict[str, Any]:
    """Version -> what a server of this release alone answers."""
    answers: dict[str, Any] = {}
    for sources in all_sources:
        server = InProcess(sources.config(num_sessions=1))
        answers[server.service.release.version] = server.post("/search", query=QUERY, depth=5).json()
        server.close()
    return answers


def same(one: Any, other: Any) -> bool:
    """Equal up to the last bits of the scores, which depend on who else is in the batch."""
    close = [abs(a["score"] - b["score"]) < 1e-6 for a, b in zip(one["hits"], other["hits"], strict=True)]
    rest = [[{**hit, "score": 0} for hit in answer["hits"]] for answer in (one, other)]
    return all(close) and rest[0] == rest[1]


def until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_under_load_no_request_fails_and_every_answer_is_of_one_release(
    sources: Sources, second: Sources, tmp_path: Path
) -> None:
    expected = expected_answers(sources, second)
    assert not same(*expected.values())
    pointer = tmp_path / "pointer.json"
    point(pointer, sources)
    server = Process(f"--pointer-uri={pointer}", "--pointer-seconds=0.1", "--num-sessions=2")
    url, ended = server.url, threading.Event()
    seen: list[str] = []
    wrong: list[object] = []

    def send() -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while not ended.is_set():
                try:
                    answer = client.post("/search", json={"query": QUERY, "depth": 5})
                except httpx.HTTPError as error:
                    wrong.append(repr(error))
                    continue
                version = answer.headers.get("retriever-version", "")
                seen.append(version)
                if answer.status_code != 200 or not same(answer.json(), expected[version]):
                    wrong.append((answer.status_code, version, answer.text))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    first, other = expected
    for sources_now, version in ((second, other), (sources, first), (second, other)):
        point(pointer, sources_now)
        until(lambda version=version: seen and seen[-1] == version)
        time.sleep(0.3)
    ended.set()
    for thread in threads:
        thread.join()
    metrics = httpx.get(f"{url}/metrics").text
    server.terminate()
    assert server.exit_code() == 0
    assert wrong == []
    assert set(seen) == set(expected)
    assert 'retriever_reloads_total{outcome="done"} 3.0' in metrics
    assert f'retriever_release{{version="{other}"}} 1.0' in metrics


def test_what_does_not_belong_together_is_refused_once_and_the_old_release_goes_on(
    sources: Sources, second: Sources, tmp_path: Path
) -> None:
    pointer = tmp_path / "pointer.json"
    point(pointer, sources)
    server = Process(f"--pointer-uri={pointer}", "--pointer-seconds=0.05", "--num-sessions=1")
    url = server.url

    def refusals() -> list[str]:
        return [line["problem"] for line in server.lines if line["event"].startswith("reload refused")]

    before = httpx.post(f"{url}/search", json={"query": QUERY}).json()
    point(pointer, Sources(sources.encoder_uri, second.index_uri, sources.dataset_uri))
    until(lambda: len(refusals()) == 1)
    pointer.write_text("{")
    until(lambda: len(refusals()) == 2)
    pointer.unlink()
    time.sleep(0.3)
    assert httpx.post(f"{url}/search", json={"query": QUERY}).json() == before
    server.terminate()
    assert server.exit_code() == 0
    first, other = refusals()
    assert "their vectors do not mix" in first
    assert "not JSON" in other


def test_a_release_in_a_store_that_is_away_is_tried_again_until_it_is_served(
    sources: Sources, second: Sources, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Sources(*(f"{bucket}/{name}" for name in ("encoder", "index", "dataset")))
    for name in ("encoder", "index", "dataset"):
        # What is published is moved.
        copy = shutil.copytree(getattr(second, f"{name}_uri"), tmp_path / name)
        storage.publish(Path(copy), getattr(remote, f"{name}_uri"))
    pointer = tmp_path / "pointer.json"
    point(pointer, sources)
    with flaky(os.environ["STORAGE_EMULATOR_HOST"]) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "1")
        server = Process(f"--pointer-uri={pointer}", "--pointer-seconds=0.1", "--num-sessions=1")
        before = httpx.get(f"{server.url}/readyz").json()["version"]
        proxy.fail("reset")
        point(pointer, remote)
        until(lambda: any(line.get("tried_again") for line in server.lines), seconds=120)
        assert httpx.get(f"{server.url}/readyz").json()["version"] == before
        proxy.heal()
        until(lambda: httpx.get(f"{server.url}/readyz").json()["version"] != before, seconds=120)
        server.terminate()
        assert server.exit_code() == 0


def test_sighup_serves_what_lies_at_the_flags_places_now(sources: Sources, second: Sources, tmp_path: Path) -> None:
    links = {name: tmp_path / name for name in ("encoder", "index", "dataset")}

    def turn(to: Sources) -> None:
        for name, link in links.items():
            link.unlink(missing_ok=True)
            link.symlink_to(Path(to.encoder_uri).parent / name)

    turn(sources)
    server = Process(*(f"--{name}-uri={link}" for name, link in links.items()), "--num-sessions=1")
    url = server.url

    def version() -> str:
        return str(httpx.get(f"{url}/readyz").json()["version"])

    before = version()
    server.hang_up()
    until(lambda: any(line["event"] == "reload: unchanged" for line in server.lines))
    assert version() == before
    turn(second)
    server.hang_up()
    until(lambda: version() != before)
    server.terminate()
    assert server.exit_code() == 0


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"encoder_uri": "e"}', "index_uri is None, which is no address"),
        ('{"encoder_uri": "e", "index_uri": "i", "datset_uri": "d"}', "datset_uri is no artifact of a release"),
        ('{"encoder_uri": "e", "index_uri": 3}', "index_uri is 3, which is no address"),
    ],
)
def test_a_pointer_that_is_wrong_is_named_with_what_to_write(tmp_path: Path, content: str, problem: str) -> None:
    pointer = tmp_path / "pointer.json"
    pointer.write_text(content)
    with pytest.raises(ValueError, match=rf"pointer\.json: {problem}.*; write \{{"):
        InProcess(Sources("", "").config(pointer_uri=str(pointer)))


def test_nothing_to_serve_is_named() -> None:
    with pytest.raises(ValueError, match="give --encoder-uri and --index-uri, or --pointer-uri"):
        InProcess(Sources("", "").config())
