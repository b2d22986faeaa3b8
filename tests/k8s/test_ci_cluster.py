"""CI's part on a cluster: left out aloud where there is no cluster or no time, and red where a test fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_LEFT_OUT = "THE TESTS ON A CLUSTER WERE LEFT OUT"


def _run(seconds: int, path: Path, root: Path = _ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    known = {name: value for name, value in os.environ.items() if name not in ("KUBECONFIG", "RETRIEVER_CLUSTER")}
    variables = {**known, "PATH": f"{path}:{os.environ['PATH']}", **environment}
    command = ["bash", str(root / ".ci" / "cluster"), str(seconds)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)


def _program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_cluster_that_does_not_come_up_leaves_the_tests_out(tmp_path: Path) -> None:
    program = _program(tmp_path, "cluster", "exit 1")
    done = _run(5400, tmp_path, RETRIEVER_CLUSTER=str(program))
    assert (done.returncode, _LEFT_OUT in done.stdout, "up failed" in done.stdout) == (0, True, True)


def _checkout(folder: Path) -> Path:
    """A checkout with nothing in it but this script."""
    root = folder / "checkout"
    (root / ".ci").mkdir(parents=True)
    shutil.copy(_ROOT / ".ci" / "cluster", root / ".ci" / "cluster")
    (root / "pyproject.toml").write_text('version = "0.1.0"\n')
    return root


def test_without_any_cluster_the_tests_are_left_out(tmp_path: Path) -> None:
    done = _run(5400, tmp_path, _checkout(tmp_path))
    assert (done.returncode, "there is no ../shared/cluster/cluster" in done.stdout) == (0, True)


def test_a_cluster_beside_the_checkout_is_started_and_ended_where_it_was_built_before(tmp_path: Path) -> None:
    root, beside, home = _checkout(tmp_path), tmp_path / "shared" / "cluster", tmp_path / "home"
    beside.mkdir(parents=True)
    _program(beside, "cluster", f'echo "$1" >>{tmp_path}/asked; [ "$1" != up ]')
    _program(tmp_path, "go", "exit 0")
    done = _run(5400, tmp_path, root, CLUSTER_HOME=str(home))
    assert (done.returncode, "has not been built here" in done.stdout) == (0, True)
    assert not (tmp_path / "asked").exists()
    (home / "bin").mkdir(parents=True)
    _program(home / "bin", "kubelet", "exit 0")
    done = _run(5400, tmp_path, root, CLUSTER_HOME=str(home))
    assert (done.returncode, "up failed" in done.stdout) == (0, True)
    # Half a cluster is ended too.
    assert (tmp_path / "asked").read_text().split() == ["status", "up", "down"]


def test_a_cluster_that_another_run_works_on_is_left_alone(tmp_path: Path) -> None:
    program = _program(tmp_path, "cluster", f'echo "$1" >>{tmp_path}/asked; echo "kubelet up"')
    done = _run(5400, tmp_path, RETRIEVER_CLUSTER=str(program))
    assert (done.returncode, "runs already" in done.stdout) == (0, True)
    assert (tmp_path / "asked").read_text().split() == ["status"]


def test_without_time_no_cluster_is_started(tmp_path: Path) -> None:
    program = _program(tmp_path, "cluster", f'[ "$1" = status ] || touch {tmp_path}/started')
    done = _run(600, tmp_path, RETRIEVER_CLUSTER=str(program))
    assert (done.returncode, _LEFT_OUT in done.stdout) == (0, True)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("code", [0, 2])
def test_on_a_cluster_that_is_there_the_tests_decide(tmp_path: Path, code: int) -> None:
    _program(tmp_path, "make", f'echo "$@" >{tmp_path}/asked; exit {code}')
    done = _run(5400, tmp_path, KUBECONFIG="/some/kubeconfig")
    assert (done.returncode, _LEFT_OUT in done.stdout) == (code, False)
    assert (tmp_path / "asked").read_text() == "test-cluster\n"


def test_ci_gives_it_what_is_left_of_the_limit() -> None:
    lines = (_ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "part bash .ci/cluster $((${CI_LIMIT_SECONDS:-5400} - SECONDS))"
