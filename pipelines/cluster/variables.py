"""Environment of a task's container, alike on every target: whose task it is, and what its pod asked for."""

from __future__ import annotations

import re

from components.shared.contract.needs import NEEDS_VARIABLE, Needs
from components.shared.telemetry import PORT_VARIABLE
from components.shared.tracing.spans import ENDPOINT_VARIABLES
from pipelines.cluster.deployment import Deployment
from pipelines.resources import Resources

# Of every task on a cluster, as the monitors of k8s/components/podmonitor and k8s/train have it.
METRICS_PORT = 9400
# Of their pods: what the monitor of tasks selects.
TASK_LABELS = {"app.kubernetes.io/part-of": "retriever", "app.kubernetes.io/component": "task"}
_QUANTITY = re.compile(r"(\d+)(Mi|Gi)")


def pod_variables(name: str, resources: Resources, deployment: Deployment, *, can_ask_for_disk: bool) -> dict[str, str]:
    """Name -> value; those of the deployment come last, so that a person can replace any of ours."""
    needs = Needs(
        num_gpus=resources.num_gpus if resources.gpu else 0,
        shared_memory_bytes=_bytes(resources.shared_memory) if resources.gpu else 0,
        disk_bytes=_bytes(resources.disk) if resources.disk and can_ask_for_disk else 0,
    )
    values = {
        "RETRIEVER_LOG": "json",
        "RETRIEVER_PIPELINE": deployment.name,
        "RETRIEVER_TASK": name,
        # From the request and not from the node: a thread more than that share of CPU waits, and all others for it.
        "OMP_NUM_THREADS": str(_whole_cores(resources.cpu_request or resources.cpu)),
        # A local run may have several containers on one network.
        **({PORT_VARIABLE: str(METRICS_PORT)} if deployment.state_uri else {}),
        **({NEEDS_VARIABLE: needs.as_variable()} if needs != Needs() else {}),
    }
    return {**values, **deployment.variables()}


def is_traced(deployment: Deployment) -> bool:
    """Whether the tasks are told where to send their spans."""
    return any(name in deployment.variables() for name in ENDPOINT_VARIABLES)


def _whole_cores(quantity: str) -> int:
    """At least one."""
    return max(1, int(quantity.removesuffix("m")) // 1000 if quantity.endswith("m") else int(quantity))


def _bytes(quantity: str) -> int:
    match = _QUANTITY.fullmatch(quantity)
    assert match is not None, f"{quantity} is no whole number of Mi or Gi"
    return int(match[1]) << (20 if match[2] == "Mi" else 30)
