"""The real API server accepts what k8s/ holds: every overlay and component by a dry run, without a warning."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.conftest import new_namespace
from tests.cluster.given_cluster import Site
from tests.cluster.kube import Kube, Object
from tests.cluster.overlays import K8S, write_overlay

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_FOLDERS = ("base", "overlays/kind", "overlays/gke", "overlays/kind/pipeline", "overlays/gke/pipeline")
_COMPONENTS = ("kserve", "kueue", "podmonitor", "podmonitoring")


@pytest.fixture(scope="module")
def restricted(kube: Kube, namespace: str) -> Iterator[Kube]:
    """An empty namespace with the labels of ours: a dry run refuses what would go into one that does not exist."""
    labels = yaml.safe_load((K8S / "namespace" / "namespace.yaml").read_text())["metadata"]["labels"]
    with new_namespace(kube, f"{namespace}-dry", labels) as own:
        yield own


@pytest.mark.parametrize("folder", _FOLDERS)
def test_the_api_server_accepts_the_overlay_without_a_warning(
    folder: str, restricted: Kube, site: Site, tmp_path: Path
) -> None:
    overlay = write_overlay(tmp_path, folder, site, namespace=restricted.namespace)
    done = restricted.attempt("apply", "--server-side", "--dry-run=server", f"--kustomize={overlay}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "serverside-applied (server dry run)" in done.stdout


@pytest.mark.parametrize("component", _COMPONENTS)
def test_the_api_server_accepts_the_component_where_its_operator_is(
    component: str, restricted: Kube, site: Site, tmp_path: Path
) -> None:
    overlay = write_overlay(tmp_path, "base", site, namespace=restricted.namespace, components=[component])
    built = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, text=True, check=True).stdout
    foreign = [
        one for one in yaml.safe_load_all(built) if "." in one["apiVersion"].replace(".k8s.io", "", 1).split("/")[0]
    ]
    for kind in {one["kind"] for one in foreign}:
        if restricted.attempt("get", kind).returncode:
            # Nobody needs all of them, so this is no lack of the cluster.
            pytest.skip(f"the cluster knows no {kind}; install its operator to have {component} checked")
    done = restricted.attempt("apply", "--server-side", "--dry-run=server", f"--kustomize={overlay}")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_api_server_accepts_the_training_job(restricted: Kube) -> None:
    done = restricted.attempt("create", "--dry-run=server", f"--filename={K8S / 'train' / 'job.yaml'}")
    assert (done.returncode, done.stderr) == (0, "")


def _pod(**security: object) -> Object:
    container = {"name": "main", "image": "retriever/serve:none", "securityContext": security}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": {"containers": [container]}}


def test_the_namespace_refuses_a_pod_with_a_privilege(restricted: Kube) -> None:
    done = restricted.attempt("create", "--dry-run=server", "--filename=-", given=json.dumps(_pod(privileged=True)))
    assert done.returncode != 0
    assert 'violates PodSecurity "restricted' in done.stderr
