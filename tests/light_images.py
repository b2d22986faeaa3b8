"""The images that hold no torch, built once a session and without any network, as `make images` builds them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[1]
DOCKER = _ROOT / "docker"
REGISTRY, TAG = "retriever-image-test", "0.0.1"
_SIZES: list[str] = []


def locked(name: str) -> dict[str, str]:
    """Package -> version, of a lock file."""
    lines = [line.split()[0] for line in (DOCKER / f"{name}.lock").read_text().splitlines() if "==" in line]
    return dict(line.split("==") for line in lines)


COMPONENTS = tuple(sorted(path.parent.name for path in (_ROOT / "components").glob("*/__main__.py")))
# The others hold gigabytes of CUDA: `docker/images.sh REGISTRY TAG train` builds one on demand, with an index.
LIGHT = tuple(component for component in COMPONENTS if "torch" not in locked(component))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sizes beside their budgets, and what was not built."""
    if _SIZES:
        terminalreporter.section("images, built without a network")
        heavy = ", ".join(component for component in COMPONENTS if component not in LIGHT)
        for line in (*_SIZES, f"not built, because they hold CUDA: {heavy}; docker/images.sh builds one on demand"):
            terminalreporter.write_line(line)


def make_images(registry: str, tag: str, *components: str, **environment: str) -> str:
    """Runs docker/images.sh; what it said."""
    command = ["sh", str(DOCKER / "images.sh"), registry, tag, *components]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def light_images(base_image: str) -> Mapping[str, str]:
    """Component -> the name of its image."""
    if shutil.which("docker") is None:
        pytest.skip("the docker command is not installed")
    files = [path for path in (DOCKER / "wheelhouse").glob("*") if path.suffix in (".whl", ".gz")]
    present = {canonicalize_name(path.name.removesuffix(".tar.gz").split("-")[0]) for path in files}
    wanted = {name for component in LIGHT for name in locked(component)} | set(locked("build"))
    if missing := wanted - present:
        pytest.skip(f"docker/wheelhouse lacks {sorted(missing)[:3]}; `make test-docker` fills it")
    said = make_images(REGISTRY, TAG, *LIGHT, BASE_IMAGE=base_image, NETWORK="none")
    _SIZES.extend(line for line in said.splitlines() if " MB of " in line)
    return {component: f"{REGISTRY}/{component}:{TAG}" for component in LIGHT}
