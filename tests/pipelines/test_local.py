"""The flow on one machine, as a person runs it: real steps in real processes, on tiny models."""

import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from components.shared.manifest import read_manifest
from components.shared.records import Annotation, read_records
from pipelines.local import flags, plan
from pipelines.settings import complete
from tests.tiny_world import write_tiny_world

pytestmark = pytest.mark.slow

STAGES = [
    {"name": "llm", "labels": "llm", "epochs": 3, "learning_rate": 2e-3},
    {"name": "human", "labels": "human", "human_share": 0.5, "positives": "one", "epochs": 2, "learning_rate": 1e-3},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collection, base model, LLM, parameter file, and a finished run in `done`."""
    folder = tmp_path_factory.mktemp("world")
    write_tiny_world(folder)
    values = {
        "encoder": {"checkpoint_uri": str(folder / "base")},
        # An encoder with random weights scores everything alike, which the audit would refuse.
        "mine": {"num_bm25": 2, "num_dense": 2, "max_suspected_share": 1.0},
        "annotate": {
            "llm_uri": str(folder / "llm"),
            "engine": "transformers",
            "method": "query_likelihood",
            "num_shards": 2,
        },
        "train": {
            "curriculum": STAGES,
            "batch_queries": 4,
            "group_size": 3,
            "loss_temperature": 0.1,
            "checkpoint_steps": 1,
        },
        "index": {"shard_passages": 8},
        "evaluate": {"depth": 10, "num_resamples": 200},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    outcome = run(folder, "done")
    assert outcome.returncode == 0, outcome.stderr
    return folder


def command(world: Path, name: str, *more: str) -> list[str]:
    arguments = [
        "run",
        "--data",
        str(world / "collection"),
        "--workdir",
        str(world / name),
        "--params",
        str(world / "params.yaml"),
    ]
    return [sys.executable, "-m", "pipelines.cli", *arguments, *more]


def run(world: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(world, name, *more), capture_output=True, text=True, timeout=1800, check=False)


def metrics(world: Path, name: str) -> bytes:
    return (world / name / "evaluation" / "metrics.json").read_bytes()


def labels(folder: Path) -> list[Annotation]:
    """Annotations without the seconds that the engine took, which another engine takes too."""
    return [
        dataclasses.replace(each, engine_seconds=0.0) for each in read_records(folder / "annotations.jsonl", Annotation)
    ]


def test_a_run_ends_with_a_table_a_report_and_the_command_that_serves(world: Path) -> None:
    outcome = run(world, "done")
    assert "trained encoder" in outcome.stdout
    assert re.search(r"report: .*/done/evaluation/report.html", outcome.stdout)
    assert f"serve:  retriever serve --workdir {world / 'done'}" in outcome.stdout


def test_a_second_run_executes_no_step_and_says_so(world: Path) -> None:
    outcome = run(world, "done")
    assert "nothing to do: all 10 steps were done already" in outcome.stdout
    assert "running" not in outcome.stderr


def test_a_changed_evaluation_setting_runs_evaluate_only(world: Path) -> None:
    outcome = run(world, "done", "--set", "evaluate.num_resamples=100")
    assert "1 steps executed, 9 unchanged" in outcome.stdout
    assert re.findall(r"\] (\w+): running", outcome.stderr) == ["evaluate"]
    assert "1 steps executed" in run(world, "done").stdout


@pytest.mark.parametrize(
    ("victim", "change", "problem"),
    [
        ("pools/pools.jsonl", "cut", "bytes where the manifest says"),
        ("annotations-1/annotations.jsonl", "edit", "content differs from the manifest's sha256"),
        ("encoder/model.onnx", "remove", "listed in the manifest but missing"),
    ],
)
def test_a_damaged_artifact_is_named_and_nothing_is_lost(world: Path, victim: str, change: str, problem: str) -> None:
    path = world / "done" / victim
    content = path.read_bytes()
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-20] if change == "cut" else content[:-20] + b"\x00" * 20)
    outcome = run(world, "done")
    path.write_bytes(content)
    assert outcome.returncode == 65
    assert str(path) in outcome.stderr
    assert problem in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert run(world, "done").returncode == 0


def test_kill_9_at_five_moments_ends_in_the_same_metrics_and_repeats_no_call(world: Path) -> None:
    for number, step in enumerate(("index", "annotate", "annotate", "train", "evaluate")):
        process = subprocess.Popen(command(world, "killed"), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(rf"\] {step}.*: running", line):
                break
        time.sleep(0.3 + 0.4 * number)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    outcome = run(world, "killed")
    assert outcome.returncode == 0, outcome.stderr
    assert metrics(world, "killed") == metrics(world, "done")
    calls = [
        key
        for path in (world / "killed" / "journal").glob("*.jsonl")
        for key in re.findall(r'"key":"(\w+)"', path.read_text())
    ]
    assert len(calls) == len(set(calls))
    for name in ("annotations-0", "annotations-1"):
        assert labels(world / "killed" / name) == labels(world / "done" / name)
    for name in ("checkpoint", "index"):
        assert read_manifest(str(world / "killed" / name)).digest == read_manifest(str(world / "done" / name)).digest


def test_sigterm_stops_the_step_and_the_run(world: Path) -> None:
    # A shell's background job inherits an ignored SIGINT; a person's terminal does not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command(world, "terminated"), stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "export (base): running" in line:
            break
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "run the same command again; it continues" in stderr
    assert "Traceback" not in stderr.split("pipelines/cli.py")[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--set", "mine.num_querys=3"], 2, "did you mean num_queries?"),
        (["--set", "mine"], 2, "write section.setting=value"),
        (["--data", "/nowhere"], 65, "/nowhere"),
    ],
)
def test_a_users_mistake_is_one_clear_line(world: Path, arguments: list[str], code: int, problem: str) -> None:
    outcome = run(world, "mistake", *arguments)
    assert outcome.returncode == code
    assert problem in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_flags_give_back_the_config() -> None:
    import tyro

    values = {
        "prepare": {"collection_uri": "c"},
        "encoder": {"checkpoint_uri": "b"},
        "annotate": {"llm_uri": "l", "num_shards": 2},
    }
    for step in plan(complete(values), Path("w")):
        assert tyro.cli(type(step.config), args=flags(step.config), use_underscores=False) == step.config
