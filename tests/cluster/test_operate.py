"""submit, status, watch, its retry and schedule, as a person types them, on the Argo of a real cluster.

The run fails twice, each time for another reason, so that a retry has something to leave alone: first there is no
corpus, then no base model. Neither takes an LLM or a training.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from components.shared.durable import storage
from components.shared.manifest import read_manifest
from tests.cluster import readme
from tests.cluster.argo import ROOT, compiled, read
from tests.cluster.argo_runs import mounted_images
from tests.cluster.conftest import Store, store_variables
from tests.cluster.given_cluster import Site
from tests.cluster.kube import Kube
from tests.cluster.settings import values, write_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_ROOT_URI = "s3://retriever/operate"
_CORPUS, _BASE = f"{_ROOT_URI}/corpus", f"{_ROOT_URI}/base"


@dataclass(frozen=True)
class Operator:
    """A person with a shell: the flags of README's `compile`, and what they type."""

    flags: str
    flow: str
    environment: dict[str, str]
    kube: Kube

    def type(self, command: str, *, code: int = 0, seconds: float = 300) -> str:
        """Everything that `retriever COMMAND` wrote."""
        done = subprocess.run(
            ["bash", "-c", f"{shlex.quote(sys.executable)} -m pipelines.cli {command}"],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{command}: {done.returncode}: {said[-2500:]}"
        assert "Traceback" not in said
        return said

    @property
    def where(self) -> str:
        return f"--target argo --namespace {self.kube.namespace}"


@pytest.fixture(scope="module")
def operator(
    argo: Kube, store: Store, site: Site, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """The operator, and the WorkflowTemplate as the pods of a thin image need it, which every submit puts anew."""
    argo.secret(f"{namespace}-operate", **store_variables(store.inside))
    command = readme.command("retriever compile").rpartition(" --output ")[0]
    command = command.replace("retriever-store:", f"{namespace}-operate:").replace(
        "s3://retriever/runs/first", _ROOT_URI
    )
    flow = f"{namespace}-operate"
    chosen = {**values(_BASE, "http://llm:8000/v1"), "prepare.collection_uri": _CORPUS}
    settings = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in chosen.items())
    flags = f"{command.partition(' compile ')[2]} --name {flow} {settings}"
    environment = {"REGISTRY": site.registry, "TAG": site.tag, **mounted_images(site)}
    path = compiled(
        command, tmp_path_factory.mktemp("operate") / "argo.yaml", site, values=chosen, more=f"--name {flow}"
    )
    (template,) = read(path)
    person = Operator(flags, flow, environment, argo)
    _submit(person)
    argo.apply(template)
    yield person
    argo.run("delete", "workflow", f"--selector=workflows.argoproj.io/workflow-template={flow}", "--ignore-not-found")
    argo.run("delete", "workflow", f"--selector=retriever/run={_name(person)}", "--ignore-not-found")
    argo.run("delete", "cronworkflow,workflowtemplate", flow, "--ignore-not-found")
    argo.run("delete", "secret", f"{namespace}-operate")


def _submit(person: Operator) -> str:
    """The corpus is not there yet, so a word stands for it."""
    return person.type(f"submit {person.flags} --namespace {person.kube.namespace} --corpus-version first")


def _name(person: Operator) -> str:
    (name,) = [line.split()[0] for line in _submit(person).splitlines() if " is there already: " in line]
    return name.partition("-retry-")[0]


def test_the_same_is_submitted_once(operator: Operator) -> None:
    name = _name(operator)
    runs = operator.kube.items("workflow", selector=f"retriever/run={name}")
    assert [one["metadata"]["name"] for one in runs] == [name]


def test_watch_and_status_say_why_a_run_failed(operator: Operator, figures: Callable[[str], None]) -> None:
    name, start = _name(operator), time.monotonic()
    said = operator.type(f"watch {name} {operator.where}", code=1)
    figures(f"watched to its failure in {time.monotonic() - start:.0f} s")
    assert f"{name}  prepare  failed, " in said
    assert "exit code" in said
    (row,) = [line for line in operator.type(f"status {operator.where}").splitlines() if line.startswith(name)]
    assert row.split()[1] == "failed"
    assert "prepare: " in row


def test_a_retry_leaves_alone_what_is_finished(
    operator: Operator, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    name = _name(operator)
    storage.publish(write_corpus(tmp_path / "corpus"), _CORPUS)
    said = operator.type(f"watch {name} {operator.where} --retry 1", code=1)
    assert f"what failed runs again as {name}-retry-1" in said
    assert f"{name}-retry-1  prepare  succeeded" in said
    # There is no base model.
    assert f"{name}-retry-1: failed" in said
    created = read_manifest(f"{_ROOT_URI}/dataset").created
    start = time.monotonic()
    said = operator.type(f"watch {name}-retry-1 {operator.where} --retry 1", code=1)
    figures(f"a retry whose first task is finished, up to the next failure: {time.monotonic() - start:.0f} s")
    assert f"{name}-retry-2  prepare  succeeded" in said
    assert read_manifest(f"{_ROOT_URI}/dataset").created == created


def test_a_schedule_is_replaced_only_when_asked(operator: Operator) -> None:
    schedule = f"schedule {operator.flags} --namespace {operator.kube.namespace}"
    assert "it is new" in operator.type(f"{schedule} --cron '0 3 * * *'")
    assert "add --replace" in operator.type(f"{schedule} --cron '0 4 * * *'", code=65)
    assert "it replaces schedule '0 3 * * *'" in operator.type(f"{schedule} --cron '0 4 * * *' --replace")
    assert operator.kube.get("cronworkflow", operator.flow)["spec"]["schedules"] == ["0 4 * * *"]


def test_a_namespace_that_is_not_there_is_named(operator: Operator) -> None:
    said = operator.type("status --target argo --namespace nowhere-at-all", code=65)
    assert "there is no such namespace; create it (kubectl create namespace nowhere-at-all)" in said
    said = operator.type(f"submit {operator.flags} --namespace nowhere-at-all --corpus-version first", code=65)
    assert "there is no such namespace" in said
