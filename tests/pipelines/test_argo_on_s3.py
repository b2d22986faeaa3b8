"""The compiled WorkflowTemplate as a cluster runs it, without the cluster: nothing but a bucket between its tasks."""

import os
from pathlib import Path

import orjson
import pytest
import yaml

from components.shared.durable import storage
from components.shared.manifest import read_manifest
from pipelines import argo
from pipelines.cluster.deployment import Deployment
from pipelines.settings import complete
from tests.pipelines.argo_local import run_workflow
from tests.tiny_world import write_tiny_world

pytestmark = pytest.mark.slow

_STAGE = {"name": "llm", "labels": "llm", "epochs": 1, "learning_rate": 2e-3}
# What the code and the store of a test need, beside what the template says.
_MACHINE = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_HUB_OFFLINE")


def _upload(folder: Path, uri: str) -> str:
    for name in storage.list_files(str(folder)):
        storage.write_bytes(f"{uri}/{name}", (folder / name).read_bytes())
    return uri


def _values(folder: Path, bucket: str) -> dict[str, dict[str, object]]:
    """Settings whose every input lies in the bucket."""
    collection = write_tiny_world(folder)
    base, llm = (_upload(folder / name, f"{bucket}/models/{name}") for name in ("base", "llm"))
    labels = folder / "labels.tsv"
    labels.write_text("query\tpassage\tlabel\nq-volcano-history\tvolcano-history\t1\n")
    storage.write_bytes(f"{bucket}/labels.tsv", labels.read_bytes())
    return {
        "prepare": {"collection_uri": _upload(collection, f"{bucket}/collection")},
        "encoder": {"checkpoint_uri": base},
        # An encoder with random weights scores everything alike, which the audit would refuse.
        "mine": {"num_bm25": 2, "num_dense": 2, "max_suspected_share": 1.0},
        "annotate": {"llm_uri": llm, "engine": "transformers", "method": "query_likelihood", "num_shards": 2}
        | {"utility_labels_uri": f"{bucket}/labels.tsv"},
        "train": {"curriculum": [_STAGE], "batch_queries": 4, "group_size": 3, "loss_temperature": 0.1},
        "index": {"shard_passages": 8, "num_shards": 2},
        "evaluate": {"depth": 10, "num_resamples": 100},
    }


def test_every_job_reads_and_writes_a_bucket_and_finished_work_is_not_done_again(
    tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "registry.example.com")
    settings = complete(_values(tmp_path, s3_bucket))
    root = f"{s3_bucket}/runs/tiny"
    argo.compile_to(tmp_path / "argo.yaml", settings, "kind", Deployment(artifact_root=root))
    workflow = yaml.safe_load((tmp_path / "argo.yaml").read_text())
    machine = {name: os.environ[name] for name in _MACHINE} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}

    pods = run_workflow(workflow, {}, tmp_path / "first", **machine)
    assert len(pods) == len(set(pods)) == 14
    metrics = orjson.loads(storage.read_bytes(f"{root}/evaluation/metrics.json"))
    assert metrics["num_queries"] == 6
    trained = read_manifest(f"{root}/checkpoint")
    assert trained.config["annotations_uri"] == f"{root}/annotations-0,{root}/annotations-1"
    # The calls of both shards are where a third run would look for them.
    assert storage.list_files(f"{root}/state/journal")

    created = {name: read_manifest(f"{root}/{name}").created for name in ("dataset", "annotations-1", "evaluation")}
    run_workflow(workflow, {}, tmp_path / "second", **machine)
    assert {name: read_manifest(f"{root}/{name}").created for name in created} == created
