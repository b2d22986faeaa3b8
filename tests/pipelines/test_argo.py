"""The compiled WorkflowTemplate is one that Argo accepts, and its graph, retries and rights are those we promise."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hera.workflows.models import CronWorkflow, WorkflowTemplate

from components.check.config import CheckConfig
from components.shared.launch import parse_flags
from pipelines import argo, flow
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.names import component_name
from pipelines.resources import LOCAL_PROFILES, PROFILES
from pipelines.settings import SettingsError, complete, read_settings
from tests.pipelines.argo_local import in_order

GOLDEN = Path(__file__).parent / "golden"
VALUES: dict[str, dict[str, Any]] = {
    "prepare": {"collection_uri": "s3://bucket/collection"},
    "encoder": {"checkpoint_uri": "sentence-transformers/all-MiniLM-L6-v2"},
    "annotate": {"llm_uri": "Qwen/Qwen2.5-7B-Instruct", "num_shards": 3, "engine": "endpoint"}
    | {"endpoint_uri": "http://vllm.llm:8000/v1"},
}
DEPLOYMENT = Deployment(
    name="squad",
    artifact_root="s3://bucket/squad",
    service_account="workflow",
    env=("AWS_ENDPOINT_URL=http://s3.storage:9000", "AWS_REGION=us-east-1"),
    secrets=("s3:AWS_ACCESS_KEY_ID=accesskey,AWS_SECRET_ACCESS_KEY=secretkey",),
    queue="retriever",
    schedule="0 3 * * 1",
)
_CLUSTER_PROFILES = sorted(set(PROFILES) - LOCAL_PROFILES)


@pytest.fixture(autouse=True)
def _pushed_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY", "registry.example.com/retriever")
    monkeypatch.setenv("TAG", "0.1.0")


def compiled(
    path: Path, values: dict[str, dict[str, Any]] = VALUES, profile: str = "kind", deployment: Deployment = DEPLOYMENT
) -> list[dict[str, Any]]:
    argo.compile_to(path / "argo.yaml", complete(values), profile, deployment)
    return list(yaml.safe_load_all((path / "argo.yaml").read_text()))


def _containers(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {template["name"]: template for template in workflow["spec"]["templates"] if "container" in template}


@pytest.mark.parametrize("profile", ["kind", "spot"])
def test_the_golden_files_are_what_is_compiled_today(profile: str, tmp_path: Path) -> None:
    # To write them again: copy what this test compiled over them, and look at the difference.
    compiled(tmp_path, profile=profile)
    assert (tmp_path / "argo.yaml").read_text() == (GOLDEN / f"argo-{profile}.yaml").read_text()


@pytest.mark.parametrize("profile", _CLUSTER_PROFILES)
def test_every_field_is_one_that_argo_knows(profile: str, tmp_path: Path) -> None:
    template, cron = compiled(tmp_path, profile=profile)
    for model, written in ((WorkflowTemplate, template), (CronWorkflow, cron)):
        read = model.model_validate(written)
        assert json.loads(read.model_dump_json(by_alias=True, exclude_none=True)) == written


def test_a_field_that_argo_does_not_know_would_be_seen(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    _containers(template)["train"]["retryStrategy"]["expresion"] = "true"
    read = WorkflowTemplate.model_validate(template)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_none=True)) != template


@pytest.mark.parametrize("more", [(), ("ask.num_queries=5", "answer.num_queries=5", "collect.num_queries=5")])
def test_the_parameters_of_a_small_cluster_name_nothing_that_only_this_machine_has(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    path = Path(flow.__file__).parent / "params" / "kind.yaml"
    settings = read_settings(path, ["prepare.collection_uri=s3://bucket/collection", *more])
    argo.compile_to(tmp_path / "argo.yaml", settings, "kind", DEPLOYMENT)


_FLOWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sharded": {"index": {"num_shards": 2}},
    "miner": {"miner": {"checkpoint_uri": "retriever"}},
    "asked": {"ask": {"llm_uri": "llm", "num_queries": 50, "engine": "transformers"}},
    "promoted": {"promote": {"store": "s3://bucket/releases"}},
    "continued": {
        "promote": {"store": "s3://bucket/releases"},
        "start": {"pointer_uri": "s3://bucket/releases/pointer.json"},
    },
}


@pytest.mark.parametrize("name", _FLOWS)
def test_argos_graph_is_that_of_the_table(name: str, tmp_path: Path) -> None:
    values = {**VALUES, **_FLOWS[name]}
    settings = complete(values)
    template, _ = compiled(tmp_path, values)
    titles = {component_name(task): task.name for task in flow.taking_part(settings)}
    containers = _containers(template)
    outputs = {
        re.sub(r"-\{\{inputs\.parameters\.shard\}\}$", "", _flags(containers[title])["output_uri"]): name
        for title, name in titles.items()
    }
    graphs = [one["dag"]["tasks"] for one in template["spec"]["templates"] if "dag" in one]
    tasks = {task["name"]: task for graph in graphs for task in graph}
    # What lies in the graph behind it waits for the task that may find nothing to do.
    behind = tasks.pop("flow", {"dependencies": []})["dependencies"]
    edges = set()
    for title, reader in titles.items():
        makers = set()
        for field, value in _flags(containers[title]).items():
            folders = {re.sub(r"-\d+$", "", uri) for uri in value.split(",")} if field != "output_uri" else set()
            edges |= {(outputs[folder], field, reader) for folder in folders & set(outputs)}
            makers |= {outputs[folder] for folder in folders & set(outputs)}
        # What is read by its address must also be waited for.
        assert {titles[waited] for waited in tasks[title].get("dependencies", ())} == makers - set(behind)
    assert edges == flow.edges(settings)
    assert {task["name"] for task in in_order(list(tasks.values()))} == set(titles)
    assert behind == ([component_name(opener)] if (opener := flow.opener(settings)) else [])


def test_where_there_is_nothing_to_do_the_first_task_is_the_only_one(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path, {**VALUES, **_FLOWS["continued"]})
    first, behind = template["spec"]["templates"][0]["dag"]["tasks"]
    assert (first["name"], behind["when"]) == ("start", "{{tasks.start.outputs.parameters.verdict}} == pass")
    containers = _containers(template)
    assert containers["start"]["container"]["command"] == ["python", "-m", "components.promote.start"]
    assert containers["start"]["outputs"]["parameters"][0]["name"] == "verdict"
    # Read when the run begins, and not when it was compiled.
    start = "{{workflow.parameters.artifact_root}}/start"
    for name, field in (("export-base", "checkpoint_uri"), ("train", "checkpoint_uri"), ("promote", "start_uri")):
        assert _flags(containers[name])[field] == start, name
    assert _flags(containers["start"])["pointer_uri"] == "s3://bucket/releases/pointer.json"


def _flags(template: dict[str, Any]) -> dict[str, str]:
    pairs = (argument.removeprefix("--").partition("=") for argument in template["container"]["args"])
    return {name.replace("-", "_"): value for name, _, value in pairs}


def test_a_shard_writes_its_own_artifact_and_its_reader_names_them_all(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    containers, root = _containers(template), "{{workflow.parameters.artifact_root}}"
    assert _flags(containers["annotate"])["shard"] == "{{inputs.parameters.shard}}"
    assert _flags(containers["annotate"])["output_uri"] == f"{root}/annotations-{{{{inputs.parameters.shard}}}}"
    assert _flags(containers["train"])["annotations_uri"] == ",".join(f"{root}/annotations-{n}" for n in range(3))
    (node,) = (task for task in template["spec"]["templates"][0]["dag"]["tasks"] if task["name"] == "annotate")
    assert node["withSequence"] == {"count": "3"}
    assert node["arguments"]["parameters"] == [{"name": "shard", "value": "{{item}}"}]


def test_every_template_refers_to_parameters_that_exist(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    declared = {parameter["name"] for parameter in template["spec"]["arguments"]["parameters"]}
    named = set(re.findall(r"\{\{workflow\.parameters\.(\w+)\}\}", json.dumps(template)))
    assert named == declared


def test_what_may_pass_is_tried_again_and_what_cannot_is_not(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    for name, container in _containers(template).items():
        retries = container["retryStrategy"]
        assert int(retries["limit"]) >= 1, name
        codes = re.search(r"exitCode\) in \[([-\d, ]+)\]", retries["expression"])
        assert codes is not None
        # -1: no exit code, the pod was lost; 75 the job asks for it; 137 and 143 something outside ended it.
        assert set(map(int, codes[1].split(","))) == {-1, 75, 137, 143}
        assert "lastRetry.status == 'Error'" in retries["expression"]
        # Argo would count it from the start of the first attempt.
        assert "maxDuration" not in retries["backoff"]


@pytest.mark.parametrize("profile", _CLUSTER_PROFILES)
def test_every_task_ends_some_day_and_the_run_after_all_of_them(profile: str, tmp_path: Path) -> None:
    template, _ = compiled(tmp_path, profile=profile)
    deadlines = [container["activeDeadlineSeconds"] for container in _containers(template).values()]
    assert all(deadline >= 3600 for deadline in deadlines)
    assert template["spec"]["activeDeadlineSeconds"] >= sum(deadlines)


def test_a_restricted_namespace_accepts_every_pod(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    pod = template["spec"]["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in _containers(template).values():
        rights = container["container"]["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        # All that a job writes is under the one folder that is mounted.
        assert rights["readOnlyRootFilesystem"] is True
        assert {"name": "scratch", "mountPath": "/tmp"} in container["container"]["volumeMounts"]
        assert {"name": "HOME", "value": "/tmp"} in container["container"]["env"]


def test_secrets_variables_account_and_queue_reach_every_pod(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    assert template["spec"]["serviceAccountName"] == "workflow"
    assert template["spec"]["podMetadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "retriever"
    key = {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "s3", "key": "accesskey"}}}
    for container in _containers(template).values():
        assert key in container["container"]["env"]
        assert {"name": "AWS_ENDPOINT_URL", "value": "http://s3.storage:9000"} in container["container"]["env"]


def test_a_claim_is_mounted_read_only_and_its_paths_are_no_longer_only_here(tmp_path: Path) -> None:
    values = {**VALUES, "prepare": {"collection_uri": "/corpus/mine"}}
    template, _ = compiled(tmp_path, values, deployment=replace(DEPLOYMENT, volumes=("corpus:/corpus",)))
    mount = {"name": "claim-corpus", "mountPath": "/corpus", "readOnly": True}
    assert all(mount in container["container"]["volumeMounts"] for container in _containers(template).values())
    assert {"name": "claim-corpus", "persistentVolumeClaim": {"claimName": "corpus", "readOnly": True}} in template[
        "spec"
    ]["volumes"]


def test_journal_and_training_state_lie_under_the_state_of_the_run(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path)
    containers = _containers(template)
    assert _flags(containers["annotate"])["journal_uri"] == "{{workflow.parameters.state_uri}}/journal"
    assert _flags(containers["train"])["state_uri"] == "{{workflow.parameters.state_uri}}/train"
    given = {parameter["name"]: parameter.get("value") for parameter in template["spec"]["arguments"]["parameters"]}
    assert given["state_uri"] == "s3://bucket/squad/state"


def test_one_run_at_a_time_writes_under_an_artifact_root_whatever_the_template_is_called(tmp_path: Path) -> None:
    first, _ = compiled(tmp_path)
    second, _ = compiled(tmp_path, deployment=replace(DEPLOYMENT, name="other"))
    other, _ = compiled(tmp_path, deployment=replace(DEPLOYMENT, artifact_root="s3://bucket/other"))
    mutexes = [template["spec"]["synchronization"]["mutexes"] for template in (first, second, other)]
    assert mutexes[0] == mutexes[1] == [{"name": "retriever-s3-bucket-squad"}]
    assert mutexes[2] != mutexes[0]


def test_a_gpu_task_has_its_pool_its_toleration_and_shared_memory(tmp_path: Path) -> None:
    template, _ = compiled(tmp_path, profile="spot")
    train = _containers(template)["train"]
    assert train["nodeSelector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-spot": "true",
    }
    assert {toleration["key"] for toleration in train["tolerations"]} == {"nvidia.com/gpu", "cloud.google.com/gke-spot"}
    assert train["container"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert train["volumes"] == [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in train["container"]["volumeMounts"]
    assert train["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert "nodeSelector" not in _containers(template)["prepare"]


def test_with_a_gateway_a_run_is_told_of_when_it_is_over_and_without_one_not(tmp_path: Path) -> None:
    told = replace(DEPLOYMENT, env=(*DEPLOYMENT.env, "PUSHGATEWAY_URL=http://pushgateway:9091"))
    template, _ = compiled(tmp_path, deployment=told)
    read = WorkflowTemplate.model_validate(template)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_none=True)) == template
    container = _containers(template)[template["spec"]["onExit"]]["container"]
    variables = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert (variables["PUSHGATEWAY_URL"], variables["RETRIEVER_PIPELINE"]) == ("http://pushgateway:9091", "squad")
    # As Argo fills it in, it is a config that the job takes.
    scope = {"workflow.name": "squad-1", "workflow.status": "Failed", "workflow.parameters.state_uri": "s3://b/state"}
    flags = [re.sub(r"\{\{([\w.]+)\}\}", lambda match: scope[match[1]], flag) for flag in container["args"]]
    config = parse_flags("check", CheckConfig, flags)
    assert (config.moment, config.run_id, config.status) == ("after", "squad-1", "Failed")
    assert config.records_uri == "s3://b/state/records"
    assert "onExit" not in compiled(tmp_path)[0]["spec"]


def test_with_a_collector_all_pods_of_a_run_know_its_id_and_without_one_they_need_not(tmp_path: Path) -> None:
    traced = replace(DEPLOYMENT, env=(*DEPLOYMENT.env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"))
    for deployment, expected in ((traced, {"{{workflow.uid}}"}), (DEPLOYMENT, {None})):
        template, _ = compiled(tmp_path, deployment=deployment)
        environments = [task["container"]["env"] for task in _containers(template).values()]
        variables = [{entry["name"]: entry.get("value") for entry in environment} for environment in environments]
        assert {values.get("RETRIEVER_RUN_ID") for values in variables} == expected


@pytest.mark.parametrize("profile", _CLUSTER_PROFILES)
def test_every_task_is_told_the_port_that_it_serves_its_metrics_on(profile: str, tmp_path: Path) -> None:
    template, _ = compiled(tmp_path, profile=profile)
    for name, task in _containers(template).items():
        variables = {entry["name"]: entry.get("value") for entry in task["container"]["env"]}
        (port,) = task["container"]["ports"]
        assert (port["name"], str(port["containerPort"])) == ("metrics", variables["METRICS_PORT"]), name


def test_a_schedule_runs_the_template_and_never_two_at_a_time(tmp_path: Path) -> None:
    template, cron = compiled(tmp_path)
    assert cron["spec"]["workflowSpec"] == {"workflowTemplateRef": {"name": template["metadata"]["name"]}}
    assert cron["spec"]["schedules"] == ["0 3 * * 1"]
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


def test_without_a_schedule_there_is_no_cron_workflow_and_argo_asks_for_what_is_missing(tmp_path: Path) -> None:
    values = {**VALUES, "prepare": {}}
    (template,) = compiled(tmp_path, values, deployment=replace(DEPLOYMENT, schedule=""))
    without = [one["name"] for one in template["spec"]["arguments"]["parameters"] if "value" not in one]
    assert without == ["prepare_collection_uri"]
    with pytest.raises(SettingsError, match=r"prepare\.collection_uri is not set.*nobody fills it in"):
        compiled(tmp_path, values)


def test_what_argo_would_read_as_a_template_is_refused(tmp_path: Path) -> None:
    values = {**VALUES, "encoder": {**VALUES["encoder"], "query_prefix": "{{query}}: "}}
    with pytest.raises(ValueError, match=r"encoder\.query_prefix '\{\{query\}\}: ': Argo reads two opening braces"):
        compiled(tmp_path, values)


def test_without_a_bucket_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"add --artifact-root s3://bucket"):
        compiled(tmp_path, deployment=replace(DEPLOYMENT, artifact_root=""))
    with pytest.raises(SettingsError, match=r"artifact-root /data: no pod finds this"):
        compiled(tmp_path, deployment=replace(DEPLOYMENT, artifact_root="/data"))
