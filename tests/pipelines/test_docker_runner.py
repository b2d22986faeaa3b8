"""The compiled pipeline in real containers, and a failing task."""

import json
from pathlib import Path
from typing import Any

import pytest
from docker.types import Mount
from kfp import compiler, dsl

from pipelines.docker_local import run_compiled
from pipelines.packaged import find_llm
from pipelines.retriever import arguments, compile_to

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_the_compiled_pipeline_runs_in_containers_and_measures(
    tmp_path: Path, tiny_collection: Path, thin_images: dict[str, Any], minilm: Path
) -> None:
    lengths = {"query_tokens": 16, "passage_tokens": 32}
    values = {
        "prepare": {"collection_uri": str(tiny_collection)},
        "base": {"checkpoint_uri": str(minilm), **lengths},
        "mine": {"num_bm25": 1, "num_dense": 1, "num_queries": 6},
        "annotate": {"llm_uri": str(find_llm()), "engine": "transformers", "method": "query_likelihood", "num_shards": 2},
        "train": {
            "curriculum": [
                {"name": "llm", "labels": "llm", "loss": "disj_infonce", "positives": "all", "epochs": 1, "learning_rate": 1e-5}
            ],
            "batch_queries": 3,
            "group_size": 3,
            "dev_queries": 6,
            "dev_passages": 30,
            **lengths,
        },
        "index": {"min_recall": 1.0},
        "evaluate": {"depth": 10, "measures": "nDCG@10 RR@10", "num_resamples": 100},
    }
    compile_to(tmp_path / "pipeline.yaml", values, "laptop")
    mounts = [*thin_images["mounts"], *(_read_only(path) for path in (tiny_collection, minilm, find_llm()))]
    outputs = run_compiled(tmp_path / "pipeline.yaml", arguments(values), tmp_path / "root", **{**thin_images, "mounts": mounts})
    assert set(outputs) == {"dataset", "encoder", "index", "evaluation"}
    metrics = json.loads((outputs["evaluation"] / "metrics.json").read_text())
    print(json.dumps(metrics)[:3000])


@dsl.container_component
def fail(nothing: dsl.Output[dsl.Artifact]) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image="retriever-base:bookworm", command=["sh", "-c"], args=[f"echo {nothing.path}; exit 3"])


def test_a_task_that_fails_makes_the_run_fail_20_of_20_times(tmp_path: Path, base_image: str) -> None:
    @dsl.pipeline(name="failing")
    def failing() -> None:
        fail()

    compiler.Compiler().compile(failing, str(tmp_path / "failing.yaml"))
    failures = 0
    for _ in range(20):
        with pytest.raises(RuntimeError, match="fail"):
            run_compiled(tmp_path / "failing.yaml", {}, tmp_path / "root", network_mode="none")
        failures += 1
    assert failures == 20


def _read_only(path: Path) -> Mount:
    return Mount(target=str(path), source=str(path), type="bind", read_only=True)
