"""One job in several processes: the same result, one writer, one exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from components.shared.launch import EXIT_TRANSIENT, EXIT_USAGE
from components.shared.manifest import read_manifest
from components.train.job import train
from components.train.loop.processes import processes_to_start, run_processes
from pipelines.local import flags
from tests.components.train.learnable import config

_ONE_STAGE = "[{name: llm, labels: llm, epochs: 2, learning_rate: 1.0e-3}]"


@pytest.mark.slow
def test_two_processes_train_what_one_trains_and_write_once(inputs: Path) -> None:
    alone, shared = (
        config(inputs, curriculum=_ONE_STAGE),
        config(inputs, curriculum=_ONE_STAGE, output_uri=str(inputs / "shared")),
    )
    train(alone)
    done = subprocess.run(
        [sys.executable, "-m", "components.train", *flags(shared), "--num-processes=2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    metrics = read_manifest(shared.output_uri).metrics
    assert metrics == {**read_manifest(alone.output_uri).metrics, "num_processes": 2}
    losses = []
    for its in (alone, shared):
        rows = map(json.loads, (Path(its.output_uri) / "logs" / "training.jsonl").read_text().splitlines())
        losses.append([row["loss"] for row in rows if "loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    ours, theirs = (load_file(Path(its.output_uri) / "model.safetensors") for its in (alone, shared))
    for name, weight in ours.items():
        # The bias of keys has no gradient but rounding: attention does not depend on it.
        assert (weight - theirs[name]).norm() <= 1e-3 * weight.norm() + 1e-5, name


@pytest.mark.slow
def test_when_one_process_dies_the_job_ends_and_goes_on_when_it_is_run_again(inputs: Path) -> None:
    its = config(inputs, curriculum=_ONE_STAGE)
    command = [sys.executable, "-m", "components.train", *flags(its), "--num-processes=2"]
    written = Path(f"{its.output_uri}.partial") / "logs" / "training.jsonl"
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while job.poll() is None and not (written.exists() and written.read_bytes().count(b'"loss"') >= 5):
        time.sleep(0.005)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    assert job.wait(timeout=120) in (EXIT_TRANSIENT, 128 + signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resuming training" in done.stderr


def test_a_failure_in_all_has_the_exit_code_of_one() -> None:
    assert run_processes(2, ["--no-such-flag=1"]) == EXIT_USAGE


def test_the_number_of_processes_is_asked_for_or_that_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_to_start(["--seed=1"]) == 4
    # Kubeflow writes whole numbers as doubles.
    assert processes_to_start(["--num-processes=2.0"]) == 2
    assert processes_to_start(["--num-processes", "3"]) == 3
    assert processes_to_start(["--num-processes=many"]) == 1
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert processes_to_start([]) == 1
    monkeypatch.setenv("RANK", "1")
    assert processes_to_start(["--num-processes=2"]) == 1
