"""A registry of images on this machine, Debian's `docker-registry`: what is pushed to it has real digests."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bucket import await_port, free_ports


@dataclass(frozen=True)
class Registry:
    """Where it listens, and the file that it writes its requests to."""

    host: str
    log: Path

    def pulled(self, reference: str) -> bool:
        """Whether somebody asked for the manifest of a reference by digest."""
        name, _, digest = reference.removeprefix(f"{self.host}/").partition("@")
        return f'"GET /v2/{name}/manifests/{digest} ' in self.log.read_text()


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """An empty one; a daemon takes it without TLS, because it is on the loopback network."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed; Debian has a package of that name")
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="retriever-registry-") as name:
        folder = Path(name)
        storage = f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}"
        (folder / "config.yml").write_text(f"version: 0.1\n{storage}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log)
        try:
            await_port(port, server)
            yield Registry(f"127.0.0.1:{port}", folder / "log")
        finally:
            server.terminate()
            server.wait(30)
