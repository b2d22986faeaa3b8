"""Servers of both platforms, a corpus in a bucket of this process, and a way to type commands."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.shared.durable import storage
from tests.pipelines.operate.answering import serving
from tests.pipelines.operate.kubeflow_server import KubeflowServer
from tests.pipelines.operate.kubernetes_server import KubernetesServer
from tests.pipelines.operate.typed import Typed

CORPUS = "memory://corpora/squad"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nobody listens there, which submit says and goes on.
    monkeypatch.setenv("REGISTRY", "127.0.0.1:9/retriever")
    monkeypatch.setenv("TAG", "0.1.0")
    monkeypatch.setenv("RETRIEVER_LOG", "json")
    # Neither a cluster nor a server of whoever runs the tests.
    for name in ("KUBECONFIG", "KF_PIPELINES_ENDPOINT", "RETRIEVER_KFP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(autouse=True)
def corpus() -> str:
    """A text of the corpus that no other test has."""
    text = uuid.uuid4().hex
    storage.write_bytes(f"{CORPUS}/corpus.jsonl", text.encode())
    return text


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    return Typed(capsys, monkeypatch)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KubernetesServer]:
    """A cluster that KUBECONFIG names."""
    server = KubernetesServer()
    with serving(server) as url:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path, url)))
        yield server


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeflowServer]:
    """A server that KF_PIPELINES_ENDPOINT names."""
    server = KubeflowServer()
    with serving(server) as url:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", url)
        yield server
