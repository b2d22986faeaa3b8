"""The flow as an Argo WorkflowTemplate, and as a CronWorkflow where it has a schedule.

Tasks hand each other addresses: every job reads and writes s3:// or gs:// itself, so Argo needs no artifact repository
and copies nothing. An artifact has one address per artifact root, not one a run: a job that finds its own artifact
there, made from the same inputs, settings and code, does nothing. That is why one mutex per artifact root lets only one
run at a time write there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from typing import Any

import yaml

from components.shared.contract.executor import OUTPUT_NAMES_VARIABLE, OUTPUTS_VARIABLE
from components.shared.contract.verdict import PASSED, VERDICT
from components.shared.launch import EXIT_TERMINATED, EXIT_TRANSIENT
from components.shared.roles import SECTIONS_VARIABLE, sections_value
from components.shared.telemetry import GATEWAY_VARIABLE
from components.shared.tracing.spans import RUN_VARIABLE
from pipelines import flow
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.images import build_of, image
from pipelines.cluster.names import component_name, field_sentences, slug
from pipelines.cluster.places import STATE, durable_places, run_parameters
from pipelines.cluster.refusals import refuse_for_cluster
from pipelines.cluster.variables import METRICS_PORT, TASK_LABELS, is_traced, pod_variables
from pipelines.flow import Settings, Task
from pipelines.resources import GPU_RESOURCE, GPU_SELECTOR, SPOT_SELECTOR, Resources, profile_of
from pipelines.settings import SettingsError, missing, required

ROOT = "artifact_root"
Object = dict[str, Any]

# SIGKILL, which is also what a container gets that takes too much memory.
_KILLED = 137
# No code at all: the pod was lost before it had one.
_NO_CODE = -1
_RETRIED = [_NO_CODE, EXIT_TRANSIENT, _KILLED, EXIT_TERMINATED]
# The user that the images run as; any other works too.
_USER = 10001
_DAY = 86_400
# Writable in a container whose own files are read-only: downloads, partial artifacts, caches of models and kernels.
_SCRATCH = "/tmp"
# Where a task leaves what a condition compares.
_OUTPUTS = f"{_SCRATCH}/outputs"
# The graph of a run, and the one inside it of what is done only where there is something to do.
_WHOLE, _BEHIND = "retriever", "flow"
# The template that tells what came of a run, and its component.
_OUTCOME, _CHECK = "outcome", "check"


def compile_to(path: Path, settings: Settings, profile: str, deployment: Deployment) -> None:
    """Writes the WorkflowTemplate and, with a schedule, the CronWorkflow as YAML for `kubectl apply`.

    Raises:
        SettingsError: Naming everything that a cluster cannot run, with its remedy.
        ValueError: Where there is no such profile.
    """
    if not deployment.artifact_root:
        raise SettingsError(
            ["artifact-root is not set: tasks hand each other folders in a bucket; add --artifact-root s3://bucket/run"]
        )
    root = deployment.artifact_root.rstrip("/")
    deployment = replace(deployment, artifact_root=root, state_uri=deployment.state_uri or f"{root}/state")
    refuse_for_cluster(settings, profile, deployment)
    objects = [workflow_template(settings, profile, deployment)]
    if deployment.schedule:
        if problems := missing(settings):
            raise SettingsError(
                [f"{problem}; nobody fills it in when a schedule starts the run" for problem in problems]
            )
        objects.append(cron_workflow(deployment))
    path.write_text(yaml.safe_dump_all(objects, sort_keys=False, width=120), "utf-8")


def workflow_template(settings: Settings, profile: str, deployment: Deployment) -> Object:
    """The WorkflowTemplate of complete settings on the machines of a profile.

    Raises:
        ValueError: Where there is no such profile, or Argo would read a setting as a template.
    """
    machines, tasks = profile_of(profile), flow.taking_part(settings)
    templates = [_template(task, settings, machines[task.component], deployment) for task in tasks]
    # A run whose tasks are all unchanged, or whose pod was lost, is told of by nobody else.
    is_reported = GATEWAY_VARIABLE in deployment.variables()
    if is_reported:
        templates.append(_outcome(machines[_CHECK], deployment))
    spec = {
        "entrypoint": _WHOLE,
        **({"onExit": _OUTCOME} if is_reported else {}),
        "arguments": {"parameters": list(_parameters(settings, deployment))},
        **({"serviceAccountName": deployment.service_account} if deployment.service_account else {}),
        # Two runs would write the same artifacts.
        "synchronization": {"mutexes": [{"name": f"retriever-{slug(deployment.artifact_root)}"}]},
        # Pods that wait for a place for ever have no deadline of their own; the workflow has.
        "activeDeadlineSeconds": sum(machines[task.component].deadline_seconds for task in tasks),
        # A failed pod stays for `kubectl describe`; its workflow goes a week later, and the pod with it.
        "podGC": {"strategy": "OnPodSuccess", "deleteDelayDuration": "600s"},
        "ttlStrategy": {"secondsAfterCompletion": 7 * _DAY},
        "securityContext": _pod_security(),
        "podMetadata": {"labels": _pod_labels(deployment)},
        "volumes": [_scratch_volume(), *_claims(deployment)],
        "templates": [*_graphs(settings), *templates],
    }
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": deployment.name, "labels": {"app.kubernetes.io/part-of": "retriever"}},
        "spec": spec,
    }


def cron_workflow(deployment: Deployment) -> Object:
    """The CronWorkflow that runs the WorkflowTemplate by its schedule; what is due while a run works is left out."""
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": deployment.name, "labels": {"app.kubernetes.io/part-of": "retriever"}},
        "spec": {
            "schedules": [deployment.schedule],
            "timezone": deployment.timezone,
            "concurrencyPolicy": "Forbid",
            # Argo itself may be away when the time comes.
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "workflowMetadata": {"labels": {"app.kubernetes.io/part-of": "retriever"}},
            "workflowSpec": {"workflowTemplateRef": {"name": deployment.name}},
        },
    }


def _parameters(settings: Settings, deployment: Deployment) -> Iterator[Object]:
    yield _parameter(ROOT, deployment.artifact_root, "Folder in a bucket that the tasks hand their artifacts over in.")
    yield _parameter(
        STATE,
        deployment.state_uri,
        "Folder in a bucket for journals and training state, which a lost pod goes on from.",
    )
    for name in run_parameters(settings):
        section, field = name.split(".")
        sentence = field_sentences(flow.SECTIONS[section]).get(field, "")
        value = settings[section][field]
        # Without a value Argo asks for one; an empty one would be taken.
        asked = value == "" and name in required(settings)
        yield _parameter(name.replace(".", "_"), None if asked else value, sentence)


def _parameter(name: str, value: object, sentence: str) -> Object:
    return {"name": name, **({} if value is None else {"value": str(value)}), "description": sentence}


def _graphs(settings: Settings) -> Iterator[Object]:
    """The graph of the tasks; in one of its own, behind a task that may find that there is nothing to do."""
    tasks, opener = flow.taking_part(settings), flow.opener(settings)
    nodes = [_node(task, settings, opener) for task in tasks if task is not opener]
    if opener is None:
        yield {"name": _WHOLE, "dag": {"tasks": nodes}}
        return
    first = component_name(opener)
    behind = {"name": _BEHIND, "template": _BEHIND, "dependencies": [first], "when": _passed(first)}
    yield {"name": _WHOLE, "dag": {"tasks": [_node(opener, settings, None), behind]}}
    yield {"name": _BEHIND, "dag": {"tasks": nodes}}


def _passed(name: str) -> str:
    return f"{{{{tasks.{name}.outputs.parameters.{VERDICT}}}}} == {PASSED}"


def _node(task: Task, settings: Settings, opener: Task | None) -> Object:
    """A task in the graph: what it waits for, and once a shard where it is split; `opener` is outside of the graph."""
    made = [maker for maker in flow.sources(task, settings).values() if maker is not opener]
    makers = dict.fromkeys(component_name(maker) for maker in made)
    node: Object = {"name": component_name(task), "template": component_name(task)}
    if makers:
        node["dependencies"] = list(makers)
    if task.gate:
        node["when"] = _passed(component_name(flow.sources(task, settings)[task.gate]))
    if (count := flow.num_shards(task, settings)) > 1:
        node["arguments"] = {"parameters": [{"name": "shard", "value": "{{item}}"}]}
        node["withSequence"] = {"count": str(count)}
    return node


def _template(task: Task, settings: Settings, resources: Resources, deployment: Deployment) -> Object:
    is_split = flow.num_shards(task, settings) > 1
    verdict = {"name": VERDICT, "valueFrom": {"path": f"{_OUTPUTS}/{VERDICT}"}}
    annotations = {} if resources.evictable else {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    return {
        "name": component_name(task),
        **({"metadata": {"annotations": annotations}} if annotations else {}),
        **({"inputs": {"parameters": [{"name": "shard"}]}} if is_split else {}),
        **({"outputs": {"parameters": [verdict]}} if task.name in flow.gates(settings) else {}),
        "activeDeadlineSeconds": resources.deadline_seconds,
        "retryStrategy": _retries(resources),
        **_where(resources),
        "container": _container(
            task.module,
            _flags(task, settings),
            _environment(task.name, _of_task(task, settings), resources, deployment),
            resources,
            deployment,
        ),
    }


def _outcome(resources: Resources, deployment: Deployment) -> Object:
    """What runs when all is over, however it ended; here the word of the platform can be trusted."""
    flags = {
        "moment": "after",
        "run_id": "{{workflow.name}}",
        "status": "{{workflow.status}}",
        "records_uri": f"{{{{workflow.parameters.{STATE}}}}}/records",
        "output_uri": f"{_SCRATCH}/outcome",
    }
    return {
        "name": _OUTCOME,
        "activeDeadlineSeconds": resources.deadline_seconds,
        "retryStrategy": _retries(resources),
        "container": _container(
            f"components.{_CHECK}", flags, _environment(_OUTCOME, {}, resources, deployment), resources, deployment
        ),
    }


def _container(
    module: str,
    flags: Mapping[str, object],
    environment: Iterator[Object],
    resources: Resources,
    deployment: Deployment,
) -> Object:
    return {
        "image": image(build_of(module.split(".")[1], resources)),
        "command": ["python", "-m", module],
        "args": [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()],
        "env": list(environment),
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": _resources(resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": list(_mounts(resources, deployment)),
    }


def _retries(resources: Resources) -> Object:
    """What may pass by itself is tried again: 75, a lost or killed pod; not a usage error, bad data, or a deadline."""
    codes = ", ".join(map(str, _RETRIED))
    return {
        "limit": str(resources.num_retries),
        "retryPolicy": "Always",
        "expression": f"(lastRetry.status == 'Error' or asInt(lastRetry.exitCode) in [{codes}]) "
        "and not (lastRetry.message contains 'specified deadline')",
        # Without maxDuration, which Argo would count from the start of the first attempt.
        "backoff": {"duration": "30s", "factor": "2", "cap": "600s"},
    }


def _flags(task: Task, settings: Settings) -> Mapping[str, object]:
    """Config field -> value as the container's command has it; what has its default is left out.

    Raises:
        ValueError: Where a setting holds what Argo reads as a template.
    """
    given = {name: f"{{{{workflow.parameters.{name.replace('.', '_')}}}}}" for name in run_parameters(settings)}
    flags: dict[str, object] = {
        name: ",".join(_addresses(maker, settings)) for name, maker in flow.sources(task, settings).items()
    }
    places = durable_places(task, settings, f"{{{{workflow.parameters.{STATE}}}}}")
    for name, section in flow.owners(task).items():
        if name in flags:
            continue
        if name in places:
            flags[name] = places[name]
        elif (parameter := given.get(f"{section}.{name}")) is not None:
            flags[name] = parameter
        elif not _is_default(task, name, value := settings[section][name]):
            if "{{" in str(value):
                raise ValueError(
                    f"{section}.{name} {value!r}: Argo reads two opening braces as a template; leave them out"
                )
            flags[name] = value
    flags |= {name: value for name, value in task.fixed.items() if not _is_default(task, name, value)}
    if flow.num_shards(task, settings) > 1:
        flags["shard"] = "{{inputs.parameters.shard}}"
        return {**flags, "output_uri": _address(task, "{{inputs.parameters.shard}}")}
    return {**flags, "output_uri": _address(task)}


def _is_default(task: Task, name: str, value: object) -> bool:
    default = task.config.__dataclass_fields__[name].default
    return default is not MISSING and bool(default == value)


def _addresses(task: Task, settings: Settings) -> list[str]:
    count = flow.num_shards(task, settings)
    return [_address(task)] if count == 1 else [_address(task, str(shard)) for shard in range(count)]


def _address(task: Task, shard: str = "") -> str:
    return f"{{{{workflow.parameters.{ROOT}}}}}/{task.makes}" + (f"-{shard}" if shard else "")


def _of_task(task: Task, settings: Settings) -> dict[str, str]:
    """Variables that only tasks of the flow have."""
    gate = {OUTPUTS_VARIABLE: _OUTPUTS, OUTPUT_NAMES_VARIABLE: VERDICT} if task.name in flow.gates(settings) else {}
    return {SECTIONS_VARIABLE: sections_value(flow.owners(task), task.sections[-1]), **gate}


def _environment(name: str, own: Mapping[str, str], resources: Resources, deployment: Deployment) -> Iterator[Object]:
    values = {
        "HOME": _SCRATCH,
        "HF_HOME": f"{_SCRATCH}/huggingface",
        **own,
        **pod_variables(name, resources, deployment, can_ask_for_disk=True),
        # Of it every pod of the run makes the same trace.
        **({RUN_VARIABLE: "{{workflow.uid}}"} if is_traced(deployment) else {}),
    }
    yield from ({"name": name, "value": value} for name, value in values.items())
    for name, secret, key in deployment.secret_variables():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _resources(resources: Resources) -> Object:
    gpus = {GPU_RESOURCE: str(resources.num_gpus)} if resources.gpu else {}
    disk = {"ephemeral-storage": resources.disk} if resources.disk else {}
    requests = {
        "cpu": resources.cpu_request or resources.cpu,
        "memory": resources.memory_request or resources.memory,
        **disk,
    }
    return {"requests": requests, "limits": {"cpu": resources.cpu, "memory": resources.memory, **gpus}}


def _where(resources: Resources) -> Object:
    """Node selector, tolerations and the shared memory of a template; nothing where any node will do."""
    selector, tolerations = {}, []
    if resources.gpu:
        selector[GPU_SELECTOR] = resources.gpu
        tolerations.append({"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"})
    if resources.spot:
        selector[SPOT_SELECTOR] = "true"
        tolerations.append({"key": SPOT_SELECTOR, "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    shared = {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": resources.shared_memory}}
    return {
        **({"nodeSelector": selector, "tolerations": tolerations} if selector else {}),
        **({"volumes": [shared]} if resources.gpu else {}),
    }


def _mounts(resources: Resources, deployment: Deployment) -> Iterator[Object]:
    yield {"name": "scratch", "mountPath": _SCRATCH}
    if resources.gpu:
        yield {"name": "shared-memory", "mountPath": "/dev/shm"}
    for folder, claim in deployment.claims().items():
        yield {"name": f"claim-{slug(claim)}", "mountPath": folder, "readOnly": True}


def _scratch_volume() -> Object:
    return {"name": "scratch", "emptyDir": {}}


def _claims(deployment: Deployment) -> Iterator[Object]:
    for claim in dict.fromkeys(deployment.claims().values()):
        source = {"claimName": claim, "readOnly": True}
        yield {"name": f"claim-{slug(claim)}", "persistentVolumeClaim": source}


def _pod_security() -> Object:
    """What a namespace with `pod-security.kubernetes.io/enforce: restricted` asks of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _pod_labels(deployment: Deployment) -> dict[str, str]:
    queue = {"kueue.x-k8s.io/queue-name": deployment.queue} if deployment.queue else {}
    return {**TASK_LABELS, **queue}
