"""A job from its flags to its exit code, as a container runs it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.shared.launch import parse_flags
from components.shared.manifest import read_manifest
from components.shared.roles import INPUT, OUTPUT, SETTING, refuse
from tests.components.shared.pushgateway import pushed_groups, pushgateway


@dataclass(frozen=True, kw_only=True)
class _Config:
    annotations_uri: str = field(metadata=INPUT)
    output_uri: str = field(metadata=OUTPUT)
    num_shards: int = field(default=1, metadata=SETTING)
    loss_temperature: float = field(default=1.0, metadata=SETTING)
    query_prefix: str = field(default="", metadata=SETTING)
    curriculum: str = field(default="", metadata=SETTING)

    def __post_init__(self) -> None:
        refuse(self, *(["num_shards -7: a test refuses it"] if self.num_shards == -7 else []))


_PLACES = ["--annotations-uri=a", "--output-uri=o"]


def _parsed(*flags: str) -> _Config:
    return parse_flags("train", _Config, [*_PLACES, *flags])


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("7.0", 7), ("-1.0", -1), ("0.0", 0), ("12.000", 12)])
def test_an_int_may_arrive_as_a_double(text: str, number: int) -> None:
    assert _parsed(f"--num-shards={text}").num_shards == number


@pytest.mark.parametrize(("text", "number"), [("7", 7.0), ("7.0", 7.0), ("3e-05", 3e-5), ("0.00003", 3e-5)])
def test_a_float_may_arrive_in_any_spelling(text: str, number: float) -> None:
    assert _parsed(f"--loss-temperature={text}").loss_temperature == number


@pytest.mark.parametrize(
    "text",
    ["", " ", "-", "--num-shards=3", "query: ", "7.0", "- {name: llm}", '[{"name": "llm"}]', "\n- {a: 1}\n", "a=b"],
)
def test_any_text_survives_as_a_value(text: str) -> None:
    assert _parsed(f"--curriculum={text}", f"--query-prefix={text}").query_prefix == text


@pytest.mark.parametrize("flag", ["--num-shards=7.5", "--num-shards=", "--num-shard=3", "--loss-temperature=warm"])
def test_a_wrong_flag_is_a_usage_error(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _parsed(flag)
    assert caught.value.code == 2
    assert "train" in capsys.readouterr().err or flag.split("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("uri", "path"),
    [("/root/x", "/root/x"), ("gs://b/x", "/gcs/b/x"), ("minio://b/x", "/minio/b/x"), ("s3://b/x", "/s3/b/x")],
)
def test_a_list_of_artifacts_becomes_all_their_local_paths(uri: str, path: str) -> None:
    executor_input = {
        "inputs": {"artifacts": {"annotations": {"artifacts": [{"uri": f"{uri}-{shard}"} for shard in range(3)]}}}
    }
    parsed = parse_flags("train", _Config, ["--annotations-uri=executor-input", "--output-uri=o"], executor_input)
    assert parsed.annotations_uri == f"{path}-0,{path}-1,{path}-2"


def test_a_list_that_the_executor_input_lacks_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_flags(
            "train",
            _Config,
            ["--annotations-uri=executor-input", "--output-uri=o"],
            {"inputs": {"artifacts": {"pools": {}}}},
        )
    assert caught.value.code == 2
    assert "no artifacts 'annotations'; it has ['pools']" in capsys.readouterr().err


# A job like any other, whose body the test chooses.
_JOB = """
import errno, sys, time
from dataclasses import dataclass
from components.shared.launch import TransientError, launch
from components.shared.manifest import BusyError, artifact_writer
from dataclasses import field
from components.shared.roles import OUTPUT, SETTING

@dataclass(frozen=True, kw_only=True)
class Config:
    output_uri: str = field(metadata=OUTPUT)
    seed: int = field(default=42, metadata=SETTING)

def job(config):
    with artifact_writer("index", config) as artifact:
        {body}
        (artifact.path / "rows.txt").write_text("1\\n")
        artifact.metrics["num_rows"] = 1
        artifact.metrics["kind"] = "small"

launch("index", Config, job)
"""


def _start(tmp_path: Path, body: str, *flags: str, **environment: str) -> "subprocess.Popen[str]":
    script = tmp_path / "job.py"
    script.write_text(_JOB.format(body=textwrap.indent(textwrap.dedent(body), " " * 8).strip()))
    command = [sys.executable, str(script), f"--output-uri={tmp_path / 'artifact'}", *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})


def _run(tmp_path: Path, body: str = "", *flags: str, **environment: str) -> tuple[int, list[dict[str, Any]]]:
    process = _start(tmp_path, body, *flags, **environment)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, [json.loads(line) for line in errors.splitlines() if line.startswith("{")]


def test_a_job_writes_its_artifact_and_what_kfp_reads(tmp_path: Path) -> None:
    outputs = {
        "outputFile": str(tmp_path / "output.json"),
        "artifacts": {"index": {"artifacts": [{"uri": str(tmp_path / "artifact")}]}},
    }
    code, _ = _run(tmp_path, "", "--executor-input", json.dumps({"outputs": outputs}))
    assert code == 0
    assert read_manifest(str(tmp_path / "artifact")).metrics == {"num_rows": 1, "kind": "small"}
    artifact = json.loads((tmp_path / "output.json").read_text())["artifacts"]["index"]["artifacts"][0]
    assert artifact == {"name": "index", "uri": str(tmp_path / "artifact"), "metadata": {"num_rows": 1.0}}


def test_what_a_job_wrote_another_user_can_read(tmp_path: Path) -> None:
    outputs = {"outputFile": str(tmp_path / "output.json"), "artifacts": {"index": {"artifacts": [{"uri": "x"}]}}}
    _run(tmp_path, "", "--executor-input", json.dumps({"outputs": outputs}))
    for path in (tmp_path / "output.json", tmp_path / "artifact" / "manifest.json"):
        assert path.stat().st_mode & 0o044 == 0o044


def test_an_unchanged_job_does_nothing_and_still_tells_kfp(tmp_path: Path) -> None:
    _run(tmp_path)
    outputs = {"outputFile": str(tmp_path / "output.json"), "artifacts": {"index": {"artifacts": [{"uri": "x"}]}}}
    before = (tmp_path / "artifact" / "manifest.json").read_bytes()
    code, lines = _run(tmp_path, "", "--executor-input", json.dumps({"outputs": outputs}))
    assert code == 0
    assert "unchanged" in lines[-1]["event"]
    assert (tmp_path / "artifact" / "manifest.json").read_bytes() == before
    assert (tmp_path / "output.json").exists()


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("raise ValueError('corpus.jsonl:3: not JSON; mend the line')", 65, "corpus.jsonl:3: not JSON; mend the line"),
        ("open('/nowhere/at/all')", 65, "/nowhere/at/all"),
        ("raise TransientError('endpoint answers 503')", 75, "endpoint answers 503"),
        ("raise BusyError('another process')", 75, "another process"),
        ("raise OSError(errno.ENOSPC, 'No space left on device')", 75, "No space left on device"),
        ("raise KeyboardInterrupt", 143, "interrupted"),
    ],
)
def test_exit_codes_say_whether_a_retry_helps(tmp_path: Path, body: str, code: int, said: str) -> None:
    told = tmp_path / "termination-log"
    told.touch()
    found, lines = _run(tmp_path, body, RETRIEVER_TERMINATION_LOG=str(told))
    assert found == code
    assert lines[-1]["level"] == "error"
    assert said in lines[-1]["problem"]
    # What Kubernetes, Argo and Kubeflow show without the logs.
    assert told.read_text().startswith(f"index: {lines[-1]['problem']}")
    assert not (tmp_path / "artifact").exists()


def test_an_error_of_ours_shows_its_traceback(tmp_path: Path) -> None:
    told = tmp_path / "termination-log"
    told.touch()
    process = _start(tmp_path, "assert config.seed == 0, 'no seed'", RETRIEVER_TERMINATION_LOG=str(told))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "AssertionError" in errors
    assert told.read_text() == "index: AssertionError: no seed"


def test_a_wrong_flag_is_told_to_the_platform_in_one_line(tmp_path: Path) -> None:
    told = tmp_path / "termination-log"
    told.touch()
    code, _ = _run(tmp_path, "", "--sed=1", RETRIEVER_TERMINATION_LOG=str(told))
    assert code == 2
    assert told.read_text().startswith("index: ")
    assert "--sed" in told.read_text()
    assert "\n" not in told.read_text()


def test_an_executor_input_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    assert _run(tmp_path, "", "--executor-input", "{{$}}")[0] == 2
    assert _run(tmp_path, "", "--executor-input")[0] == 2


def test_a_pod_that_was_promised_a_gpu_and_has_none_ends_before_it_works(tmp_path: Path) -> None:
    # Whoever runs the tests may have one, but not a thousand.
    code, lines = _run(tmp_path, "", RETRIEVER_NEEDS='{"num_gpus": 1000}')
    assert code == 65
    assert "this task asked for 1000 GPUs and sees" in lines[-1]["problem"]
    assert not (tmp_path / "artifact.partial").exists()


def test_sigterm_keeps_finished_work_and_exits_143(tmp_path: Path) -> None:
    process = _start(tmp_path, "(artifact.scratch / 'half').write_text('done'); time.sleep(60)")
    half = tmp_path / "artifact.partial" / ".scratch" / "half"
    deadline = time.monotonic() + 30
    while not half.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert half.read_text() == "done"
    code, _ = _run(tmp_path, "assert (artifact.scratch / 'half').read_text() == 'done'")
    assert code == 0


def test_a_job_that_sigterm_ended_is_pushed_as_a_failure(tmp_path: Path) -> None:
    with pushgateway() as url:
        process = _start(
            tmp_path, "(artifact.scratch / 'half').write_text('done'); time.sleep(60)", PUSHGATEWAY_URL=url
        )
        half = tmp_path / "artifact.partial" / ".scratch" / "half"
        deadline = time.monotonic() + 30
        while not half.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 143
        (metrics,) = pushed_groups(url).values()
        assert metrics["last_success"] == 0
        assert _run(tmp_path, "", PUSHGATEWAY_URL=url)[0] == 0
        (metrics,) = pushed_groups(url).values()
        assert metrics["last_success"] == 1
        assert metrics["num_rows"] == 1
        assert metrics["last_failure_timestamp_seconds"] < metrics["last_success_timestamp_seconds"]


def test_a_store_that_is_away_ends_a_job_with_try_again_and_a_wrong_uri_with_bad_data(tmp_path: Path) -> None:
    body = "from components.shared.durable import storage; storage.write_bytes({uri!r}, b'1')"
    away = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:9", "RETRIEVER_STORE_SECONDS": "1"}
    code, lines = _run(tmp_path, body.format(uri="gs://bucket/file"), **away)
    assert (code, "did not answer" in lines[-1]["problem"]) == (75, True)
    code, lines = _run(tmp_path, body.format(uri="az://bucket/file"))
    assert (code, "cannot read or write az://" in lines[-1]["problem"]) == (65, True)


def test_a_job_dies_with_the_run_that_started_it(tmp_path: Path) -> None:
    # The parent it names is not its parent, as when that died before the job could look.
    code, _ = _run(tmp_path, "", RETRIEVER_PARENT_PID="1")
    assert code == 143
