"""What Argo's own words on a workflow mean: its nodes as tasks, attempts of one task together.

A task with a retry strategy is a node of its own above one pod an attempt, and says nothing of why the last one failed;
its pods do. Source: Argo Workflows 4.0, `Workflow.status.nodes`, as a real controller wrote them.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from pipelines.operate.runs import Run, State, TaskRun

Object = dict[str, Any]
_STATES: Mapping[str, State] = {
    "": "waiting",
    "Pending": "waiting",
    "Running": "running",
    "Succeeded": "succeeded",
    "Failed": "failed",
    "Error": "failed",
    "Skipped": "skipped",
    "Omitted": "skipped",
}


def run_of(workflow: Mapping[str, Any]) -> Run:
    """A Workflow as a run."""
    status: Mapping[str, Any] = workflow.get("status") or {}
    return Run(
        name=workflow["metadata"]["name"],
        identifier=workflow["metadata"]["name"],
        state=_STATES.get(str(status.get("phase") or ""), "running"),
        reason=str(status.get("message") or ""),
        started=time_of(status.get("startedAt")),
        finished=time_of(status.get("finishedAt")),
        tasks=_tasks(workflow["metadata"]["name"], _nodes(status)),
        parameters=_parameters(workflow, status),
    )


def time_of(text: object) -> datetime | None:
    """A time as Kubernetes writes it."""
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text else None


def _nodes(status: Mapping[str, Any]) -> Mapping[str, Object]:
    """Node by id; those of a workflow of thousands of pods are packed."""
    if packed := status.get("compressedNodes"):
        return dict(orjson.loads(gzip.decompress(base64.b64decode(packed))))
    return status.get("nodes") or {}


def _parameters(workflow: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, str]:
    """What the template gives, and over it what the run was started with."""
    specs = (status.get("storedWorkflowTemplateSpec") or {}, workflow.get("spec") or {})
    listed = [one for spec in specs for one in (spec.get("arguments") or {}).get("parameters") or ()]
    return {one["name"]: str(one["value"]) for one in listed if "value" in one}


def _tasks(workflow: str, nodes: Mapping[str, Object]) -> tuple[TaskRun, ...]:
    retried = [node for node in nodes.values() if node["type"] == "Retry"]
    attempts = {identifier for node in retried for identifier in node.get("children") or ()}
    tasks = [_retried(workflow, node, nodes) for node in retried]
    for identifier, node in nodes.items():
        if node["type"] in ("Pod", "Skipped") and identifier not in attempts:
            tasks.append(_task(workflow, node, node, str(node.get("message") or "")))
    # A task that is left out begins and ends in the same second as the one before it ends.
    return tuple(sorted(tasks, key=lambda task: (str(task.started), task.state == "skipped", task.name)))


def _retried(workflow: str, node: Object, nodes: Mapping[str, Object]) -> TaskRun:
    pods = [nodes[identifier] for identifier in node.get("children") or () if identifier in nodes]
    if not pods:
        return _task(workflow, node, node, str(node.get("message") or ""))
    last = max(pods, key=lambda pod: str(pod.get("startedAt")))
    message = str(last.get("message") or "")
    if node["phase"] == "Running" and last["phase"] in ("Failed", "Error"):
        # Argo waits before it tries again.
        return _task(workflow, {**node, "phase": "Pending"}, last, f"attempt {len(pods)} failed ({message})")
    shown = {**node, "phase": last["phase"]} if node["phase"] == "Running" else node
    return _task(workflow, shown, last, message or str(node.get("message") or ""))


def _task(workflow: str, node: Object, pod: Object, message: str) -> TaskRun:
    # Source: Argo's PodName, version 2: workflow, template, and the number at the end of the node's id.
    number = str(pod["id"]).rpartition("-")[2]
    state = _STATES.get(str(node.get("phase") or ""), "running")
    return TaskRun(
        name=str(node["displayName"]),
        state=state,
        reason=message if state in ("failed", "waiting") else "",
        started=time_of(node.get("startedAt")),
        finished=time_of(node.get("finishedAt")),
        pod=f"{workflow}-{node['templateName']}-{number}" if pod["type"] == "Pod" else "",
    )


def newest_first(workflows: Sequence[Object]) -> list[Object]:
    """By the time of their creation."""
    return sorted(workflows, key=lambda one: str(one["metadata"].get("creationTimestamp")), reverse=True)
