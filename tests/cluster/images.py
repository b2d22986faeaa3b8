"""Whether the cluster can run an image: found out by running it, which works for loaded images and registries alike."""

from __future__ import annotations

import uuid

from tests.cluster.kube import Kube, until

_MISSING = ("ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName")
_seen: dict[str, bool] = {}


def has_image(kube: Kube, image: str, command: tuple[str, ...] = ("python", "-c", "")) -> bool:
    """Whether a pod of the image starts and its command ends with 0; asked once a session."""
    if image not in _seen:
        _seen[image] = _runs(kube, image, command)
    return _seen[image]


def _runs(kube: Kube, image: str, command: tuple[str, ...]) -> bool:
    name = f"retriever-image-{uuid.uuid4().hex[:6]}"
    container = {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent", "command": list(command)}
    spec = {"restartPolicy": "Never", "containers": [container], "terminationGracePeriodSeconds": 0}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    try:
        return until(120, f"pod {name}", lambda: _verdict(kube, name)) == "runs"
    finally:
        kube.run("delete", "pod", name, "--wait=false")


def _verdict(kube: Kube, name: str) -> str | None:
    status = kube.get("pod", name)["status"]
    if status["phase"] in ("Succeeded", "Failed"):
        return "runs" if status["phase"] == "Succeeded" else "fails"
    for container in status.get("containerStatuses", ()):
        if container["state"].get("waiting", {}).get("reason") in _MISSING:
            return "missing"
    return None
