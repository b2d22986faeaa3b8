"""submit looks for the images in their registry: missing ones are named, a registry that tells nothing is said."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipelines.operate.registry import parse
from tests.pipelines.operate.answering import Answer, Asked, serving
from tests.pipelines.operate.kubernetes_server import KubernetesServer
from tests.pipelines.operate.typed import ON_ARGO, Typed

_SUBMIT = f"submit {ON_ARGO} --namespace search --corpus-version 1"


class Registry:
    """Answers as a registry does that lacks the repositories of `lacking`, and all else with `status`."""

    def __init__(self) -> None:
        self.lacking: set[str] = set()
        self.status = 200
        self.requests: list[Asked] = []

    def answer(self, asked: Asked, authorization: str) -> Answer:
        assert authorization == ""
        return Answer(404 if asked.path.split("/")[-3] in self.lacking else self.status, {})


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    one = Registry()
    with serving(one) as url:
        monkeypatch.setenv("REGISTRY", f"{url.removeprefix('http://')}/team/retriever")
        yield one


def test_an_image_that_its_registry_does_not_have_is_named_before_anything_is_started(
    registry: Registry, cluster: KubernetesServer, typed: Typed
) -> None:
    registry.lacking = {"train", "mine"}
    said = typed(_SUBMIT)
    assert said.code == 65
    for component in registry.lacking:
        assert f"/team/retriever/{component}:0.1.0: its registry has none; push it (make images PUSH=1)" in said.err
    assert "IMAGE_TRAIN" in said.err
    assert cluster.requests == []


def test_images_that_are_there_are_asked_for_once_each_by_their_manifest(
    registry: Registry, cluster: KubernetesServer, typed: Typed
) -> None:
    said = typed(_SUBMIT)
    assert (said.code, "could not look" in said.err) == (0, False)
    paths = [asked.path for asked in registry.requests]
    assert "/v2/team/retriever/train/manifests/0.1.0" in paths
    assert {asked.method for asked in registry.requests} == {"HEAD"}
    assert len(paths) == len(set(paths))
    assert cluster.requests


def test_a_registry_that_wants_a_login_is_said_once_and_no_error(
    registry: Registry, cluster: KubernetesServer, typed: Typed
) -> None:
    registry.status = 401
    said = typed(_SUBMIT)
    assert (said.code, said.err.count("could not look whether the images are there")) == (0, 1)
    assert "it answers 401 to who does not log in" in said.err
    assert len(registry.requests) == 1
    assert cluster.requests


def test_a_registry_that_does_not_answer_is_said_and_no_error(cluster: KubernetesServer, typed: Typed) -> None:
    said = typed(_SUBMIT)
    assert said.code == 0
    assert said.err.count("it does not answer (ConnectError)") == 1
    assert cluster.requests


def test_the_parts_of_a_reference_are_those_that_docker_reads() -> None:
    digest = f"sha256:{'0' * 64}"
    assert parse("localhost:5000/a/b:1") == ("localhost:5000", "a/b", "1")
    assert parse(f"ghcr.io/a/b@{digest}") == ("ghcr.io", "a/b", digest)
    # On the nodes, or Docker Hub's.
    assert parse("retriever/train:0.1.0") == ("", "retriever/train", "0.1.0")
