"""The numbers of a running training, wherever a person looks for them."""

import json
import socket
import struct
import urllib.request
from pathlib import Path

import pytest

from components.shared.telemetry import JobTelemetry
from components.train.job import train
from tests.components.train.learnable import config

_ONE_STAGE = "[{name: human, labels: human, epochs: 1, learning_rate: 1.0e-3}]"
_OF_A_STEP = {
    "loss",
    "gradient_norm",
    "learning_rate",
    "positives_per_query",
    "masked_pairs",
    "masked_share",
    "tokens_per_second",
    "peak_memory_bytes",
}


def test_every_step_has_a_line_and_the_last_values_are_scraped(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("METRICS_PORT", str(port))
    telemetry = JobTelemetry("train")
    train(config(inputs, curriculum=_ONE_STAGE))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        scraped = dict(line.rsplit(" ", 1) for line in reply.read().decode().splitlines() if not line.startswith("#"))
    telemetry.close()
    lines = [json.loads(line) for line in (inputs / "checkpoint" / "logs" / "training.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert all(set(line) == _OF_A_STEP | {"step", "stage", "epoch"} for line in steps)
    for name in _OF_A_STEP:
        assert float(scraped[f"retriever_job_train_{name}"]) == pytest.approx(steps[-1][name])
    assert float(scraped["retriever_job_train_step"]) == len(steps) == 8
    assert float(scraped["retriever_job_train_dev_ndcg_10"]) == pytest.approx(lines[-1]["dev_ndcg_10"])


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), from event files: records of a length (8 bytes), its check (4), an event, its check (4)."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir()):
        content, position = path.read_bytes(), 0
        while position < len(content):
            (size,) = struct.unpack_from("<Q", content, position)
            event = Event.FromString(content[position + 12 : position + 12 + size])
            position += size + 16
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_tensorboard_has_the_same_numbers(inputs: Path) -> None:
    train(config(inputs, curriculum=_ONE_STAGE, tensorboard="yes"))
    logs = inputs / "checkpoint" / "logs"
    steps = [line for line in map(json.loads, (logs / "training.jsonl").read_text().splitlines()) if "loss" in line]
    scalars = _scalars(logs / "tensorboard")
    assert set(scalars) == _OF_A_STEP | {"dev_ndcg_10"}
    assert scalars["loss"] == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in steps]
