"""The namespace in which Argo runs what it is given, made ready for the tests and left as it was."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from tests.cluster.argo_runs import Workflow, mount_packages, mounted_images, package_volumes
from tests.cluster.given_cluster import Site, cannot
from tests.cluster.images import has_image
from tests.cluster.kube import Kube, Object
from tests.cluster.overlays import K8S

ROOT = K8S.parent
_ENFORCE = "pod-security.kubernetes.io/enforce"
_COMPONENTS = ("prepare", "mine", "annotate", "train", "export", "index", "evaluate", "promote")


@contextmanager
def argo_namespace(kube: Kube, site: Site) -> Iterator[Kube]:
    """Argo's namespace with the account of k8s/pipeline, what the thin image needs, and `restricted` enforced."""
    own = Kube(site.argo_namespace)
    if kube.attempt("get", "workflows.argoproj.io", f"--namespace={own.namespace}").returncode:
        cannot("the cluster has no Argo Workflows; install it, or set RETRIEVER_CLUSTER_ARGO_NAMESPACE")
    _check_images(kube, site)
    with ExitStack() as stack:
        stack.enter_context(_restricted(own))
        own.run("apply", f"--kustomize={K8S / 'pipeline'}")
        stack.callback(own.run, "delete", f"--kustomize={K8S / 'pipeline'}", "--ignore-not-found")
        if site.thin_image:
            given = _listed(package_volumes(site, own.namespace))
            own.run("apply", "--filename=-", given=given)
            stack.callback(own.run, "delete", "--filename=-", "--wait=false", given=given)
        yield own


def _check_images(kube: Kube, site: Site) -> None:
    for image in dict.fromkeys(site.image(name) for name in _COMPONENTS):
        if not has_image(kube, image):
            cannot(f"the cluster has no image {image}; load it (tests/cluster/README.md)")


def _listed(manifests: Iterator[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


@contextmanager
def _restricted(kube: Kube) -> Iterator[None]:
    """Inside the block the namespace lets no pod in that needs a privilege, where it does not say so already."""
    labels = kube.get("namespace", kube.namespace)["metadata"].get("labels", {})
    if _ENFORCE in labels:
        yield
        return
    kube.run("label", "namespace", kube.namespace, f"{_ENFORCE}=restricted")
    try:
        yield
    finally:
        kube.run("label", "namespace", kube.namespace, f"{_ENFORCE}-")


def retriever(command: str, **environment: str) -> str:
    """Runs a command line that begins with `retriever`, variables before it included."""
    whole = command.replace(".venv/bin/retriever", f"{shlex.quote(sys.executable)} -m pipelines.cli")
    done = subprocess.run(
        ["bash", "-c", whole], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{whole}: {done.stdout[-500:]}{done.stderr[-2000:]}"
    return done.stdout


def compiled(command: str, output: Path, site: Site, *, values: Mapping[str, object], more: str = "") -> Path:
    """The file that a `retriever compile` with more settings wrote, with the node's packages where they are needed."""
    settings = " ".join(f"--set {shlex.quote(f'{name}={_written(value)}')}" for name, value in values.items())
    images = {"REGISTRY": site.registry, "TAG": site.tag, **mounted_images(site)}
    retriever(f"{command} {settings} {more} --output {output}", **images)
    manifests = [mount_packages(one, site) if one["kind"] == "WorkflowTemplate" else one for one in read(output)]
    output.write_text(yaml.safe_dump_all(manifests, sort_keys=False))
    return output


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text()))


def begin(kube: Kube, template: str, **spec: object) -> Workflow:
    """Starts a run of a WorkflowTemplate; `spec` goes over its spec."""
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": f"{template}-"},
        "spec": {"workflowTemplateRef": {"name": template}, **spec},
    }
    return Workflow(kube, kube.create(manifest))
