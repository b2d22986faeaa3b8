"""A Docker daemon for the tests that need one, and a base image that no registry was asked for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from docker.client import DockerClient

_REPOSITORY = Path(__file__).parents[1]
_BASE = "retriever-base:bookworm"


@pytest.fixture(scope="session")
def docker_daemon() -> Iterator[DockerClient]:
    """DOCKER_HOST's daemon where it answers, else the machine's, else a private one in a folder that goes with it."""
    for host in filter(None, (os.environ.get("DOCKER_HOST"), "unix:///var/run/docker.sock")):
        if (client := _connect(host)) is not None:
            with _in_use(client, host):
                yield client
            return
    if shutil.which("dockerd") is None or os.geteuid() != 0:
        pytest.skip("no Docker daemon answers, and a private one needs dockerd and root; set DOCKER_HOST")
    # Not in pytest's temporary folder: gigabytes of layers would stay there, and a mount that pytest cannot remove.
    folder = Path(tempfile.mkdtemp(prefix="retriever-dockerd-"))
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(_dockerd(folder), stdout=log, stderr=log)
    try:
        host = f"unix://{folder}/sock"
        with _in_use(_await(host, daemon, folder / "log"), host) as client:
            yield client
    finally:
        daemon.terminate()
        daemon.wait(30)
        _remove(folder)


def _remove(folder: Path) -> None:
    """The daemon's folder, with what it leaves mounted there when it ends (a network namespace)."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((one for one in mounts if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", mount], check=True)
    shutil.rmtree(folder)


def _dockerd(folder: Path) -> list[str]:
    flags = {
        "host": f"unix://{folder}/sock",
        "data-root": f"{folder}/data",
        "exec-root": f"{folder}/exec",
        "pidfile": f"{folder}/pid",
    }
    return ["dockerd", "--iptables=false", "--bridge=none", *(f"--{name}={value}" for name, value in flags.items())]


def _connect(host: str) -> DockerClient | None:
    # Imported here: this file is loaded in environments that do not have it.
    from docker.client import DockerClient
    from docker.errors import DockerException

    if not _answers(host):
        return None
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


def _answers(host: str) -> bool:
    """A look before the client is made: where nobody answers, it leaves its socket open."""
    if not host.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(30)
        try:
            probe.connect(host.removeprefix("unix://"))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in probe.recv(64)
        except OSError:
            return False


def _await(host: str, daemon: subprocess.Popen[bytes], log: Path) -> DockerClient:
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
        script = _REPOSITORY / "docker" / "offline_base.sh"
        made = subprocess.run(["sh", str(script), _BASE], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr[-1000:]
    return _BASE
