"""A pod that searches through the server's Service (load.py), as an application in the cluster would."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.kube import Kube, Object, until

SCRIPT = Path(__file__).with_name("load.py")
_CLIENT = {"retriever-client": "true"}
_POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def client_pod(name: str, image: str, script: str, key: str, *, seconds: float, threads: int, depth: int = 3) -> Object:
    """A pod that searches through the Service, as an application in the cluster would."""
    arguments = ["http://retriever-serve", key, str(seconds), str(threads), str(depth)]
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "/load/load.py", *arguments],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": [{"name": "script", "mountPath": "/load"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": _POD_SECURITY,
        "containers": [container],
        "volumes": [{"name": "script", "configMap": {"name": script}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": _CLIENT}, "spec": spec}


def answers_of(kube: Kube, pod: str, seconds: float) -> tuple[dict[str, int], dict[str, int]]:
    """What the client got: answers by status or error, and by release."""
    until(seconds, f"pod {pod}", lambda: kube.get("pod", pod)["status"]["phase"] in ("Succeeded", "Failed"))
    counts = json.loads(kube.logs(pod).splitlines()[-1])
    return counts["answers"], counts["versions"]
