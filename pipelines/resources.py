"""Where each task runs: cores, memory, GPU, retries, caching; kept apart from what flows (retriever.py).

Everything here is a constant of a profile, never a pipeline parameter: inside a loop KFP compiles a parameter in a
resource setting to an input that nobody fills, without an error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kfp import dsl, kubernetes

# What a GPU node pool of GKE calls itself, and the taint it carries.
_GPU_SELECTOR, _GPU_TAINT, _GPU_RESOURCE = "cloud.google.com/gke-accelerator", "nvidia.com/gpu", "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class Place:
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
    """/dev/shm of a GPU task; the container's own 64 MiB end data loaders and vLLM with a bus error."""
    num_retries: int = 2
    """Retries after a failure. A lost node is not one of them: long tasks keep their state in journal_uri and
    state_uri."""
    evictable: bool = True
    """False: the autoscaler may not move the pod."""
    cached: bool = True
    """Identical image, flags and inputs are not run again. Every task is a function of those; prepare has the
    digest."""


_SMALL = Place(cpu="1", memory="2Gi", num_retries=1)
_LAPTOP = Place(cpu="2", memory="4Gi", num_retries=1)
_CPU = Place(cpu="8", memory="32Gi")
_GPU = Place(cpu="8", memory="48Gi", gpu="nvidia-l4", shared_memory="8Gi", evictable=False)
_ONE_GPU_A_TASK = {
    "prepare": _CPU,
    "export": _CPU,
    "index": _GPU,
    "mine": _CPU,
    "annotate": replace(_GPU, num_retries=4),
    "train": replace(_GPU, num_retries=4),
    "evaluate": _CPU,
}

PROFILES: dict[str, dict[str, Place]] = {
    "laptop": {
        "prepare": _SMALL,
        "export": _LAPTOP,
        "index": _LAPTOP,
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


def place(task: dsl.PipelineTask, component: str, profile: str, title: str) -> dsl.PipelineTask:
    """The task with its title, and the resources, retries and caching of its component in the profile.

    Raises:
        ValueError: Where there is no such profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"no profile {profile!r}; known are {', '.join(PROFILES)}")
    its = PROFILES[profile][component]
    task.set_display_name(title)
    task.set_cpu_request(its.cpu).set_cpu_limit(its.cpu).set_memory_request(its.memory).set_memory_limit(its.memory)
    task.set_caching_options(its.cached)
    task.set_retry(its.num_retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    if its.gpu:
        _use_gpu(task, its)
    if not its.evictable:
        kubernetes.add_pod_annotation(task, "cluster-autoscaler.kubernetes.io/safe-to-evict", "false")
    return task


def _use_gpu(task: dsl.PipelineTask, its: Place) -> None:
    task.set_accelerator_type(_GPU_RESOURCE).set_accelerator_limit(its.num_gpus)
    kubernetes.add_node_selector(task, _GPU_SELECTOR, its.gpu)
    kubernetes.add_toleration(task, key=_GPU_TAINT, operator="Exists", effect="NoSchedule")
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=its.shared_memory)
