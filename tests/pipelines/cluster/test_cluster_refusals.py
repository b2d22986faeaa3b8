"""What no pod could do is said when it is compiled, with what to write instead."""

from dataclasses import replace
from typing import Any

import pytest

from pipelines.cluster.deployment import Deployment
from pipelines.cluster.refusals import refuse_for_cluster, weights_gib
from pipelines.settings import SettingsError, complete

_VALUES: dict[str, dict[str, Any]] = {
    "prepare": {"collection_uri": "gs://bucket/collection"},
    "encoder": {"checkpoint_uri": "org/model"},
    "annotate": {"llm_uri": "Qwen/Qwen2.5-7B-Instruct"},
}
_DEPLOYMENT = Deployment(state_uri="gs://bucket/state")


@pytest.fixture(autouse=True)
def _pushed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "registry.example.com/retriever")
    monkeypatch.setenv("TAG", "0.1.0")


def _problems(
    section: str = "prepare", profile: str = "gke-a100", deployment: Deployment = _DEPLOYMENT, **values: Any
) -> list[str]:
    merged = {**_VALUES, section: {**_VALUES.get(section, {}), **values}}
    try:
        refuse_for_cluster(complete(merged), profile, deployment)
    except SettingsError as error:
        return error.problems
    return []


@pytest.mark.parametrize("profile", ["gke-l4", "gke-a100", "spot"])
def test_what_a_cluster_can_run_is_not_refused(profile: str) -> None:
    assert _problems(profile=profile) == []


@pytest.mark.parametrize("chosen", [{"num_engines": 4}, {"vllm_tensor_parallel_size": 4}])
def test_a_pods_gpus_are_all_used_and_no_more(chosen: dict[str, int]) -> None:
    assert _problems("annotate", "gke-l4x4", **chosen) == []
    (problem,) = _problems("annotate", "gke-l4x4")
    assert problem.startswith(
        "annotate.num_engines 1 of 1 GPUs each (vllm_tensor_parallel_size): a pod of this profile"
    )
    (problem,) = _problems("annotate", "gke-l4", **chosen)
    assert "has 1; choose numbers whose product that is" in problem


@pytest.mark.parametrize("path", ["/home/me/corpus", "~/corpus", "./corpus", "tests"])
def test_a_path_of_this_machine_is_refused_unless_a_claim_is_mounted_there(path: str) -> None:
    (problem,) = _problems(collection_uri=path)
    assert problem.startswith(f"prepare.collection_uri {path}: a path of this machine, which no pod has")
    assert "--volume" in problem
    if path.startswith("/"):
        assert _problems(collection_uri=path, deployment=replace(_DEPLOYMENT, volumes=("corpus:/home/me",))) == []


def test_the_same_path_is_right_where_the_tasks_run_on_this_machine() -> None:
    assert _problems(profile="laptop", collection_uri="/home/me/corpus", deployment=Deployment()) == []


def test_a_packaged_model_is_refused_everywhere() -> None:
    for profile in ("laptop", "gke-a100"):
        problems = _problems("annotate", profile, llm_uri="packaged:SmolLM2-135M-Instruct", engine="transformers")
        assert any("a file of a package on this machine" in problem for problem in problems)


def test_a_cluster_without_a_place_for_state_is_refused() -> None:
    (problem,) = _problems(deployment=Deployment())
    assert problem.startswith("state-uri is not set")
    assert "add --state-uri s3://bucket/folder" in problem


def test_a_server_on_loopback_is_refused() -> None:
    (problem,) = _problems("annotate", engine="endpoint", endpoint_uri="http://localhost:8000/v1")
    assert "in a pod that is the pod itself" in problem


def test_an_llm_that_no_gpu_of_the_profile_holds_is_refused() -> None:
    # 32e9 parameters of one byte are 29.8 GiB; three quarters of 24 GiB are 18, of 80 GiB 60.
    large = "Qwen/Qwen2.5-32B-Instruct-GPTQ-Int8"
    (problem,) = _problems("annotate", "gke-l4", llm_uri=large)
    assert "about 30 GiB of weights; 1 nvidia-l4 of 24 GiB have room for 18" in problem
    assert _problems("annotate", "gke-a100", llm_uri=large) == []
    # Four of them together have room for 72; so has one for weights of .6 bytes, 17.9 GiB.
    assert _problems("annotate", "gke-l4x4", llm_uri=large, vllm_tensor_parallel_size=4) == []
    plain = {"llm_uri": "Qwen/Qwen2.5-32B-Instruct", "vllm_quantization": "awq"}
    assert _problems("annotate", "gke-l4", **plain) == []


def test_vllm_without_a_gpu_is_refused() -> None:
    (problem,) = _problems("annotate", "kind")
    assert problem.startswith("annotate.engine vllm: profile has no GPU")


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 13.0),
        ("org/Model-8x7B", 104.3),
        ("org/llama-70b-AWQ", 39.1),
        ("org/model-0.5B-fp8", 0.5),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", None),
        ("s3://bucket/my-llm", None),
    ],
)
def test_a_name_says_how_large_the_weights_are_or_nothing(name: str, gib: float | None) -> None:
    size = weights_gib(name)
    assert size is None if gib is None else size == pytest.approx(gib, abs=0.1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"name": "My Corpus"}, "no name for Kubernetes"),
        ({"state_uri": "/data/state"}, "no pod finds this"),
        ({"env": ("NAME",)}, "write NAME=VALUE"),
        ({"secrets": ("s3",)}, "write SECRET:NAME=KEY"),
        ({"volumes": ("corpus",)}, "write CLAIM:/folder"),
        ({"schedule": "daily"}, "cron's five fields"),
    ],
)
def test_what_is_written_wrong_about_the_cluster_is_refused(wrong: dict[str, Any], says: str) -> None:
    problems = _problems(deployment=replace(_DEPLOYMENT, **wrong))
    assert any(says in problem for problem in problems)
