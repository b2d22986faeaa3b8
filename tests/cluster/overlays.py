"""A user's own overlay over one of k8s/: another namespace, the images that this cluster has, components."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.cluster.given_cluster import Site
from tests.cluster.kube import Object

K8S = Path(__file__).parents[2] / "k8s"


def write_overlay(
    folder: Path,
    below: str,
    site: Site,
    *,
    namespace: str,
    artifacts: Mapping[str, str] | None = None,
    components: Sequence[str] = (),
) -> Path:
    """A folder for `kubectl apply --kustomize`.

    Args:
        folder: Where it goes.
        below: Folder of k8s/ that it changes.
        site: The cluster's images.
        namespace: Where everything goes, instead of `retriever`.
        artifacts: Name of a variable -> URI, instead of those of the overlay below.
        components: Folders of k8s/components to take in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": [_relative(K8S / below, folder)],
        "images": _images(site),
        "components": [_relative(K8S / "components" / name, folder) for name in components],
    }
    if artifacts is not None:
        literals = [f"{name}={value}" for name, value in artifacts.items()]
        content["configMapGenerator"] = [
            {"name": "retriever-serve-artifacts", "behavior": "replace", "literals": literals}
        ]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def _relative(path: Path, folder: Path) -> str:
    # kustomize takes no absolute path.
    return os.path.relpath(path.resolve(), folder.resolve())


def _images(site: Site) -> list[Object]:
    return [{"name": "retriever/serve", "newName": f"{site.registry}/serve", "newTag": site.tag}]
