"""A Docker daemon and a thin image: the system's Python and nothing else, the packages of this environment mounted."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path

import pytest
from docker.client import DockerClient
from docker.errors import DockerException

_REPOSITORY = Path(__file__).parents[2]
_BASE = "retriever-base:bookworm"
# Not root: Kubeflow refuses images that are. Unknown to the image's passwd, as a cluster's random user is.
_USER = "10001:10001"


@pytest.fixture(scope="session")
def docker_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerClient]:
    """DOCKER_HOST's daemon where it answers, else the machine's, else a private one in a temporary folder."""
    for host in filter(None, (os.environ.get("DOCKER_HOST"), "unix:///var/run/docker.sock")):
        if (client := _connect(host)) is not None:
            with _in_use(client, host):
                yield client
            return
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        pytest.skip("no Docker daemon answers, and a private one needs dockerd and root; set DOCKER_HOST")
    folder = tmp_path_factory.mktemp("dockerd")
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(_dockerd(folder), stdout=log, stderr=log)
    try:
        host = f"unix://{folder}/sock"
        with _in_use(_await(host, daemon, folder / "log"), host) as client:
            yield client
    finally:
        daemon.terminate()
        daemon.wait(30)


def _dockerd(folder: Path) -> list[str]:
    flags = {"host": f"unix://{folder}/sock", "data-root": f"{folder}/data", "exec-root": f"{folder}/exec", "pidfile": f"{folder}/pid"}
    return ["dockerd", "--iptables=false", "--bridge=none", *(f"--{name}={value}" for name, value in flags.items())]


def _connect(host: str) -> DockerClient | None:
    try:
        client = DockerClient(base_url=host, timeout=120)
    except DockerException:
        return None
    try:
        client.ping()
    except (DockerException, OSError):
        client.close()
        return None
    return client


def _await(host: str, daemon: "subprocess.Popen[bytes]", log: Path) -> DockerClient:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and daemon.poll() is None:
        if (client := _connect(host)) is not None:
            return client
        time.sleep(0.2)
    pytest.skip(f"dockerd does not come up here: {log.read_text()[-500:]}")


@contextmanager
def _in_use(client: DockerClient, host: str) -> Iterator[DockerClient]:
    with pytest.MonkeyPatch.context() as patch, closing(client):
        patch.setenv("DOCKER_HOST", host)  # KFP's runner finds its daemon there
        yield client


@pytest.fixture(scope="session")
def base_image(docker_daemon: DockerClient) -> str:
    if not docker_daemon.images.list(name=_BASE):
        if shutil.which("mmdebstrap") is None or shutil.which("docker") is None:
            pytest.skip(f"no image {_BASE}; docker/offline_base.sh makes it with mmdebstrap and the docker command")
        subprocess.run(["sh", str(_REPOSITORY / "docker" / "offline_base.sh"), _BASE], check=True, capture_output=True)
    return _BASE


@pytest.fixture(scope="session")
def thin_image(docker_daemon: DockerClient, base_image: str) -> Iterator[str]:
    """Python and nothing else, run as a user that it does not know; packages are mounted, see `thin_mounts`."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the thin image has Python 3.11; packages of another Python do not load in it")
    environment = {"PYTHONPATH": "/code:/site-packages", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp", "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "RETRIEVER_LOG": "json"}
    changes = [f"USER {_USER}", *(f"ENV {name}={value}" for name, value in environment.items())]
    maker = docker_daemon.containers.create(base_image, ["ln", "-sf", "python3", "/usr/bin/python"])
    try:
        maker.start()
        assert maker.wait()["StatusCode"] == 0
        made = maker.commit(repository="retriever-thin", tag="test", changes="\n".join(changes))
    finally:
        maker.remove(force=True)
    yield "retriever-thin:test"
    docker_daemon.images.remove(made.id, force=True)


@pytest.fixture(scope="session")
def thin_mounts() -> dict[str, Path]:
    """Place in a container of the thin image -> what is mounted there."""
    return {"/site-packages": Path(str(metadata.distribution("kfp").locate_file(""))), "/code/components": _REPOSITORY / "components"}
