"""The compiled pipeline in real containers, and a failing task."""

import json
import re
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from docker.models.containers import Container
from docker.types import Mount
from kfp import compiler, dsl

from components.shared.engines.loading import loading
from components.shared.manifest import read_manifest
from pipelines.kubeflow import arguments, compile_to
from pipelines.packaged import find_llm
from pipelines.settings import complete
from tests.pipelines.docker_local import run_compiled

pytestmark = [pytest.mark.docker, pytest.mark.slow]


_STAGE = {
    "name": "llm",
    "labels": "llm",
    "loss": "disj_infonce",
    "positives": "all",
    "epochs": 1,
    "learning_rate": 1e-5,
}
_VALUES = {
    "prepare": {"collection_uri": "/collection"},
    "encoder": {"checkpoint_uri": "/models/base", "query_tokens": 16, "passage_tokens": 32},
    "mine": {"num_bm25": 1, "num_dense": 1, "num_queries": 6},
    "annotate": {"llm_uri": "/models/llm", "engine": "transformers", "method": "query_likelihood", "num_shards": 2},
    "train": {
        "curriculum": [_STAGE],
        "batch_queries": 3,
        "group_size": 3,
        "dev_queries": 6,
        "dev_passages": 30,
        "loss_temperature": 0.05,
    },
    "index": {"min_recall": 1.0},
    "evaluate": {"depth": 10, "measures": "nDCG@10 RR@10", "num_resamples": 100},
}


def test_the_compiled_pipeline_runs_in_containers_and_measures(
    tmp_path: Path, tiny_collection: Path, thin_image: str, thin_mounts: dict[str, Path], minilm: Path
) -> None:
    pipeline = tmp_path / "pipeline.yaml"
    settings = complete(_VALUES)
    compile_to(pipeline, settings, "laptop")
    pipeline.write_text(re.sub(r"(?m)(?<=\bimage: ).+$", thin_image, pipeline.read_text()))
    with loading(str(find_llm())) as unpacked, TemporaryDirectory() as llm:
        # A copy, because only its owner may read the original.
        shutil.copytree(unpacked, llm, copy_function=shutil.copyfile, dirs_exist_ok=True)
        Path(llm).chmod(0o755)
        mounts = {**thin_mounts, "/collection": tiny_collection, "/models/base": minilm, "/models/llm": Path(llm)}
        binds = [Mount(target=place, source=str(path), type="bind", read_only=True) for place, path in mounts.items()]
        outputs = run_compiled(pipeline, arguments(settings), tmp_path / "root", network_mode="none", mounts=binds)
    assert set(outputs) == {"dataset", "encoder", "index", "evaluation"}
    _check(outputs, tmp_path / "root")


def _check(outputs: dict[str, Path], root: Path) -> None:
    metrics = json.loads((outputs["evaluation"] / "metrics.json").read_text())
    assert metrics["num_queries"] == 6
    # Six queries that each name their passage among thirty: an encoder that was broken on the way does not find them.
    assert {name: values["nDCG@10"]["mean"] > 0.9 for name, values in metrics["systems"].items()} == dict.fromkeys(
        ("bm25", "base", "trained", "hybrid_base", "hybrid_trained"), True
    )
    assert "<html" in (outputs["evaluation"] / "report.html").read_text()
    (trained,) = root.glob("*/train/checkpoint")
    # The fan-in had both shards, and was not the administrator's.
    assert [
        Path(uri).parent.parent.name for uri in read_manifest(str(trained)).config["annotations_uri"].split(",")
    ] == [
        "for-loop-2-iteration-0",
        "for-loop-2-iteration-1",
    ]
    assert trained.stat().st_uid == 10001


@dsl.container_component
def fail(nothing: dsl.Output[dsl.Artifact]) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(
        image="retriever-base:bookworm", command=["sh", "-c"], args=[f"echo {nothing.path}; exit 3"]
    )


@pytest.fixture(scope="module")
def failing(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    @dsl.pipeline(name="failing")
    def failing() -> None:
        fail()

    path = tmp_path_factory.mktemp("failing") / "pipeline.yaml"
    compiler.Compiler().compile(failing, str(path))
    return path


def _fails(pipeline: Path, root: Path) -> bool:
    try:
        run_compiled(pipeline, {}, root, network_mode="none")
    except RuntimeError as error:
        return "fail" in str(error)
    return False


def test_a_task_that_fails_makes_the_run_fail_20_of_20_times(failing: Path, tmp_path: Path) -> None:
    assert [_fails(failing, tmp_path / "root") for _ in range(20)] == [True] * 20


def test_a_container_that_ends_before_its_log_is_read_still_fails(
    failing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = Container.logs

    def late(self: Container, **options: Any) -> Any:
        time.sleep(1)
        return logs(self, **options)

    monkeypatch.setattr(Container, "logs", late)
    assert _fails(failing, tmp_path / "root")
