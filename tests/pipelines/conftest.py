"""A thin image (the system's Python, packages mounted) for what holds torch, and what compiling needs."""

import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from docker.client import DockerClient

from tests.light_images import COMPONENTS

_REPOSITORY = Path(__file__).parents[2]
# Not root: Kubeflow refuses images that are. Unknown to the image's passwd, as a cluster's random user is.
_USER = "10001:10001"


@pytest.fixture(scope="session")
def thin_image(docker_daemon: DockerClient, base_image: str) -> Iterator[str]:
    """Python and nothing else, run as a user that it does not know; packages are mounted, see `thin_mounts`."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the thin image has Python 3.11; packages of another Python do not load in it")
    environment = {
        "PYTHONPATH": "/code:/site-packages",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        "OMP_NUM_THREADS": "1",
    }
    environment |= {"HF_HUB_OFFLINE": "1", "RETRIEVER_LOG": "json"}
    changes = [f"USER {_USER}", *(f"ENV {name}={value}" for name, value in environment.items())]
    maker = docker_daemon.containers.create(base_image, ["ln", "-sf", "python3", "/usr/bin/python"])
    try:
        maker.start()
        assert maker.wait()["StatusCode"] == 0
        made = maker.commit(repository="retriever-thin", tag="0.0.1", changes="\n".join(changes))
    finally:
        maker.remove(force=True)
    yield "retriever-thin:0.0.1"
    docker_daemon.images.remove(made.id, force=True)


@pytest.fixture(scope="session")
def thin_mounts() -> dict[str, Path]:
    """Place in a container of the thin image -> what is mounted there."""
    return {
        "/site-packages": Path(str(metadata.distribution("kfp").locate_file(""))),
        "/code/components": _REPOSITORY / "components",
    }


@pytest.fixture(scope="module")
def images(light_images: Mapping[str, str], thin_image: str) -> Iterator[dict[str, str]]:
    """Component -> the image that compiling finds: its own where that holds no torch, else the thin one."""
    chosen = {component: light_images.get(component, thin_image) for component in COMPONENTS}
    with pytest.MonkeyPatch.context() as patch:
        for component, reference in chosen.items():
            patch.setenv(f"IMAGE_{component.upper()}", reference)
        yield chosen


@pytest.fixture(scope="module")
def pushed_images() -> Iterator[None]:
    """Images that a cluster could pull."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGISTRY", "registry.example.com/retriever")
        patch.setenv("TAG", "0.1.0")
        yield


@pytest.fixture(scope="module")
def quick_stacks() -> Iterator[None]:
    """KFP reads the sources of all callers to learn the name of one, and for each `inspect` looks through all modules.

    Half a second in a process of its own, fifty in one that has the other tests' ten thousand modules.
    """
    from kfp.dsl import pipeline_task

    quick = SimpleNamespace(stack=lambda: [(), ("", "", 0, sys._getframe(2).f_code.co_name)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_task, "inspect", quick)
        yield
