"""The compiled pipeline in real containers, from a registry and by digest, and a failing task."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from docker.client import DockerClient
from docker.errors import ImageNotFound
from docker.models.containers import Container
from docker.types import Mount
from kfp import compiler, dsl

from components.shared.engines.loading import loading
from components.shared.manifest import read_manifest
from pipelines.kubeflow import arguments
from pipelines.packaged import find_llm
from pipelines.settings import complete
from tests.light_images import make_images
from tests.loopback_registry import Registry
from tests.pipelines.docker_local import HARDENED, run_compiled

pytestmark = [pytest.mark.docker, pytest.mark.slow]

# Of the tasks of the run: components whose own images run, and those that hold torch.
_LIGHT, _HEAVY = ("prepare", "mine", "index", "evaluate"), ("annotate", "train", "export")
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


@pytest.fixture(scope="module")
def digests(
    registry: Registry,
    light_images: Mapping[str, str],
    base_image: str,
    thin_image: str,
    docker_daemon: DockerClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What `make images PUSH=1` leaves, with the thin image for what holds torch; only the registry has them."""
    path = tmp_path_factory.mktemp("pushed") / "digests.json"
    where, tag = f"{registry.host}/retriever", "0.0.1"
    make_images(where, tag, *_LIGHT, BASE_IMAGE=base_image, NETWORK="none", PUSH="1", DIGESTS=str(path))
    thin = f"{where}/thin"
    docker_daemon.images.get(thin_image).tag(thin, tag)
    docker_daemon.images.push(thin, tag)
    (of_thin,) = (one for one in docker_daemon.images.get(thin_image).attrs["RepoDigests"] if one.startswith(thin))
    pushed = json.loads(path.read_text())
    path.write_text(json.dumps(pushed | dict.fromkeys(_HEAVY, of_thin)))
    for name in (*_LIGHT, "thin"):
        docker_daemon.images.remove(f"{where}/{name}:{tag}")
    return path


def test_the_compiled_pipeline_is_pinned_by_digest_pulled_from_a_registry_and_measures(
    tmp_path: Path,
    tiny_collection: Path,
    digests: Path,
    registry: Registry,
    docker_daemon: DockerClient,
    thin_mounts: dict[str, Path],
    minilm: Path,
) -> None:
    pipeline, parameters = tmp_path / "pipeline.yaml", tmp_path / "parameters.yaml"
    parameters.write_text(yaml.safe_dump(_VALUES))
    flags = ["--profile=laptop", f"--params={parameters}", f"--output={pipeline}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("REGISTRY", "TAG")}
    command = [sys.executable, "-m", "pipelines.cli", "compile", *flags]
    subprocess.run(command, check=True, env=environment | {"IMAGE_DIGESTS": str(digests)})
    references = set(re.findall(r"(?m)^ *image: (.+)$", pipeline.read_text()))
    assert references == set(json.loads(digests.read_text()).values())
    assert all(re.fullmatch(rf"{registry.host}/retriever/\w+@sha256:[0-9a-f]{{64}}", one) for one in references)
    for reference in references:
        with pytest.raises(ImageNotFound):
            docker_daemon.images.get(reference)
    with loading(str(find_llm())) as unpacked, TemporaryDirectory() as llm:
        # A copy, because only its owner may read the original.
        shutil.copytree(unpacked, llm, copy_function=shutil.copyfile, dirs_exist_ok=True)
        Path(llm).chmod(0o755)
        mounts = {**thin_mounts, "/collection": tiny_collection, "/models/base": minilm, "/models/llm": Path(llm)}
        binds = [Mount(target=place, source=str(path), type="bind", read_only=True) for place, path in mounts.items()]
        given = arguments(complete(_VALUES))
        outputs = run_compiled(pipeline, given, tmp_path / "root", network_mode="none", mounts=binds, **HARDENED)
    assert set(outputs) == {"dataset", "encoder", "index", "evaluation"}
    _check(outputs, tmp_path / "root")
    assert [reference for reference in references if not registry.pulled(reference)] == []


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
