"""Volumes of a node's folders, for clusters whose storage makes none by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster.kube import Kube, Object, until

_OWNER = 10001


def has_default_storage(kube: Kube) -> bool:
    """Whether a claim without a class gets a volume."""
    default = "storageclass.kubernetes.io/is-default-class"
    classes = kube.items("storageclass")
    return any(one["metadata"].get("annotations", {}).get(default) == "true" for one in classes)


def node_volume(name: str, path: str, *, claim: tuple[str, str], mode: str) -> Object:
    """A PersistentVolume of a folder on the node that only one claim (namespace, name) gets."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": [mode],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "hostPath": {"path": path},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim[0], "name": claim[1]},
        },
    }


@contextmanager
def folder_on_the_node(kube: Kube, name: str, image: str) -> Iterator[str]:
    """A folder on the node that the pods' user owns, which goes with the block; a root pod of `kube` makes it."""
    path = f"/var/tmp/{name}"
    _as_root(kube, f"{name}-make", image, f"mkdir -p {path} && chown {_OWNER}:{_OWNER} {path}")
    try:
        yield path
    finally:
        _as_root(kube, f"{name}-remove", image, f"rm -rf {path}")


def _as_root(kube: Kube, name: str, image: str, script: str) -> None:
    # The folder's parent is mounted: whoever removes a folder cannot have it mounted.
    mounts = [{"name": "parent", "mountPath": "/var/tmp"}]
    container = {
        "name": "main",
        "image": image,
        "command": ["sh", "-c", script],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": mounts,
    }
    volumes = [{"name": "parent", "hostPath": {"path": "/var/tmp"}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    phase = until(60, f"pod {name}", lambda: _end(kube, name))
    assert phase == "Succeeded", kube.logs(name)
    kube.run("delete", "pod", name)


def _end(kube: Kube, name: str) -> str | None:
    phase = str(kube.get("pod", name)["status"]["phase"])
    return phase if phase in ("Succeeded", "Failed") else None
