"""The processes of one training job: how they are started on one machine, and what they say to each other.

The environment is torchrun's (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), so torchrun, a TrainJob or
`run_processes` can start them. All see the same batches; each encodes its part. Only the first one writes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor, distributed

from components.shared.contract.needs import check_gpu_is_used
from components.shared.contract.stopping import PARENT_VARIABLE
from components.shared.launch import EXIT_OK, TransientError

# Longer than the first process needs for a dev measure or a state in a bucket while the others wait.
_PATIENCE = timedelta(hours=1)
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class Processes:
    """This process among `count`; alone, every exchange is nothing."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """True for the one that writes."""
        return self.rank == 0

    def sum_up(self, tensor: Tensor) -> None:
        """Replaces the tensor by its sum over the processes.

        Raises:
            TransientError: Where another process is gone.
        """
        if self.count > 1:
            with _gone_is_transient():
                distributed.all_reduce(tensor)

    def from_first(self, content: bytes | None) -> bytes | None:
        """What the first process passes, in every process; the others' argument is not looked at."""
        if self.count == 1:
            return content
        size = torch.tensor([-1 if content is None else len(content)], device=self.device)
        with _gone_is_transient():
            distributed.broadcast(size, src=0)
            if size.item() < 0:
                return None
            block = torch.frombuffer(bytearray(content or b""), dtype=torch.uint8) if self.is_first else None
            block = torch.empty(int(size.item()), dtype=torch.uint8) if block is None else block
            block = block.to(self.device)
            distributed.broadcast(block, src=0)
        return block.cpu().numpy().tobytes()

    def wait_for_all(self) -> None:
        """Returns when every process is here."""
        self.sum_up(torch.zeros(1, device=self.device))


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """This process's place in the job; connects to the others where the environment names any.

    Raises:
        ValueError: Where a GPU was promised and torch sees none.
        TransientError: Where the others do not come.
    """
    rank, count, local = (
        int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    on_gpu = torch.cuda.is_available()
    check_gpu_is_used(
        f"torch {torch.__version__}",
        num_gpus=torch.cuda.device_count() if on_gpu else 0,
        remedy="take a torch that was built for CUDA and for the node's driver, or a profile without GPUs",
    )
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(device=device)
        return
    with _gone_is_transient():
        distributed.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=count, timeout=_PATIENCE)
    try:
        yield Processes(rank, count, device)
    finally:
        distributed.destroy_process_group()


def processes_to_start(arguments: Sequence[str]) -> int:
    """How many processes this one has to start; 1 where it is the only one or was itself started as one of several."""
    if "RANK" in os.environ:
        return 1
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    # A double, as Kubeflow writes every number; what is no number is for the job's own parser to say.
    parser.add_argument("--num-processes", default="0")
    wanted = parser.parse_known_args(list(arguments))[0].num_processes
    with contextlib.suppress(ValueError):
        return max(1, int(float(wanted)) or torch.cuda.device_count())
    return 1


def run_processes(count: int, arguments: Sequence[str]) -> int:
    """Runs this job in `count` processes on this machine; the exit code is that of the first one that failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        PARENT_VARIABLE: str(os.getpid()),
    }
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))}
    command = [sys.executable, "-m", "components.train", *arguments]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in map(str, range(count)):
            started.append(
                subprocess.Popen(command, env={**os.environ, **threads, **place, "RANK": rank, "LOCAL_RANK": rank})
            )
        return _first_failure(started)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            _wait_or_kill(process)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        # It hangs in an exchange with one that is gone, where no Python code runs that could hear SIGTERM.
        process.kill()
        process.wait()


def _first_failure(started: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        codes = [process.poll() for process in started]
        failed = [code for code in codes if code not in (None, EXIT_OK)]
        if failed:
            # A signal's number is negative here; a shell, and Kubernetes, say 128 + n.
            return next(code if code > 0 else 128 - code for code in failed if code is not None)
        if all(code == EXIT_OK for code in codes):
            return EXIT_OK
        time.sleep(_POLL_SECONDS)


@contextmanager
def _gone_is_transient() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, distributed.DistError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise TransientError(
            f"the processes of this job lost each other ({line}); the state is kept, run the job again"
        ) from error
