"""A task that asked for a GPU and computes on the CPU fails at once with its reason, whatever it computes with.

These run where there is no GPU: a driver that shows one and a library that does not use it is what they stand for.
"""

from pathlib import Path

import pytest
import torch

from components.export.config import ExportConfig
from components.export.job import export
from components.index.config import IndexConfig
from components.index.engine import open_encoder
from components.serve.config import ServeConfig
from components.serve.service import Service
from components.shared.contract.needs import Needs
from components.shared.dataset import Dataset
from components.shared.engines.opening import open_engine
from components.train.loop.processes import joined_processes
from tests.components.serve.served import write_world
from tests.tiny_llm import write_tiny_llm

_SAYS = "this task asked for 1 GPUs, and {} would compute on the CPU; "


@pytest.fixture(autouse=True)
def promised(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setenv("RETRIEVER_NEEDS", Needs(num_gpus=1).as_variable())


def test_train_says_so() -> None:
    with pytest.raises(ValueError, match=_SAYS.format("torch .*") + "take a torch"), joined_processes():
        pass


def test_annotate_with_transformers_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=_SAYS.format("engine transformers") + "use engine vllm"):
        open_engine("transformers", llm_uri=str(write_tiny_llm(tmp_path / "llm", ["moon"])))


def test_export_says_so(tmp_path: Path) -> None:
    config = ExportConfig(checkpoint_uri="none", output_uri=str(tmp_path / "encoder"))
    with pytest.raises(ValueError, match=_SAYS.format("export") + ".* a profile row without a GPU"):
        export(config)
