"""A Kubeflow task on its machine: the rows of resources.py as settings of kfp and kfp-kubernetes."""

from __future__ import annotations

from kfp import dsl, kubernetes

from components.shared.contract.outcome import RECORDS_VARIABLE
from components.shared.tracing.spans import RUN_VARIABLE
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.variables import TASK_LABELS, is_traced, pod_variables
from pipelines.resources import GPU_RESOURCE, GPU_SELECTOR, SPOT_SELECTOR, Resources

# Argo counts it from the start of the first attempt, and retries no more after it: it must outlast every deadline.
_RETRY_WINDOW = "604800s"


def place(
    task: dsl.PipelineTask, resources: Resources, deployment: Deployment, *, name: str, cached: bool = True
) -> dsl.PipelineTask:
    """The Kubeflow task with its resources, retries, deadline, rights, variables and caching."""
    task.set_cpu_request(resources.cpu_request or resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory_request or resources.memory).set_memory_limit(resources.memory)
    task.set_caching_options(cached and resources.cached)
    task.set_retry(
        resources.num_retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration=_RETRY_WINDOW
    )
    if deployment.state_uri:
        # On a cluster; containers of a local run know neither.
        kubernetes.set_timeout(task, resources.deadline_seconds)
        # A namespace that is restricted wants it on the container itself.
        kubernetes.set_security_context(task, run_as_non_root=True)
        for label, value in TASK_LABELS.items():
            kubernetes.add_pod_label(task, label, value)
    if resources.gpu:
        _use_gpu(task, resources)
    if resources.spot:
        kubernetes.add_node_selector(task, SPOT_SELECTOR, "true")
        kubernetes.add_toleration(task, key=SPOT_SELECTOR, operator="Equal", value="true", effect="NoSchedule")
    if not resources.evictable:
        kubernetes.add_pod_annotation(task, "cluster-autoscaler.kubernetes.io/safe-to-evict", "false")
    for variable, value in pod_variables(name, resources, deployment, can_ask_for_disk=False).items():
        task.set_env_variable(variable, value)
    if is_traced(deployment) and deployment.state_uri:
        # Of it every pod of the run makes the same trace.
        kubernetes.use_field_path_as_env(task, RUN_VARIABLE, "metadata.labels['pipeline/runid']")
    if deployment.records_uri:
        # Where the outcome of the run looks for what went wrong; Argo shows that itself.
        task.set_env_variable(RECORDS_VARIABLE, deployment.records_uri)
    return _inject(task, deployment)


def _use_gpu(task: dsl.PipelineTask, resources: Resources) -> None:
    task.set_accelerator_type(GPU_RESOURCE).set_accelerator_limit(resources.num_gpus)
    kubernetes.add_node_selector(task, GPU_SELECTOR, resources.gpu)
    kubernetes.add_toleration(task, key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=resources.shared_memory)


def _inject(task: dsl.PipelineTask, deployment: Deployment) -> dsl.PipelineTask:
    for name, secret, key in deployment.secret_variables():
        kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env={key: name})
    for folder, claim in deployment.claims().items():
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path=folder)
    if deployment.queue:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", deployment.queue)
    return task
