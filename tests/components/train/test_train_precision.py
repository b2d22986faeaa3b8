"""auto: what is measured decides, the run keeps it, and every process and every attempt goes by it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.shared.encoding.engines import processor
from components.shared.manifest import compute_identity, input_digests, read_manifest
from components.train import precision
from components.train.job import train
from components.train.loop.model import base_model
from components.train.loop.state import Position, read_state, unpack_state, write_state
from pipelines.local import flags
from tests.components.train.gradients_of import make_batch
from tests.components.train.learnable import config

_CPU = torch.device("cpu")
# 8 steps an epoch: four epochs are more than the fewest that are worth a measurement.
_LONG = "[{name: llm, labels: llm, epochs: 4, learning_rate: 1.0e-3}]"
_SHORT = "[{name: llm, labels: llm, epochs: 1, learning_rate: 1.0e-3}]"


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that says it computes in bf16; what it computes is the same, and slower."""
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2", "avx512_bf16"}))


@pytest.fixture
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset({"avx2"}))


def _metrics(folder: str) -> dict[str, object]:
    return read_manifest(folder).metrics


def test_bf16_must_be_faster_by_the_margin_and_nearly_always() -> None:
    assert precision.verdict([(1.2, 1.0)] * 8)[0] == "bf16"
    # 1.09 times as fast is a tie, which fp32 wins.
    assert precision.verdict([(1.09, 1.0)] * 8)[0] == "fp32"
    # Median 1.5, but slower in three of eight pairs: noise speaks, not the processor.
    assert precision.verdict([(1.5, 1.0)] * 5 + [(0.9, 1.0)] * 3)[0] == "fp32"
    assert precision.verdict([(1.5, 1.0)] * 6 + [(0.9, 1.0)] * 2)[0] == "bf16"
    assert "1.20 times as fast as fp32 (median of 2 pairs)" in precision.verdict([(1.2, 1.0)] * 2)[1]


def test_a_measurement_leaves_weights_gradients_and_draws_alone(inputs: Path) -> None:
    model = base_model(config(inputs)).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    batch = make_batch(inputs)
    slices = precision.step_slices(
        model.tokenize_queries(batch.queries), model.tokenize_passages(batch.passages), encode_rows=4, seed=0, step=0
    )
    pairs = precision.timed_pairs(model, slices)
    assert len(pairs) >= 2
    assert all(fp32 > 0 and bf16 > 0 for fp32, bf16 in pairs)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_slices_that_are_measured_are_of_all_lengths() -> None:
    slices = [precision.Slice([0], [[0] * length], 0) for length in range(1, 17)]
    # Of 16 ordered slices the middle one of each quarter.
    assert [len(piece.token_ids[0]) for piece in precision._spread(slices)] == [3, 7, 11, 15]
    assert len(precision._spread(slices[:2])) == 2


@pytest.mark.usefixtures("without_bf16")
def test_where_bf16_is_emulated_nothing_is_measured(inputs: Path) -> None:
    train(config(inputs, precision="auto", curriculum=_LONG))
    metrics = _metrics(str(inputs / "checkpoint"))
    assert metrics["training_precision"] == "fp32"
    choice = metrics["training_precision_choice"]
    assert choice == {"reason": "bf16 is emulated here (avx2)", "tokens_per_second": {}, "processor": "avx2"}
    train(config(inputs, precision="fp32", curriculum=_LONG, output_uri=str(inputs / "asked")))
    # The same weights as where fp32 was asked for, under another identity.
    ours, theirs = (read_manifest(str(inputs / name)) for name in ("checkpoint", "asked"))
    assert ours.files["model.safetensors"] == theirs.files["model.safetensors"]
    assert ours.identity != theirs.identity
    assert ours.settings["precision"] == "auto"


@pytest.mark.usefixtures("with_bf16")
def test_what_was_measured_is_in_the_manifest_and_decides(inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config(inputs, precision="auto", curriculum=_LONG))
    metrics = _metrics(str(inputs / "checkpoint"))
    choice = metrics["training_precision_choice"]
    assert isinstance(choice, dict)
    assert set(choice["tokens_per_second"]) == {"fp32", "bf16"}
    assert "bf16 was" in choice["reason"]
    assert choice["processor"] == "avx2 avx512_bf16"
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    (said,) = [event for event in events if event["event"] == "precision of training"]
    assert said["precision"] == metrics["training_precision"]


@pytest.mark.usefixtures("with_bf16")
def test_a_short_run_is_not_worth_a_measurement(inputs: Path) -> None:
    train(config(inputs, precision="auto", curriculum=_SHORT))
    choice = _metrics(str(inputs / "checkpoint"))["training_precision_choice"]
    assert isinstance(choice, dict)
    assert choice["reason"] == "fewer than 30 steps are not worth a measurement"


@pytest.mark.usefixtures("without_bf16")
def test_a_run_goes_on_in_what_it_began_with_on_a_machine_that_would_choose_otherwise(
    inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"state_uri": str(inputs / "states")}
    begun = config(inputs, precision="auto", curriculum=_LONG, **places)
    train(begun)
    (kept,) = (inputs / "states").glob("*-precision.json")
    kept.write_bytes(kept.read_bytes().replace(b'"fp32"', b'"bf16"').replace(b'"avx2"', b'"avx512_bf16"'))
    # As on the other machine: it wrote its choice and was gone before its first state.
    for state in (inputs / "states").glob("*.pt"):
        state.unlink()
    train(replace(begun, output_uri=str(inputs / "continued")))
    train(config(inputs, precision="bf16", curriculum=_LONG, output_uri=str(inputs / "asked")))
    ours, theirs = (read_manifest(str(inputs / name)) for name in ("continued", "asked"))
    assert ours.metrics["training_precision"] == "bf16"
    assert ours.files["model.safetensors"] == theirs.files["model.safetensors"]
    assert ours.files["model.safetensors"] != read_manifest(begun.output_uri).files["model.safetensors"]
    assert "the run began in bf16 on another machine and goes on in it, slowly here" in capsys.readouterr().err


def test_a_state_of_another_precision_is_refused(inputs: Path) -> None:
    model = base_model(config(inputs))
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    (inputs / "lines").write_bytes(b"")
    places = {"best_path": inputs / "none", "lines_path": inputs / "lines"}
    uri = str(inputs / "state.pt")
    write_state(uri, Position(step=7), model, optimizer, schedule, precision="bf16", **places)
    content = read_state(uri)
    assert content is not None
    assert unpack_state(content, uri, precision="bf16")["position"] == Position(step=7)
    with pytest.raises(ValueError, match=r"a state of training in bf16, and this run trains in fp32; delete it"):
        unpack_state(content, uri, precision="fp32")


@pytest.mark.usefixtures("with_bf16")
def test_what_is_asked_for_is_neither_measured_nor_kept(inputs: Path) -> None:
    train(config(inputs, precision="fp32", curriculum=_LONG, state_uri=str(inputs / "states")))
    metrics = _metrics(str(inputs / "checkpoint"))
    assert metrics["training_precision"] == "fp32"
    choice = {"reason": "asked for", "tokens_per_second": {}, "processor": "avx2 avx512_bf16"}
    assert metrics["training_precision_choice"] == choice
    assert not list((inputs / "states").glob("*.json"))


@pytest.mark.slow
def test_all_processes_take_what_the_first_one_says(inputs: Path) -> None:
    places = {"state_uri": str(inputs / "states")}
    chosen, asked = (
        config(inputs, precision=name, curriculum=_SHORT, output_uri=str(inputs / name), **places)
        for name in ("auto", "bf16")
    )
    identity = compute_identity("train", chosen, input_digests(chosen))
    begun = {"precision": "bf16", "reason": "", "tokens_per_second": {}, "processor": "avx512_bf16"}
    (inputs / "states").mkdir()
    (inputs / "states" / f"{identity}-precision.json").write_text(json.dumps(begun))
    for its in (chosen, asked):
        command = [sys.executable, "-m", "components.train", *flags(its), "--num-processes=2"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    ours, theirs = (read_manifest(its.output_uri) for its in (chosen, asked))
    # A process that stayed with fp32 would have made other gradients.
    assert ours.files["model.safetensors"] == theirs.files["model.safetensors"]
    assert ours.metrics["training_precision"] == "bf16"


@pytest.mark.usefixtures("without_bf16")
def test_a_device_that_emulates_bf16_is_not_worth_a_try() -> None:
    assert precision.is_worth_a_try("fp32", _CPU)
    assert not precision.is_worth_a_try("bf16", _CPU)
