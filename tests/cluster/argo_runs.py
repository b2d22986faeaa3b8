"""Workflows on a cluster with Argo: started, watched, and what their pods did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.cluster.given_cluster import Site
from tests.cluster.kube import Kube, Object, until
from tests.cluster.volumes import node_volume

_ENDED = ("Succeeded", "Failed", "Error")
# Where the node's folders are mounted for them.
_PLACES = {"/site-packages": "site-packages", "/code": "code"}


@dataclass(frozen=True)
class Node:
    """One pod of a workflow as Argo saw it."""

    name: str
    template: str
    phase: str
    message: str
    started: datetime
    finished: datetime | None
    pod: str
    exit_code: str

    @property
    def seconds(self) -> float:
        assert self.finished is not None
        return (self.finished - self.started).total_seconds()


class Workflow:
    """A workflow that was started."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube, self.name = kube, name

    def status(self) -> Object:
        return dict(self.kube.get("workflow", self.name).get("status", {}))

    def phase(self) -> str:
        return str(self.status().get("phase", ""))

    def message(self) -> str:
        return str(self.status().get("message", ""))

    def ended(self, seconds: float) -> str:
        """Its last phase."""
        return until(seconds, f"workflow {self.name}", lambda: phase if (phase := self.phase()) in _ENDED else None, 2)

    def nodes(self) -> list[Node]:
        """Its pods, in the order in which they started."""
        found = self.status().get("nodes", {}).values()
        pods = [_node(self.name, one) for one in found if one["type"] == "Pod" and one.get("startedAt")]
        return sorted(pods, key=lambda node: node.started)

    def running(self, template: str) -> Node | None:
        """The pod of a template that runs now."""
        return next((node for node in self.nodes() if node.template == template and node.phase == "Running"), None)

    def seconds(self) -> float:
        status = self.status()
        return (_time(status["finishedAt"]) - _time(status["startedAt"])).total_seconds()

    def stop(self) -> None:
        """Ends it, whatever it does."""
        self.kube.run("patch", "workflow", self.name, "--type=merge", '--patch={"spec":{"shutdown":"Terminate"}}')


def _node(workflow: str, status: Mapping[str, Any]) -> Node:
    finished = status.get("finishedAt")
    template = str(status["templateName"])
    # Source: Argo's PodName, version 2: workflow, template, and the number at the end of the node's id.
    number = str(status["id"]).rpartition("-")[2]
    return Node(
        name=str(status["displayName"]),
        template=template,
        phase=str(status["phase"]),
        message=str(status.get("message", "")),
        started=_time(str(status["startedAt"])),
        finished=_time(str(finished)) if finished else None,
        pod=f"{workflow}-{template}-{number}",
        exit_code=str(status.get("outputs", {}).get("exitCode", "")),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def mounted_images(site: Site) -> dict[str, str]:
    """Variables for `retriever compile` that name the thin image for the components whose packages are mounted."""
    return {f"IMAGE_{name.upper()}": site.image(name) for name in site.mounted} if site.thin_image else {}


def mount_packages(manifest: Object, site: Site) -> Object:
    """The WorkflowTemplate with the node's packages and code in the pods of the thin image."""
    if not site.thin_image:
        return manifest
    for template in manifest["spec"]["templates"]:
        if template.get("container", {}).get("image") == site.thin_image:
            template["podSpecPatch"] = json.dumps(_pod_patch())
    return manifest


def _pod_patch() -> Object:
    container: Object = {"name": "main"}
    pod: Object = {"containers": [container]}
    packages_in_pod(pod)
    return pod


def packages_in_pod(pod: Object) -> None:
    """Mounts the node's packages and code into the one container of a pod's spec."""
    (container,) = pod["containers"]
    pod.setdefault("volumes", []).extend(
        {"name": name, "persistentVolumeClaim": {"claimName": f"retriever-{name}", "readOnly": True}}
        for name in _PLACES.values()
    )
    mounts = ({"name": name, "mountPath": path, "readOnly": True} for path, name in _PLACES.items())
    container.setdefault("volumeMounts", []).extend(mounts)
    variables = {"PYTHONPATH": "/code:/site-packages", "HOME": "/tmp"}
    container.setdefault("env", []).extend({"name": name, "value": value} for name, value in variables.items())


def package_volumes(site: Site, namespace: str) -> Iterator[Object]:
    """Volumes and claims of the node's folders: a restricted namespace takes claims and no folders of a node."""
    for name, path in (("site-packages", site.site_packages), ("code", site.code)):
        claim = f"retriever-{name}"
        yield node_volume(f"{claim}-{namespace}", path, claim=(namespace, claim), mode="ReadOnlyMany")
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "storageClassName": "",
                "volumeName": f"{claim}-{namespace}",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
