"""What a pod was promised and whether it is there: GPUs, shared memory, disk; asked before the first minute of work.

A task that asked for a GPU and sees none would train on the CPU for days without a word. The runner says in
NEEDS_VARIABLE what the pod asked for; a job that nobody promised anything asks for nothing. That the driver shows a GPU
is not enough: whoever computes says whether it will compute there (`check_gpu_is_used`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import orjson

NEEDS_VARIABLE = "RETRIEVER_NEEDS"

# In a process of its own: a process that has spoken to the driver cannot fork others that do.
# Source: cuInit and cuDeviceGetCount of the CUDA driver API.
_COUNT_GPUS = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
for code in (driver.cuInit(0), driver.cuDeviceGetCount(ctypes.byref(count))):
    if code:
        raise SystemExit(f"the driver answers with error {code}")
print(count.value)
"""
_PROBE_SECONDS = 120
# A file system takes a little for itself.
_SHARE = 0.95


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one pod must have; 0: nothing was promised."""

    num_gpus: int = 0
    shared_memory_bytes: int = 0
    disk_bytes: int = 0

    def as_variable(self) -> str:
        """Value of NEEDS_VARIABLE."""
        return orjson.dumps({name: value for name, value in asdict(self).items() if value}).decode()


def promised() -> Needs:
    """What the runner says that this pod asked for."""
    return Needs(**orjson.loads(os.environ.get(NEEDS_VARIABLE) or "{}"))


def check_needs(needs: Needs) -> None:
    """Looks for everything that was promised.

    Raises:
        ValueError: Naming everything that is missing, and what to do.
    """
    if problems := list(_missing(needs)):
        raise ValueError("; ".join(problems))


def check_gpu_is_used(program: str, *, num_gpus: int, remedy: str) -> None:
    """What every program that computes says before it does: how many GPUs it will compute on.

    Raises:
        ValueError: Where a GPU was promised to this task and the program sees none.
    """
    if (wanted := promised().num_gpus) and not num_gpus:
        raise ValueError(f"this task asked for {wanted} GPUs, and {program} would compute on the CPU; {remedy}")


def _missing(needs: Needs) -> Iterator[str]:
    if needs.num_gpus:
        seen, problem = count_gpus()
        if seen < needs.num_gpus:
            yield (
                f"this task asked for {needs.num_gpus} GPUs and sees {seen}{f' ({problem})' if problem else ''}; see "
                "whether the node pool has the driver, the image is the CUDA build, and LD_LIBRARY_PATH names the "
                "driver's folder (/usr/local/nvidia/lib64 on GKE)"
            )
    if needs.shared_memory_bytes:
        size = _size("/dev/shm")
        if size < needs.shared_memory_bytes * _SHARE:
            yield (
                f"/dev/shm has {size >> 20} MiB, {needs.shared_memory_bytes >> 20} are wanted: data loaders and vLLM "
                "end with a bus error without; mount an emptyDir of medium Memory there"
            )
    if needs.disk_bytes:
        free = shutil.disk_usage(tempfile.gettempdir()).free
        if free < needs.disk_bytes * _SHARE:
            yield (
                f"{tempfile.gettempdir()} has {free >> 20} MiB free, {needs.disk_bytes >> 20} are wanted; take nodes "
                "with a larger boot disk, or set TMPDIR to a larger volume"
            )


def count_gpus() -> tuple[int, str]:
    """Number of GPUs that the driver shows this process, and why it is 0 where the driver cannot be asked."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _COUNT_GPUS], capture_output=True, text=True, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return 0, f"the driver did not answer in {_PROBE_SECONDS} s"
    if done.returncode:
        return 0, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return int(done.stdout), ""


def _size(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return 0
