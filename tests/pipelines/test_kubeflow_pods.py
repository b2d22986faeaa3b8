"""Where the tasks of a compiled pipeline run: machines, rights, secrets, deadlines, and what outlives a pod."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.cluster.variables import METRICS_PORT, TASK_LABELS
from pipelines.resources import HOUR, LOCAL_PROFILES, PROFILES
from tests.pipelines.compiling import GIVEN, compile_to

pytestmark = pytest.mark.usefixtures("pushed_images", "quick_stacks")


def test_a_gpu_task_has_its_pool_its_toleration_and_shared_memory(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", GIVEN, "gke-l4")
    specification, kubernetes = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    executors = specification["deploymentSpec"]["executors"]
    with_gpu = {name for name, each in executors.items() if "accelerator" in each["container"]["resources"]}
    assert with_gpu == {"exec-annotate", "exec-train", "exec-index", "exec-index-base"}
    its = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name in with_gpu:
        assert its[name]["nodeSelector"]["labels"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
        assert its[name]["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert its[name]["emptyDirMounts"][0] | {"sizeLimit": ""} == {
            "medium": "Memory",
            "mountPath": "/dev/shm",
            "sizeLimit": "",
            "volumeName": "shared-memory",
        }
        assert its[name]["podMetadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    # The others hold torch or vLLM, which are CUDA builds in the first place.
    in_variant = {name for name, each in executors.items() if each["container"]["image"].endswith("-gpu")}
    assert in_variant == {"exec-index", "exec-index-base"}


_CLUSTER_PROFILES = sorted(set(PROFILES) - LOCAL_PROFILES)


@pytest.mark.parametrize("profile", _CLUSTER_PROFILES)
def test_every_pod_has_a_deadline_rights_secrets_variables_and_a_queue(profile: str, tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", GIVEN, profile)
    specification, kubernetes = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    placed = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    executors = specification["deploymentSpec"]["executors"]
    assert set(placed) == set(executors)
    for name, its in placed.items():
        # It also ends a pod whose image cannot be pulled.
        assert int(its["activeDeadlineSeconds"]) >= HOUR
        # Argo retries nothing after it, counted from the start of the first attempt.
        if name == "exec-outcome":
            # KFP compiles no retries into an exit task.
            continue
        window = int(_retry_policy(specification, name)["backoffMaxDuration"].removesuffix("s"))
        assert window == 604800 >= int(its["activeDeadlineSeconds"])
        assert its["securityContext"] == {"runAsNonRoot": True}
        assert its["secretAsEnv"][0]["keyToEnv"] == [{"secretKey": "accesskey", "envVar": "AWS_ACCESS_KEY_ID"}]
        assert its["podMetadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "retriever"
        assert its["pvcMount"][0]["mountPath"] == "/corpus"
        # Of it every pod of the run makes the same trace.
        run_id = {"name": "RETRIEVER_RUN_ID", "fieldPath": "metadata.labels['pipeline/runid']"}
        assert its["fieldPathAsEnv"] == [run_id]
        env = {entry["name"]: entry["value"] for entry in executors[name]["container"]["env"]}
        assert env["AWS_ENDPOINT_URL"] == "http://s3.storage:9000"
        # What the monitor of tasks selects, and where it looks.
        assert TASK_LABELS.items() <= its["podMetadata"]["labels"].items()
        assert env["METRICS_PORT"] == str(METRICS_PORT)


@pytest.mark.parametrize("profile", _CLUSTER_PROFILES)
def test_every_pod_asks_for_what_its_row_says_on_the_nodes_that_its_row_names(profile: str, tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", GIVEN, profile)
    specification, kubernetes = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    placed = kubernetes["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in specification["deploymentSpec"]["executors"].items():
        container, its = executor["container"], placed[name]
        row = PROFILES[profile][container["command"][2].rpartition(".")[2]]
        assert container["resources"]["resourceCpuLimit"] == row.cpu
        assert container["resources"]["resourceMemoryLimit"] == row.memory
        assert container["resources"]["resourceCpuRequest"] == (row.cpu_request or row.cpu)
        assert container["resources"]["resourceMemoryRequest"] == (row.memory_request or row.memory)
        accelerator = container["resources"].get("accelerator", {})
        assert accelerator.get("resourceCount", "0") == str(row.num_gpus if row.gpu else 0)
        selected = {
            "cloud.google.com/gke-accelerator": row.gpu,
            "cloud.google.com/gke-spot": "true" if row.spot else "",
        }
        wanted = {label: value for label, value in selected.items() if value}
        assert its.get("nodeSelector", {"labels": {}})["labels"] == wanted
        tolerated = {toleration["key"] for toleration in its.get("tolerations", [])}
        assert tolerated == {name for name, value in {"nvidia.com/gpu": row.gpu, **selected}.items() if value} - {
            "cloud.google.com/gke-accelerator"
        }


def test_a_file_of_digests_pins_every_image_of_the_compiled_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = ("check", "prepare", "export", "index-gpu", "mine", "annotate", "train", "evaluate")
    digests = {build: f"registry.example.com/{build}@sha256:{number:064d}" for number, build in enumerate(builds)}
    (tmp_path / "digests.json").write_text(json.dumps(digests))
    monkeypatch.setenv("IMAGE_DIGESTS", str(tmp_path / "digests.json"))
    compile_to(tmp_path / "pipeline.yaml", GIVEN, "gke-l4")
    images = re.findall(r"(?m)^ *image: (.+)$", (tmp_path / "pipeline.yaml").read_text())
    # Those of the guards too.
    assert set(images) == set(digests.values())
    del digests["index-gpu"]
    (tmp_path / "digests.json").write_text(json.dumps(digests))
    with pytest.raises(ValueError, match=r"index-gpu has no reference.*VARIANT=gpu.*IMAGE_INDEX_GPU"):
        compile_to(tmp_path / "pipeline.yaml", GIVEN, "gke-l4")


def _retry_policy(specification: dict[str, Any], executor: str) -> dict[str, Any]:
    """Of the task whose component has this executor, wherever in the graph it stands."""
    (component,) = (name for name, its in specification["components"].items() if its.get("executorLabel") == executor)
    graphs = [specification["root"], *(its for its in specification["components"].values() if "dag" in its)]
    (task,) = (
        task for graph in graphs for task in graph["dag"]["tasks"].values() if task["componentRef"]["name"] == component
    )
    policy: dict[str, Any] = task["retryPolicy"]
    return policy


def test_journal_and_training_state_lie_under_the_state_of_the_run(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", GIVEN, "kind")
    specification, _ = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    root = specification["root"]
    assert root["inputDefinitions"]["parameters"]["state_uri"]["defaultValue"] == "s3://bucket/squad/state"
    assert "train_state_uri" not in root["inputDefinitions"]["parameters"]
    train = specification["components"]["comp-exit-handler-1"]["dag"]["tasks"]["train"]["inputs"]["parameters"]
    (channel,) = re.findall(
        r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}/train", train["state_uri"]["runtimeValue"]["constant"]
    )
    assert (
        train[channel]
        == {"componentInputParameter": channel}
        == {"componentInputParameter": "pipelinechannel--state_uri"}
    )


def test_training_and_the_llms_engines_take_several_gpus_of_one_pod(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", GIVEN, "gke-l4x4")
    specification, _ = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    resources = {
        name: each["container"]["resources"] for name, each in specification["deploymentSpec"]["executors"].items()
    }
    counts = {name: int(its["accelerator"]["resourceCount"]) for name, its in resources.items() if "accelerator" in its}
    assert counts == {"exec-annotate": 4, "exec-train": 4, "exec-index": 1, "exec-index-base": 1}
