"""What kustomize builds, and whether it is valid: Kubernetes' own kinds by its schemas, others by strict ones here."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
VERSION = "1.32"
Manifest = dict[str, Any]

# The validator lets unknown kinds pass, so a mistyped kind must fail here.
KINDS = {
    "ConfigMap": "v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Job": "batch/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "StatefulSet": "apps/v1",
}


def build(folder: Path) -> list[Manifest]:
    """The manifests that `kubectl apply --kustomize` would send; skips where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return [dict(manifest) for manifest in yaml.safe_load_all(done.stdout)]


def by_kind(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Kind -> manifest, where there is one of each."""
    assert len({manifest["kind"] for manifest in manifests}) == len(manifests)
    return {manifest["kind"]: manifest for manifest in manifests}


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (manifest,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return manifest


def problems(manifest: Manifest) -> list[str]:
    """What is wrong with it: an unknown kind or field, a wrong type."""
    kind = manifest["kind"]
    if kind in OURS:
        errors = jsonschema.Draft202012Validator(OURS[kind]).iter_errors(manifest)
        return [f"{kind}: {error.json_path}: {error.message}" for error in errors]
    if KINDS.get(kind) != manifest["apiVersion"]:
        return [f"{manifest['apiVersion']} {kind} is not one of ours"]
    try:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{kind}: {error.message}"]
    return []


def _closed(**properties: object) -> Manifest:
    """An object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _resource(api_version: str, kind: str, **more: object) -> Manifest:
    metadata = {"type": "object", "required": ["name"]}
    return _closed(apiVersion={"const": api_version}, kind={"const": kind}, metadata=metadata, **more)


_TEXT = {"type": "string", "minLength": 1}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_SELECTOR = _closed(matchLabels=_TEXTS)
_SECONDS = {"type": "string", "pattern": "^[0-9]+s$"}
_RELABELING = {
    "type": "object",
    "properties": {
        "sourceLabels": {"type": "array", "items": _TEXT},
        "action": {"enum": ["keep", "replace"]},
        "regex": _TEXT,
        "replacement": _TEXT,
        "targetLabel": _TEXT,
    },
    "required": ["sourceLabels", "action", "regex"],
    "additionalProperties": False,
}
_RELABELINGS = {"type": "array", "minItems": 1, "items": _RELABELING}
_ENDPOINT = {
    "anyOf": [
        _closed(port=_TEXT, path=_TEXT, interval=_SECONDS),
        _closed(path=_TEXT, interval=_SECONDS, relabelings=_RELABELINGS),
    ]
}
_ENDPOINTS = {"type": "array", "minItems": 1, "items": _ENDPOINT}
_RULE = {
    "type": "object",
    "properties": {
        "alert": _TEXT,
        "expr": _TEXT,
        "for": {"type": "string", "pattern": "^[0-9]+[mh]$"},
        "labels": _closed(severity={"enum": ["critical", "warning", "info"]}),
        "annotations": _closed(summary=_TEXT, runbook=_TEXT),
    },
    "required": ["alert", "expr", "labels", "annotations"],
    "additionalProperties": False,
}
_GROUPS = {"type": "array", "minItems": 1, "items": _closed(name=_TEXT, rules={"type": "array", "items": _RULE})}
_QUOTA = _closed(name=_TEXT, nominalQuota=_TEXT)
_FLAVOR = _closed(name=_TEXT, resources={"type": "array", "items": _QUOTA})
_TOLERATION = _closed(key=_TEXT, operator={"const": "Exists"}, effect={"const": "NoSchedule"})
_QUEUE = _closed(
    namespaceSelector=_SELECTOR,
    queueingStrategy={"enum": ["BestEffortFIFO", "StrictFIFO"]},
    preemption=_closed(withinClusterQueue={"enum": ["Never", "LowerPriority", "LowerOrNewerEqualPriority"]}),
    resourceGroups={
        "type": "array",
        "items": _closed(
            coveredResources={"type": "array", "items": _TEXT}, flavors={"type": "array", "items": _FLAVOR}
        ),
    },
)
_FLAVOR_RESOURCE = _resource("kueue.x-k8s.io/v1beta1", "ResourceFlavor")
# A flavor of any node has no spec.
_FLAVOR_RESOURCE["properties"]["spec"] = _closed(nodeLabels=_TEXTS, tolerations={"type": "array", "items": _TOLERATION})
# What KServe adds to the spec of a pod; the rest is checked as a pod (test_components.py).
KSERVE_FIELDS = ("labels", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget")
_PREDICTOR = {
    "type": "object",
    "properties": {
        "labels": _TEXTS,
        "minReplicas": {"type": "integer", "minimum": 1},
        "maxReplicas": {"type": "integer"},
        "scaleMetric": {"enum": ["cpu", "memory"]},
        "scaleTarget": {"type": "integer", "maximum": 100},
    },
    "required": ["containers", *KSERVE_FIELDS],
}

# Strict: written from the operators' API references, for the fields that are used here and no other.
OURS: dict[str, Manifest] = {
    "PodMonitor": _resource(
        "monitoring.coreos.com/v1", "PodMonitor", spec=_closed(selector=_SELECTOR, podMetricsEndpoints=_ENDPOINTS)
    ),
    "PodMonitoring": _resource(
        "monitoring.googleapis.com/v1", "PodMonitoring", spec=_closed(selector=_SELECTOR, endpoints=_ENDPOINTS)
    ),
    "PrometheusRule": _resource("monitoring.coreos.com/v1", "PrometheusRule", spec=_closed(groups=_GROUPS)),
    "ResourceFlavor": _FLAVOR_RESOURCE,
    "ClusterQueue": _resource("kueue.x-k8s.io/v1beta1", "ClusterQueue", spec=_QUEUE),
    "LocalQueue": _resource("kueue.x-k8s.io/v1beta1", "LocalQueue", spec=_closed(clusterQueue=_TEXT)),
    "InferenceService": _resource("serving.kserve.io/v1beta1", "InferenceService", spec=_closed(predictor=_PREDICTOR)),
}
