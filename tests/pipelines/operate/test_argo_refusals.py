"""What a person reads where cluster, rights, Argo or a bucket is not as it should be: where, what, the remedy."""

from pathlib import Path

import pytest

from tests.bucket import bucket as bucket
from tests.bucket import free_ports
from tests.pipelines.operate.kubernetes_server import KubernetesServer
from tests.pipelines.operate.typed import ON_ARGO, Typed

_COMMANDS = {
    "submit": f"submit {ON_ARGO}",
    "schedule": f"schedule {ON_ARGO} --cron @",
    "status": "status --target argo",
    "watch": "watch squad --target argo",
}


def _type(typed: Typed, command: str, *more: str) -> tuple[int, str]:
    words = _COMMANDS[command].removesuffix(" @")
    said = typed(words, *(["0 3 * * *"] if words.endswith("--cron") else []), *more)
    assert said.out == ""
    return said.code, said.err


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_cluster_that_does_not_answer_ends_with_75(
    command: str, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("KUBECONFIG", str(KubernetesServer().kubeconfig(tmp_path, url)))
    code, problem = _type(typed, command)
    assert code == 75
    assert f"{url}, namespace search" in problem
    assert "no answer" in problem
    assert "see whether the cluster runs and KUBECONFIG" in problem


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_cluster_that_fails_itself_ends_with_75(command: str, cluster: KubernetesServer, typed: Typed) -> None:
    cluster.broken = 99
    code, problem = _type(typed, command)
    assert code == 75
    assert "503 (the server is currently unable to handle the request)" in problem


@pytest.mark.parametrize("command", _COMMANDS)
def test_wrong_credentials_end_with_65(command: str, cluster: KubernetesServer, typed: Typed) -> None:
    cluster.token = "right"
    code, problem = _type(typed, command)
    assert code == 65
    assert "the credentials are not accepted (Unauthorized); log in again" in problem


@pytest.mark.parametrize("command", ["submit", "schedule"])
def test_a_missing_permission_ends_with_65_and_names_it(command: str, cluster: KubernetesServer, typed: Typed) -> None:
    cluster.forbidden = {("POST", "workflowtemplates")}
    code, problem = _type(typed, command)
    assert code == 65
    assert 'permission denied (workflowtemplates.argoproj.io is forbidden: User \\"ann\\" cannot create' in problem
    assert "ask for a Role in namespace search" in problem


@pytest.mark.parametrize("command", ["submit", "schedule", "status"])
def test_a_missing_namespace_ends_with_65(command: str, cluster: KubernetesServer, typed: Typed) -> None:
    code, problem = _type(typed, command, "--namespace", "nowhere")
    assert code == 65
    assert "there is no such namespace; create it (kubectl create namespace nowhere)" in problem
    assert cluster.objects == {}


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_cluster_without_argo_ends_with_65(command: str, cluster: KubernetesServer, typed: Typed) -> None:
    cluster.has_argo = False
    code, problem = _type(typed, command)
    assert code == 65
    assert "the cluster knows no argoproj.io/v1alpha1" in problem
    assert "install Argo Workflows" in problem


@pytest.mark.parametrize("command", _COMMANDS)
def test_no_kubeconfig_ends_with_65(command: str, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/kubeconfig")
    code, problem = _type(typed, command)
    assert code == 65
    assert "no cluster: " in problem
    assert "set KUBECONFIG" in problem


def test_a_run_that_is_not_there_ends_with_65(cluster: KubernetesServer, typed: Typed) -> None:
    code, problem = _type(typed, "watch")
    assert code == 65
    assert "there is no run squad; `retriever status --target argo` lists them" in problem


def test_a_missing_bucket_for_the_artifacts_ends_with_65(cluster: KubernetesServer, typed: Typed, bucket: str) -> None:
    code, problem = _type(typed, "submit", "--artifact-root", "gs://nowhere/runs")
    assert code == 65
    assert "no such bucket as nowhere; correct the name or create it" in problem
    assert cluster.objects == {}


def test_a_folder_that_the_first_run_will_make_is_no_problem(
    cluster: KubernetesServer, typed: Typed, bucket: str
) -> None:
    assert typed(_COMMANDS["submit"], "--artifact-root", f"{bucket}/runs").code == 0


def test_a_corpus_that_is_not_there_ends_with_65(cluster: KubernetesServer, typed: Typed, bucket: str) -> None:
    code, problem = _type(typed, "submit", "--set", f"prepare.collection_uri={bucket}/nothing")
    assert code == 65
    assert f"{bucket}/nothing: no such object or folder" in problem


def test_everything_that_cannot_be_compiled_is_said_before_the_cluster_is_asked(
    cluster: KubernetesServer, typed: Typed
) -> None:
    code, problem = _type(typed, "submit", "--set", "train.batch_queries=0", "--set", "mine.num_bm25=-1")
    assert code == 2
    assert "train.batch_queries 0" in problem
    assert "mine.num_bm25 -1" in problem
    assert cluster.requests == []
