"""k8s/train/job.yaml with its GPUs taken out by a patch trains in a restricted namespace and leaves a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.shared.durable import storage
from components.shared.manifest import read_manifest
from tests.cluster.argo_runs import package_volumes, packages_in_pod
from tests.cluster.conftest import Store
from tests.cluster.given_cluster import Site, cannot
from tests.cluster.images import has_image
from tests.cluster.kube import Kube, Object, is_true, until
from tests.cluster.overlays import K8S
from tests.components.train.learnable import STAGES, write_inputs

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_INPUTS = "s3://retriever/train-job"


@pytest.fixture(scope="module")
def image(kube: Kube, site: Site) -> str:
    image = site.image("train")
    if not has_image(kube, image):
        cannot(f"the cluster has no image {image}; load it (tests/cluster/README.md)")
    return image


@pytest.fixture
def own(kube: Kube, site: Site, store: Store, namespace: str, tmp_path: Path) -> Iterator[Kube]:
    """The session's namespace, which has the Secret and the account, with what training reads in the store."""
    inputs = write_inputs(tmp_path)
    for name in ("dataset", "annotations-0", "annotations-1", "base"):
        storage.publish(inputs / name, f"{_INPUTS}/{name}")
    cluster = Kube(namespace)
    volumes = list(package_volumes(site, namespace)) if site.thin_image else []
    if volumes:
        cluster.apply(*volumes)
    yield cluster
    cluster.run("delete", "job", "--selector=app.kubernetes.io/name=retriever-train")
    for volume in volumes:
        cluster.run("delete", volume["kind"].lower(), volume["metadata"]["name"], "--wait=false")


def _patched(site: Site, image: str) -> Object:
    """The Job without its GPU node, for this image and these inputs."""
    settings = {
        "dataset-uri": f"{_INPUTS}/dataset",
        "annotations-uri": f"{_INPUTS}/annotations-0,{_INPUTS}/annotations-1",
        "checkpoint-uri": f"{_INPUTS}/base",
        "output-uri": f"{_INPUTS}/checkpoint",
        "state-uri": f"{_INPUTS}/state",
        "curriculum": STAGES,
        "loss-temperature": "0.1",
        "batch-queries": "4",
        "group-size": "4",
    }
    pod, container = "/spec/template/spec", "/spec/template/spec/containers/0"
    patch = [
        {"op": "remove", "path": f"{pod}/nodeSelector"},
        {"op": "remove", "path": f"{pod}/tolerations"},
        {"op": "replace", "path": f"{container}/image", "value": image},
        {
            "op": "replace",
            "path": f"{container}/args",
            "value": [f"--{name}={value}" for name, value in settings.items()],
        },
        {
            "op": "replace",
            "path": f"{container}/resources",
            "value": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}},
        },
    ]
    words = [
        "patch",
        "--local",
        "--type=json",
        f"--filename={K8S / 'train' / 'job.yaml'}",
        f"--patch={json.dumps(patch)}",
    ]
    manifest = json.loads(Kube("default").run(*words, "--output=json"))
    if site.thin_image:
        packages_in_pod(manifest["spec"]["template"]["spec"])
    return dict(manifest)


def test_the_job_trains_without_its_gpus(own: Kube, site: Site, image: str, figures: Callable[[str], None]) -> None:
    name = own.create(_patched(site, image))
    job = until(400, f"job {name}", lambda: _ended(own, name), 2)
    logs = own.attempt("logs", f"job/{name}", "--tail=20").stdout
    assert is_true(job, "Complete"), logs
    manifest = read_manifest(f"{_INPUTS}/checkpoint")
    assert manifest.metrics["num_steps"] > 0
    figures(f"{manifest.metrics['num_steps']} steps, {manifest.seconds:.0f} s of training")


def test_bad_data_fails_the_job_at_its_first_attempt(own: Kube, site: Site, image: str) -> None:
    manifest = _patched(site, image)
    arguments = manifest["spec"]["template"]["spec"]["containers"][0]["args"]
    manifest["spec"]["template"]["spec"]["containers"][0]["args"] = [
        f"--dataset-uri={_INPUTS}/nowhere" if argument.startswith("--dataset-uri") else argument
        for argument in arguments
    ]
    name = own.create(manifest)
    job = until(300, f"job {name}", lambda: _ended(own, name), 2)
    (failed,) = [one for one in job["status"]["conditions"] if one["type"] == "Failed"]
    assert failed["reason"] == "PodFailurePolicy"
    assert "exit code 65" in failed["message"]
    assert job["status"]["failed"] == 1


def _ended(kube: Kube, name: str) -> Object | None:
    job = kube.get("job", name)
    return job if is_true(job, "Complete") or is_true(job, "Failed") else None
