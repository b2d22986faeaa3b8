"""Training on GPUs: bf16 learns what fp32 learns on a CPU, in one process and in several, and resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.manifest import read_manifest
from components.train.config import TrainConfig
from pipelines.local import flags
from tests.components.train.learnable import config, write_inputs
from tests.gpu.devices import DEVICES, torch_gpus

_CURRICULUM = "[{name: llm, labels: llm, epochs: 4, learning_rate: 3.0e-3}]"
# bf16 keeps 8 bits. The first loss is that of the same batch; then the weights go their own ways.
_FIRST_LOSS, _LAST_LOSS = 0.02, 0.3


@pytest.fixture(scope="module")
def trained_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and `expected`: trained in fp32 on the CPU."""
    folder = write_inputs(tmp_path_factory.mktemp("gpu-train"))
    _run(_config(folder, "expected", precision="fp32"), device="cpu")
    return folder


def _config(folder: Path, name: str, **settings: object) -> TrainConfig:
    alike = {"curriculum": _CURRICULUM, "dropout": "off", "dev_human_share": 1.0}
    return config(folder, output_uri=str(folder / name), **alike, **settings)


def _run(its: TrainConfig, *, device: str, num_processes: int = 1) -> str:
    """Trains in processes of its own, which see GPUs or none, and are promised what they should see; what they said."""
    # The CPU must be chosen here, where there is a GPU: no GPU is visible then.
    seen = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {"RETRIEVER_NEEDS": f'{{"num_gpus":{num_processes}}}'}
    command = [sys.executable, "-m", "components.train", *flags(its), f"--num-processes={num_processes}"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **seen})
    assert done.returncode == 0, done.stderr
    return done.stderr


def _losses(folder: Path, name: str) -> list[float]:
    lines = (folder / name / "logs" / "training.jsonl").read_text().splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("device", DEVICES)
def test_bf16_learns_what_fp32_learns_on_a_cpu(trained_inputs: Path, device: str, num_processes: int) -> None:
    if device == "cuda":
        # NCCL gives each process a GPU of its own.
        torch_gpus(num_processes)
    name = f"bf16-{device}-{num_processes}"
    _run(_config(trained_inputs, name, precision="bf16"), device=device, num_processes=num_processes)
    ours, expected = _losses(trained_inputs, name), _losses(trained_inputs, "expected")
    assert ours[0] == pytest.approx(expected[0], rel=_FIRST_LOSS)
    assert ours[0] != expected[0], "bf16 was not computed in"
    assert sum(ours[-4:]) == pytest.approx(sum(expected[-4:]), rel=_LAST_LOSS)
    metrics, theirs = (read_manifest(str(trained_inputs / its)).metrics for its in (name, "expected"))
    assert metrics["num_processes"] == num_processes
    assert metrics["training_precision"] == "bf16"
    assert metrics["best_dev_ndcg_10"] >= theirs["best_dev_ndcg_10"] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_auto_says_what_it_measured_on_the_device(trained_inputs: Path, device: str) -> None:
    if device == "cuda":
        torch_gpus()
    said = _run(_config(trained_inputs, f"auto-{device}", precision="auto"), device=device)
    metrics = read_manifest(str(trained_inputs / f"auto-{device}")).metrics
    choice = metrics["training_precision_choice"]
    assert '"precision of training"' in said
    if device == "cuda":
        import torch

        assert choice["processor"] == torch.cuda.get_device_name(0)
        measured = set(choice["tokens_per_second"])
        assert measured == ({"fp32", "bf16"} if torch.cuda.is_bf16_supported(including_emulation=False) else set())
    else:
        assert metrics["training_precision"] in ("fp32", "bf16")
