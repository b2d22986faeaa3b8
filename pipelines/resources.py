"""Where each task runs: cores, memory, GPU, disk, retries, deadlines; kept apart from what flows (flow.py).

Everything here is a constant of a profile, never a pipeline parameter: inside a loop KFP compiles a parameter in a
resource setting to an input that nobody fills, without an error. A row is a component; all tasks that run it are placed
alike. A task asks for less than the whole of its node, because the system's own pods live there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

HOUR = 3600
# What a GPU node pool of GKE calls itself, and the taint it carries.
GPU_SELECTOR, GPU_RESOURCE = "cloud.google.com/gke-accelerator", "nvidia.com/gpu"
SPOT_SELECTOR = "cloud.google.com/gke-spot"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine that rows are sized for; `gpu_gib` is the memory of one of its GPUs."""

    cores: int
    memory_gib: int
    num_gpus: int = 0
    gpu_gib: int = 0


# Source: the machine types of Compute Engine.
NODES: dict[str, Node] = {
    # A kind node, or any small one, that Kubeflow's own pods share.
    "small": Node(cores=4, memory_gib=16),
    "n2-standard-8": Node(cores=8, memory_gib=32),
    "g2-standard-16": Node(cores=16, memory_gib=64, num_gpus=1, gpu_gib=24),
    "g2-standard-48": Node(cores=48, memory_gib=192, num_gpus=4, gpu_gib=24),
    "a2-ultragpu-1g": Node(cores=12, memory_gib=170, num_gpus=1, gpu_gib=80),
}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one task asks of the cluster."""

    node: str
    """Machine of NODES that the row is sized for."""
    cpu: str
    """Cores that the task may use; asked for too, unless cpu_request says less. A job takes its thread count from the
    cores it may use, so elsewhere than on a small node it must not be throttled."""
    memory: str
    """Allowed; with GPU the shared memory is part of it."""
    cpu_request: str = ""
    """Asked for; empty: as much as is allowed."""
    memory_request: str = ""
    """Asked for; empty: as much as is allowed."""
    disk: str = ""
    """Ephemeral storage asked for, where the target can ask (Argo); downloads and partial artifacts lie there."""
    gpu: str = ""
    """Accelerator of the node pool; empty: none."""
    num_gpus: int = 1
    """Accelerators of one pod; train runs a process on each, an LLM's engines share them."""
    shared_memory: str = "2Gi"
    """Size of /dev/shm of a GPU task; the container's own 64 MiB end data loaders and vLLM with a bus error."""
    num_retries: int = 2
    """Retries of what may pass by itself (exit code 75, a lost pod); long tasks keep journal and state."""
    deadline_seconds: int = 6 * HOUR
    """Longest life of one pod, image pull included; a pod that never starts ends with it too."""
    spot: bool = False
    """True: on nodes that may be taken away at any moment, and cost a third."""
    evictable: bool = True
    """False: the autoscaler may not move the pod."""
    cached: bool = True
    """Identical image, flags and inputs are not run again. Every task is a function of those; prepare has the
    digest."""


_SMALL = Resources(
    node="small",
    cpu="2",
    cpu_request="200m",
    memory="4Gi",
    memory_request="512Mi",
    num_retries=3,
    deadline_seconds=2 * HOUR,
)
_CPU = Resources(node="n2-standard-8", cpu="7", memory="26Gi", disk="60Gi", deadline_seconds=12 * HOUR)
_L4 = Resources(
    node="g2-standard-16",
    cpu="14",
    memory="52Gi",
    disk="100Gi",
    gpu="nvidia-l4",
    shared_memory="8Gi",
    deadline_seconds=24 * HOUR,
    evictable=False,
)
_A100 = replace(_L4, node="a2-ultragpu-1g", cpu="11", memory="150Gi", gpu="nvidia-a100-80gb", shared_memory="16Gi")


def _with_gpus(gpu: Resources) -> dict[str, Resources]:
    """A cluster profile: what computes with a GPU has one, everything else a CPU node."""
    # An LLM over a whole corpus, and training, take days; both go on where a lost pod was.
    long = replace(gpu, num_retries=max(4, gpu.num_retries), deadline_seconds=96 * HOUR)
    return {
        "check": replace(_CPU, cpu="1", memory="2Gi", disk="10Gi", deadline_seconds=HOUR, cached=False),
        "prepare": _CPU,
        "export": _CPU,
        "index": gpu,
        "ask": long,
        "mine": _CPU,
        "annotate": long,
        "train": long,
        "evaluate": _CPU,
        "answer": gpu,
        "collect": _CPU,
        # What it changes lies elsewhere, which no cache knows.
        "promote": replace(_CPU, cpu="1", memory="4Gi", cached=False),
    }


_GKE_L4 = _with_gpus(_L4)
# train has a process on each, an LLM's engines share them: vllm_tensor_parallel_size times num_engines is their number.
_FOUR_L4: dict[str, Any] = {"node": "g2-standard-48", "num_gpus": 4, "cpu": "44", "memory": "160Gi"}
_KIND = {name: replace(_SMALL, cached=row.cached) for name, row in _GKE_L4.items()}
PROFILES: dict[str, Mapping[str, Resources]] = {
    # Containers on this machine (kfp.local): the one profile that may name what only this machine has.
    "laptop": {name: replace(row, cpu_request="", memory_request="") for name, row in _KIND.items()},
    "kind": _KIND,
    "gke-l4": _GKE_L4,
    # Several nodes are a TrainJob's work: k8s/train.
    "gke-l4x4": {
        **_GKE_L4,
        **{name: replace(_GKE_L4[name], **_FOUR_L4) for name in ("train", "ask", "annotate", "answer")},
    },
    "gke-a100": _with_gpus(_A100),
    "spot": _with_gpus(replace(_L4, spot=True, num_retries=12)),
}
LOCAL_PROFILES = frozenset({"laptop"})


def profile_of(name: str) -> Mapping[str, Resources]:
    """The rows of a profile.

    Raises:
        ValueError: Where there is no such profile.
    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; known are {', '.join(PROFILES)}")
    return PROFILES[name]
