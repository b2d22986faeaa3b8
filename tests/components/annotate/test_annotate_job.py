"""The whole job against an LLM that counts its calls: exactly once over kills, full disks and vanished servers."""

import hashlib
import json
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from components.annotate import job
from components.annotate.job import annotate
from components.shared.durable.journal import read_journal
from components.shared.engines.engine import CompletionRequest
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, Quarantined, read_records
from tests.components.annotate.fake_engine import FakeEngine, calls
from tests.components.annotate.inputs import job_config, write_inputs
from tests.components.shared.engines.openai_server import Answer, FakeOpenAI
from tests.started import Started

REPLIES = (
    "[1], [2]",
    "[2]",
    "[1]",
    "None",
    "[1-2]",
    "[0]",
    "[7]",
    "I cannot help with that.",
    "The passages are about tides.",
    "[1]",
)


def reply(request: CompletionRequest) -> str:
    """Every outcome there is, decided by the request alone."""
    drawn = int(hashlib.sha256(f"{request.turns[-1].content}{request.seed}".encode()).hexdigest(), 16)
    last = request.turns[-1].content
    if "three sentences" in last:
        return "Because the moon pulls."
    return (
        "[1], [2]",
        "[2]",
        "[1]",
        "None",
        "[1-2]",
        "[0]",
        "[7]",
        "I cannot help with that.",
        "The passages are about tides.",
        "[1]",
    )[drawn % 10]


def run(folder: Path, output: str = "annotations", **settings: object) -> None:
    """The job in this process, with the counting LLM."""
    engine = FakeEngine(folder / "calls", replies=reply, can_constrain=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: engine)
        annotate(job_config(folder, output, **settings))


_RUN = """
import sys
from pathlib import Path
from tests.components.annotate.test_annotate_job import run
run(Path(sys.argv[1]))
"""


def start(folder: Path) -> Started:
    return Started("run", str(folder), code=_RUN)


def num_calls(folder: Path) -> int:
    path = folder / "calls"
    # A line is a key of 32 characters.
    return path.stat().st_size // 33 if path.exists() else 0


@pytest.mark.slow
def test_kill_9_at_20_random_points_makes_each_call_once_and_the_same_file(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_inputs(folder, num_queries=1000)
    run(whole)
    points = sorted(random.Random(3).sample(range(1, num_calls(whole)), 20))
    for point in points:
        process = start(killed)
        while num_calls(killed) < point and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run(killed)
    made, expected = calls(killed / "calls"), calls(whole / "calls")
    assert set(made) == set(expected)
    assert set(expected.values()) == {1}
    # A batch of three is in flight at a kill.
    assert made.total() - len(made) <= 3 * 20
    for name in ("annotations.jsonl", "quarantine.jsonl"):
        assert (killed / "annotations" / name).read_bytes() == (whole / "annotations" / name).read_bytes()
    assert (killed / "annotations" / "quarantine.jsonl").stat().st_size > 0


_LAUNCH = """
import sys
from pathlib import Path
from components.annotate import job
from components.annotate.config import AnnotateConfig
from components.shared.launch import launch
from tests.components.annotate.test_annotate_job import FakeEngine, reply
if "--engine=vllm" in sys.argv:
    engine = FakeEngine(Path(sys.argv[1]) / "calls", replies=reply)
    job.open_engine_of = lambda *_, **__: engine
launch("annotate", AnnotateConfig, job.annotate, sys.argv[2:])
"""


def launch(folder: Path, **settings: object) -> Started:
    """The job with exit codes and signals, in a process of its own."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in vars(job_config(folder, **settings)).items()]  # type: ignore[arg-type]
    return Started("launch", str(folder), *flags, code=_LAUNCH, output=folder / "said")


def test_sigterm_ends_with_143_and_loses_at_most_what_is_in_flight(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=300)
    process = launch(tmp_path)
    while num_calls(tmp_path) < 100 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, process.said()
    run(tmp_path)
    made = calls(tmp_path / "calls")
    assert made.total() - len(made) <= 3


def test_a_full_disk_ends_with_75_and_a_journal_that_continues(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=300)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a disk that fills up needs the right to mount one")
    try:
        process = launch(tmp_path, journal_uri=str(disk / "journal"))
        assert process.wait() == 75, process.said()
        assert b"No space left" in process.said()
        assert len(dict(read_journal(str(disk / "journal")))) > 100
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        run(tmp_path, journal_uri=str(disk / "journal"))
    finally:
        subprocess.run(["umount", disk], check=True)
    made = calls(tmp_path / "calls")
    assert made.total() - len(made) <= 3


# A server counts as vanished after ten minutes; a test has less.
_IMPATIENT = {"endpoint_patience_seconds": 1.0}


def test_a_vanished_endpoint_ends_with_75_and_another_continues(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=40)
    answered: list[str] = []
    vanished = threading.Event()

    def answer(path: str, body: dict[str, object]) -> Answer | None:
        if path != "/v1/chat/completions":
            return None
        if vanished.is_set():
            return Answer(503, b"{}")
        answered.append(json.dumps(body, sort_keys=True))
        choice = {"message": {"role": "assistant", "content": "[1]"}, "finish_reason": "stop"}
        return Answer(
            200, json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}).encode()
        )

    first, second = FakeOpenAI(fault=answer), FakeOpenAI(fault=answer)
    first.start()
    process = launch(tmp_path, engine="endpoint", endpoint_uri=first.endpoint_uri, num_in_flight=4, **_IMPATIENT)
    while len(answered) < 50 and process.poll() is None:
        time.sleep(0.001)
    # Connections that are open go on being served; so both a busy and a closed server are met.
    vanished.set()
    first.stop()
    assert process.wait() == 75, process.said()
    before = set(answered)
    answered.clear()
    vanished.clear()
    second.start()
    process = launch(tmp_path, engine="endpoint", endpoint_uri=second.endpoint_uri, num_in_flight=4, **_IMPATIENT)
    assert process.wait() == 0, process.said()
    second.stop()
    assert 50 <= len(before) < 120
    # Three calls a query; those in flight when the server went were asked of both.
    assert len(before | set(answered)) == 120
    assert len(before & set(answered)) <= 4


def _answer(content: str, finish_reason: str | None, usage: dict[str, int] | None) -> Answer:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}
    return Answer(200, json.dumps({"choices": [choice], "usage": usage}).encode())


def test_a_server_that_is_mended_is_asked_again_for_what_it_refused_and_for_nothing_else(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=20)
    bad = {"query 3 ", "query 11 "}
    asked: list[str] = []

    def answer(path: str, body: dict[str, object]) -> Answer | None:
        text = json.dumps(body)
        if path != "/v1/chat/completions":
            return None
        asked.append(text)
        if any(query in text for query in bad):
            return Answer(400, b'{"error": {"code": "content_filter", "message": "not about tides, please"}}')
        return _answer("[1]", "eos_token", None)

    server = FakeOpenAI(fault=answer)
    server.start()
    settings = {"engine": "endpoint", "endpoint_uri": server.endpoint_uri, "journal_uri": str(tmp_path / "journal")}
    annotate(job_config(tmp_path, **settings))
    quarantined = list(read_records(tmp_path / "annotations" / "quarantine.jsonl", Quarantined))
    assert {record.query_id for record in quarantined} == {"q3", "q11"}
    assert {(record.outcome, record.detail) for record in quarantined} == {
        ("refused", "status 400, content_filter: not about tides, please")
    }
    metrics = read_manifest(str(tmp_path / "annotations")).metrics
    assert (metrics["num_annotated"], metrics["calls_refused"], metrics["uncounted_calls"]) == (18, 2, 54)
    assert metrics["unknown_finish_reasons"] == {}
    ledger = json.loads((tmp_path / "annotations" / "logs" / "ledger.json").read_text())
    assert (ledger["total"]["uncounted_calls"], ledger["used"]["uncounted_calls"]) == (54, 54)
    assert ledger["total"]["is_lower_bound"]
    assert {record["finish_reason"] for _, record in read_journal(str(tmp_path / "journal"))} == {"eos_token"}
    bad.clear()
    asked.clear()
    annotate(job_config(tmp_path, "again", **settings))
    server.stop()
    assert read_manifest(str(tmp_path / "again")).metrics["num_annotated"] == 20
    assert len(asked) == 6
    assert all("query 3 " in text or "query 11 " in text for text in asked)


def test_an_unknown_finish_reason_is_counted_and_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_inputs(tmp_path, num_queries=5)
    server = FakeOpenAI(fault=lambda path, _: _answer("[1]", "wave", None) if "chat" in path else None)
    server.start()
    annotate(job_config(tmp_path, engine="endpoint", endpoint_uri=server.endpoint_uri))
    server.stop()
    assert read_manifest(str(tmp_path / "annotations")).metrics["unknown_finish_reasons"] == {"wave": 15}
    assert capfd.readouterr().err.count("finish reason that is not known") == 1


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (Answer(429, b'{"error": {"code": "insufficient_quota", "message": "no"}}'), 65, b"quota is used up"),
        (Answer(503, b"loading"), 75, b"gave up after"),
        (Answer(400, b'{"error": "prompt is bad"}'), 65, b"refused alike"),
        (Answer(400, b'{"error": "unknown field seed"}'), 65, b"--endpoint-omit seed"),
        (Answer(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}), 65, b"'Sign in'; is endpoint_uri"),
    ],
    ids=["quota", "busy", "all refused", "field", "page"],
)
def test_a_server_that_serves_nobody_ends_the_job_with_its_words(
    tmp_path: Path, answer: Answer, code: int, message: bytes
) -> None:
    write_inputs(tmp_path, num_queries=20)
    server = FakeOpenAI(fault=lambda path, _: answer if "chat" in path else None)
    server.start()
    process = launch(tmp_path, engine="endpoint", endpoint_uri=server.endpoint_uri, **_IMPATIENT)
    assert process.wait() == code, process.said()
    server.stop()
    assert message in process.said()
    assert list(read_journal(str(tmp_path / "annotations.journal"))) == []


def test_shards_and_runs_share_what_they_paid_for(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=30)
    journal = str(tmp_path / "journal")
    run(tmp_path, "shard-0", num_shards=2, shard=0, journal_uri=journal)
    run(tmp_path, "shard-1", num_shards=2, shard=1, journal_uri=journal)
    made = num_calls(tmp_path)
    run(tmp_path, "whole", journal_uri=journal)
    assert num_calls(tmp_path) == made
    assert read_manifest(str(tmp_path / "whole")).metrics["calls_made"] == 0
    labelled = [
        its
        for name in ("shard-0", "shard-1", "whole")
        for its in read_records(tmp_path / name / "annotations.jsonl", Annotation)
    ]
    by_query = {its.query_id: its for its in labelled}
    assert all(its == by_query[its.query_id] for its in labelled)
    # A grown corpus: thirty queries as before, ten more.
    grown = tmp_path / "grown"
    grown.mkdir()
    write_inputs(grown, num_queries=40)
    run(grown, journal_uri=journal)
    assert {record["query_id"] for _, record in read_journal(journal) if record["artifact"]} >= {
        f"q{number}" for number in range(40)
    }
    assert num_calls(grown) == len(calls(grown / "calls"))
    asked_again = {record["query_id"] for key, record in read_journal(journal) if key in calls(grown / "calls")}
    assert asked_again <= {f"q{number}" for number in range(30, 40)}


def test_every_pool_is_labelled_or_quarantined_and_says_how(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=200)
    run(tmp_path)
    labelled = list(read_records(tmp_path / "annotations" / "annotations.jsonl", Annotation))
    quarantined = list(read_records(tmp_path / "annotations" / "quarantine.jsonl", Quarantined))
    assert len(labelled) + len(quarantined) == 200
    assert len(quarantined) > 10
    assert all(its.completion and its.detail for its in quarantined)
    assert all(its.outcome in ("ok", "ok_empty", "repaired") for its in labelled)
    metrics = read_manifest(str(tmp_path / "annotations")).metrics
    assert sum(metrics["outcomes"].values()) == 200
    records = dict(read_journal(str(tmp_path / "annotations.journal")))
    assert metrics["calls_made"] == len(records) == len(calls(tmp_path / "calls"))
    assert {key for its in (*labelled, *quarantined) for key in its.calls} == set(records)
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "engine_seconds"):
        # Each call belongs to one query here, so the annotations' sums and the journal's agree.
        ours = sum(getattr(its, name) for its in (*labelled, *quarantined))
        assert ours == pytest.approx(sum(record[name] for record in records.values()))
        assert metrics[name] == pytest.approx(ours)
    outcomes = Counter((its.template, its.outcome) for each in (*labelled, *quarantined) for its in each.exchanges)
    assert {outcome for _, outcome in outcomes} == {
        "ok",
        "ok_empty",
        "repaired",
        "out_of_range",
        "refused",
        "unparseable",
    }
    assert all(
        re.fullmatch(r"paper\.\d+@[0-9a-f]{12}", its.template_version) for each in labelled for its in each.exchanges
    )
    assert all(its.model == f"fake@{hashlib.sha256(b'fake').hexdigest()[:12]}" for its in labelled)
