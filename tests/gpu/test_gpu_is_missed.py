"""A task that asked for a GPU and computes on the CPU fails at once with its reason, whatever it computes with.

These run where there is no GPU: a driver that shows one and a library that does not use it is what they stand for.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from components.export.config import ExportConfig
from components.export.job import export
from components.index.config import IndexConfig
from components.index.engine import open_encoder
from components.serve.service import Service
from components.shared.contract.ending import EXIT_BAD_DATA
from components.shared.contract.needs import Needs
from components.shared.dataset import Dataset
from components.shared.engines.opening import open_engine
from components.train.loop.processes import joined_processes
from tests.components.serve.served import Sources, write_sources
from tests.tiny_llm import write_tiny_llm


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return write_sources(tmp_path_factory.mktemp("missed"))


@pytest.fixture(autouse=True)
def promised(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("RETRIEVER_NEEDS", Needs(num_gpus=1).as_variable())


def _say(program: str, remedy: str) -> str:
    return f"this task asked for 1 GPUs, and {program} would compute on the CPU; .*{remedy}"


def test_train_says_so() -> None:
    with pytest.raises(ValueError, match=_say("torch .*", "take a torch")), joined_processes():
        pass


def test_annotate_with_transformers_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=_say("engine transformers", "use engine vllm")):
        open_engine("transformers", llm_uri=str(write_tiny_llm(tmp_path / "llm", ["moon"])))


def test_export_says_so(tmp_path: Path) -> None:
    config = ExportConfig(checkpoint_uri="none", output_uri=str(tmp_path / "encoder"))
    with pytest.raises(ValueError, match=_say("export", "a profile row without a GPU")):
        export(config)


def test_index_says_so(sources: Sources, tmp_path: Path) -> None:
    uris = {"dataset_uri": sources.dataset_uri, "encoder_uri": sources.encoder_uri, "output_uri": str(tmp_path / "i")}
    with pytest.raises(ValueError, match=_say("onnxruntime fp32", "install onnxruntime-gpu")):
        open_encoder(IndexConfig(**uris), Dataset(Path(sources.dataset_uri)), tmp_path)


def test_serve_says_so(sources: Sources) -> None:
    with pytest.raises(ValueError, match=_say("onnxruntime fp32", "install onnxruntime-gpu")):
        Service(sources.config())


def test_a_served_process_ends_at_once_where_the_driver_shows_none(sources: Sources) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "components.serve", *sources.flags()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == EXIT_BAD_DATA
    assert "asked for 1 GPUs and sees 0" in done.stderr
