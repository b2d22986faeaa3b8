"""The server of an LLM in a cluster (llm.py), as a pod and a Service of that name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.cluster.given_cluster import Site
from tests.cluster.kube import Kube, Object


@contextmanager
def llm_server(kube: Kube, site: Site, call_seconds: float) -> Iterator[str]:
    """The address on this machine of an LLM's server in the cluster, which pods reach as `llm`."""
    script = Path(__file__).with_name("llm.py").read_text()
    for manifest in _manifests(script, site.python_image, call_seconds):
        kube.apply(manifest)
    kube.run("wait", "pod/llm", "--for=condition=Ready", "--timeout=60s")
    try:
        with kube.forwarded("pod/llm", 8000) as url:
            yield url
    finally:
        kube.run("delete", "pod/llm", "service/llm", "configmap/llm", "--grace-period=1")


def _manifests(script: str, image: str, call_seconds: float) -> Iterator[Object]:
    metadata = {"name": "llm", "labels": {"app.kubernetes.io/name": "llm"}}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"llm.py": script}}
    port = {"port": 8000, "targetPort": 8000}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": metadata["labels"], "ports": [port]},
    }
    container = {
        "name": "main",
        "image": image,
        "command": ["python", "/llm/llm.py", str(call_seconds)],
        "readinessProbe": {"httpGet": {"path": "/counts", "port": 8000}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "llm", "mountPath": "/llm"}],
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "containers": [container],
        "securityContext": security,
        "automountServiceAccountToken": False,
        "volumes": [{"name": "llm", "configMap": {"name": "llm"}}],
    }
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def counts(llm: str) -> dict[str, int]:
    """Calls that came, different ones, and answered ones."""
    return dict(httpx.get(f"{llm}/counts").json())
