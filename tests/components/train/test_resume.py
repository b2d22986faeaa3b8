"""Killed, preempted, out of disk: a training ends with the bytes of one that nobody disturbed."""

import dataclasses
import json
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from components.shared import checkpoint
from components.shared.manifest import read_manifest
from components.train.config import TrainConfig
from components.train.job import train
from components.train.loop.state import Position, read_state, unpack_state, write_state
from pipelines.local import flags
from tests.components.train.learnable import config
from tests.started import Started

# 24 steps of the first stage, 8 a epoch, then 8 of the second; a state every 2 steps.
_FIRST_STAGE, _LATE_IN_FIRST, _SECOND_STAGE = 3, 15, 29


def _run_until(config: TrainConfig, num_steps: int) -> None:
    """Starts the job and kills it with signal 9 when that many steps are written."""
    written = Path(f"{config.output_uri}.partial") / "logs" / "training.jsonl"
    process = Started("components.train", *flags(config))
    while process.poll() is None and not (
        written.exists() and sum(b'"loss"' in line for line in written.read_bytes().splitlines()) >= num_steps
    ):
        time.sleep(0.005)
    assert process.poll() is None, "the job ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def _weights(folder: str) -> str:
    return str(read_manifest(folder).files["model.safetensors"]["sha256"])


def _lines(folder: str) -> list[tuple[int, float | None, float | None]]:
    rows = [json.loads(line) for line in (Path(folder) / "logs" / "training.jsonl").read_text().splitlines()]
    return [(row["step"], row.get("loss"), row.get("dev_ndcg_10")) for row in rows]


@pytest.mark.slow
def test_kill_9_in_either_stage_ends_in_the_same_bytes_and_lines(inputs: Path) -> None:
    whole, killed = config(inputs), config(inputs, output_uri=str(inputs / "killed"))
    train(whole)
    for num_steps in (_FIRST_STAGE, _LATE_IN_FIRST, _SECOND_STAGE):
        _run_until(killed, num_steps)
    train(killed)
    assert _weights(killed.output_uri) == _weights(whole.output_uri)
    assert _lines(killed.output_uri) == _lines(whole.output_uri)
    assert read_manifest(killed.output_uri).metrics == read_manifest(whole.output_uri).metrics


@pytest.mark.slow
def test_a_preempted_pod_goes_on_from_a_bucket_with_gradcache_and_adapters(inputs: Path, bucket: str) -> None:
    settings = {"held_rows": 3, "lora_rank": 2, "state_uri": f"{bucket}/{inputs.name}/state"}
    whole = config(inputs, held_rows=3, lora_rank=2)
    killed = config(inputs, output_uri=str(inputs / "killed"), **settings)
    train(whole)
    for num_steps in (_LATE_IN_FIRST, _SECOND_STAGE):
        _run_until(killed, num_steps)
        # The next pod has another disk.
        shutil.rmtree(f"{killed.output_uri}.partial")
    train(killed)
    assert _weights(killed.output_uri) == _weights(whole.output_uri)
    assert _lines(killed.output_uri) == _lines(whole.output_uri)


def test_a_state_that_finds_no_room_leaves_the_last_one_whole(inputs: Path) -> None:
    model = checkpoint.load(str(inputs / "base"))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    (inputs / "lines").write_bytes(b"")
    uri = inputs / "states" / "state.pt"
    places = {"best_path": inputs / "none", "lines_path": inputs / "lines", "precision": "fp32"}
    write_state(str(uri), Position(step=7), model, optimizer, schedule, **places)
    before, limits = uri.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        # As a full disk does, this stops a write in the middle.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            write_state(str(uri), Position(step=8), model, optimizer, schedule, **places)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in uri.parent.iterdir()] == ["state.pt"]
    assert uri.read_bytes() == before
    content = read_state(str(uri))
    assert content is not None
    assert unpack_state(content, str(uri), precision="fp32")["position"] == Position(step=7)


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04 and no more"])
def test_what_is_no_state_is_named(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"gs://b/state\.pt: no training state .* delete it to train from the start"):
        unpack_state(content, "gs://b/state.pt", precision="fp32")


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_at_the_same_step_with_fewer_rows_held(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = config(inputs, output_uri=str(inputs / "smaller"))
    _run_until(first, _LATE_IN_FIRST)
    train(dataclasses.replace(first, held_rows=4))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    (resumed,) = [event for event in events if event["event"] == "resuming training"]
    # A state is written every second step.
    assert resumed["step"] in (_LATE_IN_FIRST - 2, _LATE_IN_FIRST - 1, _LATE_IN_FIRST, _LATE_IN_FIRST + 1)
    steps = [step for step, loss, _ in _lines(first.output_uri) if loss is not None]
    assert steps == list(range(1, 33))
    # The same gradients but for the order of sums: the same steps to a few digits.
    whole = config(inputs, output_uri=str(inputs / "undisturbed"))
    train(whole)
    losses = [
        [loss for _, loss, _ in _lines(folder) if loss is not None] for folder in (first.output_uri, whole.output_uri)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
