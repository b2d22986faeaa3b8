"""The server in the cluster: searched through its Service, rolled over under load, scaled, drained, and locked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from components.serve.client import RetrieverClient
from tests.cluster.conftest import Server, roll_out
from tests.cluster.given_cluster import Site, cannot
from tests.cluster.kube import Kube, Object, is_true, until
from tests.cluster.load_pod import answers_of
from tests.cluster.overlays import write_overlay

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def _pods(kube: Kube) -> list[Object]:
    return kube.items("pod", selector="app.kubernetes.io/name=retriever-serve")


def test_a_search_through_the_service_finds_the_passage(server: Server, client: Callable[..., str]) -> None:
    answers, versions = answers_of(server.kube, client(seconds=2, threads=1), 60)
    assert set(answers) == {"200"}
    assert len(versions) == 1
    with server.kube.forwarded("service/retriever-serve", 80) as url, RetrieverClient(url, api_key=server.key) as asked:
        ranking = asked.search("season of a beehive", depth=1)
    assert [hit.passage_id for hit in ranking.hits] == ["beehive-season"]
    assert "told in plain words" in ranking.hits[0].text


def test_nobody_searches_without_the_key_of_the_secret(server: Server) -> None:
    with server.kube.forwarded("service/retriever-serve", 80) as url:
        refused = httpx.post(f"{url}/search", json={"query": "season of a beehive"})
        assert refused.status_code == 401
        assert httpx.get(f"{url}/readyz").json()["ready"] is True


def test_the_server_runs_in_a_restricted_namespace_without_a_token_and_cannot_write(server: Server) -> None:
    labels = server.kube.get("namespace", server.kube.namespace)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = _pods(server.kube)[0]["metadata"]["name"]
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    code = f"import os, sys; sys.exit(os.path.exists({token!r}) or os.access('/app', os.W_OK) or os.getuid() == 0)"
    server.kube.run("exec", pod, "--", "python", "-c", code)


def test_load_makes_the_autoscaler_add_a_server(
    server: Server, client: Callable[..., str], figures: Callable[[str], None]
) -> None:
    service = server.kube.attempt("get", "apiservice", "v1beta1.metrics.k8s.io", "--output=json")
    if service.returncode or not is_true(json.loads(service.stdout), "Available"):
        cannot("the cluster has no metrics API; install metrics-server")
    before = len(_pods(server.kube))
    # Before any other load, which would have made it add one already; it takes it away five minutes later.
    assert before < server.kube.get("horizontalpodautoscaler", "retriever-serve")["spec"]["maxReplicas"]
    pod = client(seconds=240, threads=6, depth=30)
    start = time.monotonic()
    scaler = until(220, "the autoscaler", lambda: _scaled(server.kube, before), 2)
    assert until(120, "another ready server", lambda: len(_ready(server.kube)) > before, 2)
    took = time.monotonic() - start
    usage = scaler["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"]
    after = len(_ready(server.kube))
    figures(f"from {before} to {after} servers {took:.0f} s after the load began, at {usage} % of the requested CPU")
    server.kube.run("delete", "pod", pod, "--grace-period=1", "--ignore-not-found")


def test_a_rollout_under_load_loses_no_request(
    server: Server,
    site: Site,
    artifacts: dict[str, dict[str, str]],
    client: Callable[..., str],
    figures: Callable[[str], None],
    tmp_path: Path,
) -> None:
    seconds = 90.0
    pod = client(seconds=seconds, threads=2)
    until(60, "the load", lambda: server.kube.get("pod", pod)["status"]["phase"] == "Running")
    folder = write_overlay(
        tmp_path, "overlays/kind", site, namespace=server.kube.namespace, artifacts=artifacts["second"]
    )
    start = time.monotonic()
    server.kube.run("apply", f"--kustomize={folder}")
    roll_out(server.kube)
    took = time.monotonic() - start
    assert took < seconds - 15, f"the rollout took {took:.0f} s, longer than the load"
    answers, versions = answers_of(server.kube, pod, seconds + 60)
    again = answers.pop("sent again", 0)
    failed = sum(count for outcome, count in answers.items() if outcome != "200")
    figures(f"rollout in {took:.0f} s: {answers['200']} requests served, {failed} failed, {again} sent again")
    assert failed == 0, answers
    # The load met both releases, so it was really there when one took over from the other.
    assert len(versions) == 2
    # What was applied can be taken back.
    server.kube.run("rollout", "undo", "deployment/retriever-serve")
    roll_out(server.kube)
    with server.kube.forwarded("service/retriever-serve", 80) as url:
        # The release that answered first.
        assert httpx.get(f"{url}/readyz").json()["version"] in versions


def test_a_node_may_be_drained_one_server_at_a_time(server: Server) -> None:
    budget = server.kube.get("poddisruptionbudget", "retriever-serve")["status"]
    assert budget["expectedPods"] >= 1
    assert budget["disruptionsAllowed"] == 1


def _scaled(kube: Kube, before: int) -> Object | None:
    scaler = kube.get("horizontalpodautoscaler", "retriever-serve")
    return scaler if scaler["status"].get("desiredReplicas", 0) > before else None


def _ready(kube: Kube) -> list[Object]:
    return [pod for pod in _pods(kube) if is_true(pod, "Ready")]
