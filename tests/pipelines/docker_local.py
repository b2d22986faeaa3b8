"""The compiled pipeline in real containers on this machine, by KFP's local runner with one function of it replaced.

KFP 2.17 starts a container that removes itself and then asks for its exit code; where the removal was faster it reports
success, whatever the code was. Here a container is removed only after its code was read.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kfp
from docker.client import DockerClient
from docker.errors import ImageNotFound
from kfp import components, local
from kfp.local import docker_task_handler

# The one whose run_docker_container was read; another may call it differently or no longer need this.
_KFP_VERSION = "2.17.0"
# Keywords of `run_compiled` for containers that may write to their artifacts and to memory only, and have no rights.
HARDENED: Mapping[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": "", "/home/retriever": ""},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}


def run_compiled(
    pipeline: Path, arguments: Mapping[str, Any], root: Path, *, is_cached: bool = False, **container: object
) -> dict[str, Path]:
    """Runs a compiled pipeline to its end and says where its outputs lie.

    Args:
        pipeline: File of `compile_to`.
        arguments: Values of the pipeline's parameters.
        root: Folder for all artifacts; made open to everyone, because containers run as their own user.
        is_cached: True: a task that an earlier run below this root finished alike is not run again.
        container: Keywords of docker's `containers.run` for every task, such as mounts, network_mode and user.

    Raises:
        RuntimeError: Naming the task that failed.
    """
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o777)
    with tempfile.TemporaryDirectory() as workspace, reliable_exit_codes(), warnings.catch_warnings():
        # What a cluster needs and a laptop cannot give: resources, display names.
        warnings.filterwarnings("ignore", message=".* have no effect in the current local runner")
        runner = local.DockerRunner(**container)
        local.init(runner, pipeline_root=str(root), workspace_root=workspace, enable_caching=is_cached)
        task = components.load_component_from_file(str(pipeline))(**arguments)
    return {name: Path(artifact.path) for name, artifact in task.outputs.items()}


@contextmanager
def reliable_exit_codes() -> Iterator[None]:
    """Replaces KFP's way of running a container inside the block.

    Raises:
        ValueError: Where KFP is of a version that this was not checked with.
    """
    if kfp.__version__ != _KFP_VERSION:
        raise ValueError(
            f"kfp {kfp.__version__} is installed, runs in containers are checked with {_KFP_VERSION}; install that"
        )
    original = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = _run_container
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = original


def _run_container(
    client: DockerClient, image: str, command: list[str], volumes: dict[str, Any], **settings: object
) -> int:
    try:
        container = client.containers.create(image, command, volumes=volumes, **settings)
    except ImageNotFound:
        client.images.pull(image)
        container = client.containers.create(image, command, volumes=volumes, **settings)
    try:
        container.start()
        for part in container.logs(stream=True, follow=True):
            sys.stderr.write(part.decode(errors="replace"))
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
