"""Where each task runs: cores, memory, GPU, retries, caching; kept apart from what flows (flow.py).

Everything here is a constant of a profile, never a pipeline parameter: inside a loop KFP compiles a parameter in a
resource setting to an input that nobody fills, without an error. A row is a component; all tasks that run it are placed
alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp import dsl

# What a GPU node pool of GKE calls itself, and the taint it carries.
_GPU_SELECTOR, _GPU_TAINT, _GPU_RESOURCE = "cloud.google.com/gke-accelerator", "nvidia.com/gpu", "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one task asks of the cluster."""

    cpu: str
    """Cores, asked for and allowed: a job that takes its thread count from the cores it may use must not be
    throttled."""
    memory: str
    """Asked for and allowed; with GPU the shared memory is part of it."""
    gpu: str = ""
    """Accelerator of the node pool; empty: none."""
    num_gpus: int = 1
    """Accelerators of one pod; train runs a process on each."""
    shared_memory: str = "2Gi"
    """Size of /dev/shm of a GPU task; the container's own 64 MiB end data loaders and vLLM with a bus error."""
    num_retries: int = 2
    """Retries after a failure. A lost node is not one of them: long tasks keep their state in journal_uri and
    state_uri."""
    evictable: bool = True
    """False: the autoscaler may not move the pod."""
    cached: bool = True
    """Identical image, flags and inputs are not run again. Every task is a function of those; prepare has the
    digest."""


_SMALL = Resources(cpu="1", memory="2Gi", num_retries=1)
_LAPTOP = Resources(cpu="2", memory="4Gi", num_retries=1)
_CPU = Resources(cpu="8", memory="32Gi")
_GPU = Resources(cpu="8", memory="48Gi", gpu="nvidia-l4", shared_memory="8Gi", evictable=False)
_ONE_GPU_A_TASK = {
    "prepare": _CPU,
    "export": _CPU,
    "index": _GPU,
    "ask": replace(_GPU, num_retries=4),
    "mine": _CPU,
    "annotate": replace(_GPU, num_retries=4),
    "train": replace(_GPU, num_retries=4),
    "evaluate": _CPU,
}

PROFILES: dict[str, Mapping[str, Resources]] = {
    "laptop": {
        "prepare": _SMALL,
        "export": _LAPTOP,
        "index": _LAPTOP,
        "ask": _LAPTOP,
        "mine": _LAPTOP,
        "annotate": _LAPTOP,
        "train": _LAPTOP,
        "evaluate": _LAPTOP,
    },
    "gke-gpu": _ONE_GPU_A_TASK,
    # Several nodes are a TrainJob's work: k8s/train.
    "gke-multi-gpu": {
        **_ONE_GPU_A_TASK,
        "train": replace(_ONE_GPU_A_TASK["train"], num_gpus=4, cpu="16", memory="96Gi"),
    },
}


def profile_of(name: str) -> Mapping[str, Resources]:
    """The rows of a profile.

    Raises:
        ValueError: Where there is no such profile.
    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; known are {', '.join(PROFILES)}")
    return PROFILES[name]


def place(task: dsl.PipelineTask, resources: Resources) -> dsl.PipelineTask:
    """The Kubeflow task with its resources, retries and caching."""
    # Imported here: kfp takes two seconds, and a look at the table should cost nothing.
    from kfp import kubernetes

    task.set_cpu_request(resources.cpu).set_cpu_limit(resources.cpu)
    task.set_memory_request(resources.memory).set_memory_limit(resources.memory)
    task.set_caching_options(resources.cached)
    task.set_retry(resources.num_retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    if resources.gpu:
        _use_gpu(task, resources)
    if not resources.evictable:
        kubernetes.add_pod_annotation(task, "cluster-autoscaler.kubernetes.io/safe-to-evict", "false")
    return task


def _use_gpu(task: dsl.PipelineTask, resources: Resources) -> None:
    from kfp import kubernetes

    task.set_accelerator_type(_GPU_RESOURCE).set_accelerator_limit(resources.num_gpus)
    kubernetes.add_node_selector(task, _GPU_SELECTOR, resources.gpu)
    kubernetes.add_toleration(task, key=_GPU_TAINT, operator="Exists", effect="NoSchedule")
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=resources.shared_memory)
