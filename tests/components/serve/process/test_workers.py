"""Several processes on one socket: all of them answer, one that dies is replaced, and they end together."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from components.serve.process.siblings import merged
from tests.components.serve.served import Process, Sources

SEARCH = {"query": "the danger of a volcano", "depth": 2}


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def served_by(url: str) -> dict[str, float]:
    """Worker -> searches it answered."""
    families = {family.name: family for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text)}
    samples = [sample for sample in families["retriever_requests"].samples if sample.name == "retriever_requests_total"]
    return {
        sample.labels["worker"]: sample.value
        for sample in samples
        if (sample.labels["path"], sample.labels["status"]) == ("/search", "200")
    }


def workers_of(server: Process) -> list[int]:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in children.split()]


def all_listen(server: Process) -> Callable[[], bool]:
    return lambda: sum(line["event"] == "serving" for line in server.lines) == 2


def ask(url: str, num_requests: int) -> list[int]:
    """Statuses of searches, each over a connection of its own."""
    return [httpx.post(f"{url}/search", json=SEARCH, timeout=20).status_code for _ in range(num_requests)]


def test_two_workers_share_the_requests_and_one_scrape_sees_both(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--num-sessions=1")
    url = server.url
    until(all_listen(server))
    threads = [threading.Thread(target=ask, args=(url, 20)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = served_by(url)
    up = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith("retriever_worker_up{")]
    server.terminate()
    assert server.exit_code() == 0
    assert sum(counted.values()) == 160
    assert set(counted) == {"0", "1"}
    # Which process takes a connection is the kernel's choice; that one takes all of 160 is not a choice.
    assert min(counted.values()) >= 8
    assert sorted(up) == ['retriever_worker_up{worker="0"} 1.0', 'retriever_worker_up{worker="1"} 1.0']


def test_a_worker_that_dies_is_replaced_and_the_others_answer_meanwhile(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--num-sessions=1")
    url = server.url
    until(all_listen(server))
    time.sleep(1.5)  # both have said that they are well
    before = workers_of(server)
    os.kill(before[0], signal.SIGKILL)
    time.sleep(0.3)
    assert set(ask(url, 10)) == {200}
    until(lambda: len(workers_of(server)) == 2 and before[0] not in workers_of(server))
    until(lambda: sum(line["event"] == "serving" for line in server.lines) == 3)
    assert set(ask(url, 10)) == {200}
    server.terminate()
    assert server.exit_code() == 0
    (line,) = [line for line in server.lines if line["event"].startswith("a worker ended")]
    assert line["code"] == -signal.SIGKILL


def test_a_worker_that_hangs_is_ended_and_replaced(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--num-sessions=1", "--request-seconds=1")
    until(all_listen(server))
    time.sleep(1.5)
    (hung, _) = workers_of(server)
    os.kill(hung, signal.SIGSTOP)
    until(lambda: any(line["event"].startswith("a worker fell silent") for line in server.lines))
    until(lambda: sum(line["event"] == "serving" for line in server.lines) == 3)
    server.terminate()
    assert server.exit_code() == 0
    assert hung not in workers_of_gone(server)


def workers_of_gone(server: Process) -> list[int]:
    return [
        pid
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        if _parent(pid) == server.pid
    ]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def test_sigterm_under_load_drains_every_worker(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--num-sessions=1", "--drain-seconds=1.5")
    url, statuses, failures = server.url, [], []
    until(all_listen(server))
    ended = threading.Event()

    def send() -> None:
        with httpx.Client(base_url=url, timeout=20) as client:
            while not ended.is_set():
                try:
                    statuses.append(client.post("/search", json=SEARCH).status_code)
                except httpx.HTTPError as error:
                    failures.append(repr(error))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.terminate()
    time.sleep(0.8)  # within the drain
    ended.set()
    for thread in threads:
        thread.join()
    assert server.exit_code() == 0
    assert failures == []
    assert set(statuses) == {200}


def test_sighup_reaches_every_worker(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--num-sessions=1")
    until(all_listen(server))
    server.hang_up()
    until(lambda: sum(line["event"] == "reload: unchanged" for line in server.lines) == 2)
    server.terminate()
    assert server.exit_code() == 0


def test_what_no_worker_can_serve_ends_the_supervisor_with_65(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--encoder-uri=/nowhere")
    assert server.exit_code() == 65
    assert {line["event"] for line in server.lines} == {"serve stopped"}


def test_workers_do_not_outlive_a_supervisor_that_is_killed(sources: Sources) -> None:
    server = Process(*sources.flags(), "--num-workers=2", "--num-sessions=1")
    until(all_listen(server))
    workers = workers_of(server)
    server.kill()
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _parent(pid) for pid in workers))
    assert server.exit_code() == -signal.SIGKILL


def test_merged_metrics_by_hand() -> None:
    text = '# HELP tokens_total Tokens.\n# TYPE tokens_total counter\ntokens_total{{kind="a"}} {}\n'
    lines = merged({"0": text.format(1), "1": text.format(2), "2": ""}).decode().splitlines()
    assert lines.count("# TYPE tokens_total counter") == 1
    for line in (
        'tokens_total{kind="a",worker="0"} 1.0',
        'tokens_total{kind="a",worker="1"} 2.0',
        'retriever_worker_up{worker="2"} 0.0',
    ):
        assert line in lines
