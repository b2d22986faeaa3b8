"""Promotion starts where the gate's verdict says so, on both platforms; evaluate leaves what they compare."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from components.shared.contract.executor import write_output_files
from components.shared.contract.verdict import PASSED, VERDICT
from pipelines import argo, kubeflow
from pipelines.cluster.deployment import Deployment
from pipelines.settings import SettingsError, complete

_VALUES: dict[str, dict[str, Any]] = {
    "prepare": {"collection_uri": "s3://bucket/collection"},
    "encoder": {"checkpoint_uri": "org/model"},
    "annotate": {"llm_uri": "llm", "engine": "endpoint", "endpoint_uri": "http://vllm.llm:8000/v1"},
    "promote": {"store": "s3://bucket/releases"},
}
_DEPLOYMENT = Deployment(name="squad", artifact_root="s3://bucket/squad", state_uri="s3://bucket/squad/state")


@pytest.fixture(autouse=True, scope="module")
def _pushed_images() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGISTRY", "registry.example.com/retriever")
        patch.setenv("TAG", "0.1.0")
        yield


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("argo") / "argo.yaml"
    argo.compile_to(path, complete(_VALUES), "kind", _DEPLOYMENT)
    template: dict[str, Any] = yaml.safe_load(path.read_text())
    return template


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    path = tmp_path_factory.mktemp("kfp") / "pipeline.yaml"
    kubeflow.compile_to(path, complete(_VALUES), "kind", _DEPLOYMENT)
    return json_format.ParseDict(next(yaml.safe_load_all(path.read_text())), PipelineSpec())


def test_on_argo_promotion_has_a_condition_on_what_evaluate_leaves(workflow: dict[str, Any]) -> None:
    templates = {template["name"]: template for template in workflow["spec"]["templates"]}
    (node,) = [task for task in templates["retriever"]["dag"]["tasks"] if task["name"] == "promote"]
    assert node["when"] == "{{tasks.evaluate.outputs.parameters.verdict}} == pass"
    assert "evaluate" in node["dependencies"]
    (output,) = templates["evaluate"]["outputs"]["parameters"]
    env = {entry["name"]: entry.get("value") for entry in templates["evaluate"]["container"]["env"]}
    assert output == {"name": "verdict", "valueFrom": {"path": f"{env['RETRIEVER_OUTPUTS']}/verdict"}}
    # In the volume that the task may write to, and Argo's container beside it reads.
    mounts = [mount["mountPath"] for mount in templates["evaluate"]["container"]["volumeMounts"]]
    assert any(env["RETRIEVER_OUTPUTS"].startswith(f"{mount}/") for mount in mounts)
    # Nothing else waits for it, and nothing else has such an output.
    assert [name for name, template in templates.items() if "outputs" in template] == ["evaluate"]


def test_the_job_leaves_the_verdict_where_argo_looks(
    workflow: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (template,) = [one for one in workflow["spec"]["templates"] if one["name"] == "evaluate"]
    env = {entry["name"]: entry.get("value") for entry in template["container"]["env"]}
    write_output_files({VERDICT: "fail"})
    monkeypatch.setenv("RETRIEVER_OUTPUT_NAMES", env["RETRIEVER_OUTPUT_NAMES"])
    monkeypatch.setenv("RETRIEVER_OUTPUTS", str(tmp_path / "outputs"))
    write_output_files({VERDICT: PASSED, "trained_ndcg_10": 0.7})
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["verdict"]
    assert (tmp_path / "outputs" / "verdict").read_bytes() == b"pass"


def test_on_kubeflow_promotion_lies_behind_a_condition_in_a_pipeline_of_its_own(pipeline: PipelineSpec) -> None:
    flow = pipeline.components["comp-exit-handler-1"].dag.tasks
    (nested,) = [task for name, task in flow.items() if name == "promote-behind-the-gate"]
    verdict = nested.inputs.parameters["verdict"].task_output_parameter
    assert (verdict.producer_task, verdict.output_parameter_key) == ("evaluate", "verdict")
    assert "verdict" in pipeline.components["comp-evaluate"].output_definitions.parameters
    (conditional,) = pipeline.components[nested.component_ref.name].dag.tasks.values()
    condition = conditional.trigger_policy.condition
    assert "inputs.parameter_values['pipelinechannel--verdict'] == 'pass'" in condition
    (promote,) = pipeline.components[conditional.component_ref.name].dag.tasks.values()
    # It changes what no cache knows.
    assert (promote.task_info.name, promote.caching_options.enable_cache) == ("promote", False)
    # The run has come through when promotion has, or was not to be.
    assert "promote-behind-the-gate" in flow["came-through"].dependent_tasks


def test_a_release_that_no_server_could_reach_is_refused(tmp_path: Path) -> None:
    values = {**_VALUES, "promote": {"store": "/srv/releases"}}
    with pytest.raises(SettingsError, match=r"promote.store /srv/releases: a path of this machine"):
        argo.compile_to(tmp_path / "argo.yaml", complete(values), "kind", _DEPLOYMENT)


def test_without_a_store_nothing_is_promoted_and_nothing_compared(tmp_path: Path) -> None:
    values = {name: chosen for name, chosen in _VALUES.items() if name != "promote"}
    argo.compile_to(tmp_path / "argo.yaml", complete(values), "kind", _DEPLOYMENT)
    text = (tmp_path / "argo.yaml").read_text()
    assert "promote" not in text
    assert "verdict" not in text
