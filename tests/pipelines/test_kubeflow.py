"""The compiled pipeline is one that a cluster accepts, and parameter files mean what they say."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines import flow, kubeflow
from pipelines.cluster.names import component_name
from pipelines.kubeflow import arguments
from pipelines.resources import PROFILES
from pipelines.settings import SettingsError, complete
from tests.pipelines.compiling import CONTINUED, DEPLOYMENT, FLOWS, GIVEN, compile_to

pytestmark = pytest.mark.usefixtures("pushed_images", "quick_stacks")


@pytest.fixture(scope="module", params=sorted(PROFILES))
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    """The pipeline as a protobuf: parsing is a check of the schema."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_to(path, GIVEN, request.param)
    specification, *_ = yaml.safe_load_all(path.read_text())
    return json_format.ParseDict(specification, PipelineSpec())


def _dags(pipeline: PipelineSpec) -> Iterator[tuple[Any, Any]]:
    """Every graph of tasks, with the inputs that it declares."""
    yield pipeline.root.dag, pipeline.root.input_definitions
    for component in pipeline.components.values():
        if component.HasField("dag"):
            yield component.dag, component.input_definitions


def _is_guarded(pipeline: PipelineSpec) -> bool:
    """Whether a check, a record and an outcome stand round the flow, as on every cluster."""
    return "outcome" in pipeline.root.dag.tasks


def _flow(pipeline: PipelineSpec) -> Any:
    """The graph that holds the flow's tasks."""
    return pipeline.components["comp-exit-handler-1"].dag if _is_guarded(pipeline) else pipeline.root.dag


_GUARDS = {"check", "came through", "outcome"}


def _dangling(pipeline: PipelineSpec) -> list[str]:
    """Inputs of tasks that nothing fills, and outputs that nothing makes."""
    found = []
    for dag, declared in _dags(pipeline):
        for name, task in dag.tasks.items():
            iterated = {task.parameter_iterator.item_input, task.artifact_iterator.item_input}
            wanted = pipeline.components[task.component_ref.name].input_definitions
            for kind in ("parameters", "artifacts"):
                given = getattr(task.inputs, kind)
                missing = (
                    {key for key, its in getattr(wanted, kind).items() if not its.is_optional} - set(given) - iterated
                )
                found += [f"{name}.{key} is not given" for key in missing]
                undeclared = set(given) - set(getattr(wanted, kind)) - _put_into_texts(given)
                found += [f"{name}.{key} is not declared" for key in undeclared]
                for key, source in given.items():
                    found += _unmet(pipeline, dag, declared, f"{name}.{key}", kind, source)
    return found


def _put_into_texts(given: Any) -> set[str]:
    """Inputs that no component declares because KFP puts them into the text of another one."""
    texts = [
        source.runtime_value.constant.string_value for source in given.values() if hasattr(source, "runtime_value")
    ]
    return {key for text in texts for key in re.findall(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}", text)}


def _unmet(pipeline: PipelineSpec, dag: Any, declared: Any, where: str, kind: str, source: Any) -> list[str]:
    singular = kind.removesuffix("s")
    which = source.WhichOneof("kind")
    if which == f"component_input_{singular}":
        name = getattr(source, which)
        return [] if name in getattr(declared, kind) else [f"{where} reads {name}, which its graph does not declare"]
    if which == f"task_output_{singular}":
        output = getattr(source, which)
        made = pipeline.components[dag.tasks[output.producer_task].component_ref.name].output_definitions
        key = getattr(output, f"output_{singular}_key")
        return (
            [] if key in getattr(made, kind) else [f"{where} reads {key}, which {output.producer_task} does not make"]
        )
    return [] if which == "runtime_value" else [f"{where} has no source"]


def test_the_compiled_pipeline_has_no_dangling_inputs(compiled: PipelineSpec) -> None:
    # The loop, and on a cluster the exit handler round everything.
    assert len(list(_dags(compiled))) == 2 + _is_guarded(compiled)
    assert _dangling(compiled) == []


def test_a_dangling_input_would_be_seen(compiled: PipelineSpec) -> None:
    pipeline = PipelineSpec()
    pipeline.CopyFrom(compiled)
    task = _flow(pipeline).tasks["mine"]
    task.inputs.parameters["num_queries"].component_input_parameter = "nobody"
    task.inputs.artifacts["dataset"].task_output_artifact.output_artifact_key = "nothing"
    assert len(_dangling(pipeline)) == 2


def test_every_task_has_image_command_output_and_resources(compiled: PipelineSpec) -> None:
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    assert len(executors) == 9 + 3 * _is_guarded(compiled)
    for executor in executors.values():
        container = executor["container"]
        assert container["image"]
        assert container["command"][:2] == ["python", "-m"]
        assert {"cpuLimit", "memoryLimit", "cpuRequest", "memoryRequest"} & set(container["resources"])
    for component in compiled.components.values():
        outputs = component.output_definitions
        # KFP lets nothing out of an exit handler.
        assert outputs.artifacts or outputs.parameters or component.HasField("dag")
        assert "Output" not in outputs.artifacts


def test_resources_hold_no_placeholder(compiled: PipelineSpec) -> None:
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    assert not any("{{" in json.dumps(executor["container"]["resources"]) for executor in executors.values())


def test_every_task_is_cached_and_tried_again(compiled: PipelineSpec) -> None:
    tasks = [
        task
        for dag, _ in _dags(compiled)
        for task in dag.tasks.values()
        if not compiled.components[task.component_ref.name].HasField("dag")
    ]
    guards = [task for task in tasks if task.task_info.name in _GUARDS]
    assert len(tasks) - len(guards) == 9
    assert len(guards) == 3 * _is_guarded(compiled)
    # What looks at the world outside must look anew; everything else is a function of its inputs.
    assert not any(task.caching_options.enable_cache for task in guards)
    assert all(task.caching_options.enable_cache for task in tasks if task not in guards)
    # KFP compiles no retries into an exit task.
    assert all(task.retry_policy.max_retry_count >= 1 for task in tasks if task.task_info.name != "outcome")


def test_the_check_comes_first_and_gives_the_digest_of_the_collection(compiled: PipelineSpec) -> None:
    if not _is_guarded(compiled):
        assert "prepare_collection_digest" in compiled.root.input_definitions.parameters
        return
    assert "prepare_collection_digest" not in compiled.root.input_definitions.parameters
    tasks = _flow(compiled).tasks
    source = tasks["prepare"].inputs.parameters["collection_digest"].task_output_parameter
    assert (source.producer_task, source.output_parameter_key) == ("check", "digest")
    # Nothing begins before it, and the record is behind everything that nobody reads.
    assert {name for name, task in tasks.items() if not task.dependent_tasks} == {"check"}
    assert set(tasks["came-through"].dependent_tasks) == {"evaluate"}
    given = {
        name: value.runtime_value.constant.string_value for name, value in tasks["check"].inputs.parameters.items()
    }
    assert given["run_id"] == "{{$.pipeline_job_uuid}}"
    assert given["variables"] == "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"
    assert {entry.partition("=")[0] for entry in given["readable"].split(" ")} == {
        "prepare.collection_uri",
        "encoder.checkpoint_uri",
    }


def test_the_outcome_runs_however_the_flow_ended(compiled: PipelineSpec) -> None:
    if not _is_guarded(compiled):
        return
    outcome = compiled.root.dag.tasks["outcome"]
    assert list(outcome.dependent_tasks) == ["exit-handler-1"]
    assert outcome.trigger_policy.strategy == outcome.trigger_policy.ALL_UPSTREAM_TASKS_COMPLETED


def test_the_page_of_a_run_shows_what_was_measured_and_the_report(compiled: PipelineSpec) -> None:
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    outputs = compiled.components["comp-evaluate"].output_definitions.artifacts
    assert outputs["metrics"].artifact_type.schema_title == "system.Metrics"
    assert outputs["page"].artifact_type.schema_title == "system.HTML"
    assert outputs["note"].artifact_type.schema_title == "system.Markdown"
    env = {entry["name"]: entry["value"] for entry in executors["exec-evaluate"]["container"]["env"]}
    assert (env["RETRIEVER_PAGE"], env["RETRIEVER_NOTE"]) == ("report.html", "report.md")
    assert {"trained_ndcg_10", "base_ndcg_10", "trained_recall_100"} <= set(env["RETRIEVER_SHOWN"].split(","))
    annotate = {entry["name"]: entry["value"] for entry in executors["exec-annotate"]["container"]["env"]}
    assert "dollars" in annotate["RETRIEVER_SHOWN"].split(",")


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no profile 'cray'; known are laptop, kind, gke-l4, gke-l4x4, gke-a100, spot"):
        compile_to(tmp_path / "pipeline.yaml", GIVEN, "cray")


def test_shards_are_dealt_to_as_many_tasks(compiled: PipelineSpec) -> None:
    (loop,) = (task for task in _flow(compiled).tasks.values() if task.HasField("parameter_iterator"))
    assert json.loads(loop.parameter_iterator.items.raw) == [0, 1, 2]
    (annotate,) = compiled.components[loop.component_ref.name].dag.tasks.values()
    assert annotate.inputs.parameters["num_shards"].runtime_value.constant.number_value == 3


def test_settings_that_are_no_parameter_become_constants(tmp_path: Path) -> None:
    compile_to(
        tmp_path / "pipeline.yaml",
        {**GIVEN, "encoder": {"checkpoint_uri": "base", "query_prefix": "query: "}, "train": {"seed": 7}},
        "laptop",
    )
    specification = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    given = specification["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]
    assert given["query_prefix"] == {"runtimeValue": {"constant": "query: "}}
    assert given["seed"] == {"runtimeValue": {"constant": 7}}
    assert given["curriculum"] == {"componentInputParameter": "train_curriculum"}


def test_arguments_are_the_parameters_of_the_compiled_pipeline(tmp_path: Path, tiny_collection: Path) -> None:
    stages = [{"name": "llm", "labels": "llm"}]
    values = {**GIVEN, "prepare": {"collection_uri": str(tiny_collection)}, "train": {"curriculum": stages}}
    compile_to(tmp_path / "pipeline.yaml", values, "laptop")
    declared = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
    given = arguments(complete(values))
    assert set(given) == set(declared)
    assert json.loads(given["train_curriculum"]) == stages
    assert all(
        declared[name]["defaultValue"] == value for name, value in given.items() if name != "prepare_collection_digest"
    )


def test_a_changed_collection_is_another_cache_key(tiny_collection: Path) -> None:
    values = {**GIVEN, "prepare": {"collection_uri": str(tiny_collection)}}
    before = arguments(complete(values))["prepare_collection_digest"]
    assert arguments(complete(values))["prepare_collection_digest"] == before
    with (tiny_collection / "queries.jsonl").open("a") as file:
        file.write('{"_id": "another", "text": "what else"}\n')
    assert arguments(complete(values))["prepare_collection_digest"] != before


def test_a_run_that_lacks_an_address_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"annotate\.llm_uri is not set; a run needs it"):
        arguments(complete({**GIVEN, "annotate": {}}))


def test_what_only_this_machine_can_resolve_is_refused_with_the_remedy(tmp_path: Path) -> None:
    values = {**GIVEN, "encoder": {"checkpoint_uri": "packaged:all-MiniLM-L6-v2"}, "train": {"loss_temperature": 0.05}}
    with pytest.raises(SettingsError, match=r"encoder\.checkpoint_uri packaged:.*name a model on the hub"):
        compile_to(tmp_path / "pipeline.yaml", values, "laptop")
    assert not (tmp_path / "pipeline.yaml").exists()


def _compiled_edges(pipeline: PipelineSpec, settings: flow.Settings) -> set[tuple[str, str, str]]:
    """(task that makes, config field, task that reads), read from the compiled graph; loops are looked through."""
    titles = {component_name(task): task.name for task in flow.taking_part(settings)}
    edges: set[tuple[str, str, str]] = set()

    def walk(dag: Any, outer: dict[str, str]) -> None:
        for task in dag.tasks.values():
            inner = {name: _maker(source, dag, outer, pipeline) for name, source in task.inputs.artifacts.items()}
            component = pipeline.components[task.component_ref.name]
            if component.HasField("dag"):
                walk(component.dag, inner)
            elif title := titles.get(task.component_ref.name.removeprefix("comp-")):
                fields = ((name.removeprefix("given_"), maker) for name, maker in inner.items())
                edges.update((titles[maker], f"{name}_uri", title) for name, maker in fields)

    walk(pipeline.root.dag, {})
    return edges


def _maker(source: Any, dag: Any, outer: dict[str, str], pipeline: PipelineSpec) -> str:
    if source.WhichOneof("kind") == "component_input_artifact":
        return outer[source.component_input_artifact]
    producer = dag.tasks[source.task_output_artifact.producer_task]
    component = pipeline.components[producer.component_ref.name]
    if component.HasField("dag"):
        # A loop: the one task in it made the output.
        (inner,) = component.dag.tasks.values()
        return str(inner.component_ref.name.removeprefix("comp-"))
    return str(producer.component_ref.name.removeprefix("comp-"))


@pytest.mark.parametrize("name", FLOWS)
def test_the_compiled_graph_is_that_of_the_table(name: str, tmp_path: Path) -> None:
    settings = complete({**GIVEN, "annotate": {"llm_uri": "llm"}, **FLOWS[name]})
    kubeflow.compile_to(tmp_path / "pipeline.yaml", settings, "laptop")
    specification = next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))
    pipeline = json_format.ParseDict(specification, PipelineSpec())
    assert _compiled_edges(pipeline, settings) == flow.edges(settings)


def test_a_run_that_continues_looks_up_what_is_served_and_may_find_nothing_to_do(tmp_path: Path) -> None:
    settings = complete({**GIVEN, "annotate": {"llm_uri": "llm"} | GIVEN["annotate"] | {"num_shards": 1}, **CONTINUED})
    kubeflow.compile_to(tmp_path / "pipeline.yaml", settings, "kind", DEPLOYMENT)
    specification = next(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text()))
    pipeline = json_format.ParseDict(specification, PipelineSpec())
    assert _compiled_edges(pipeline, settings) == flow.edges(settings)
    tasks = {name: task for one in pipeline.components.values() for name, task in one.dag.tasks.items()}
    # A cache must know which release is served: by the digest of the check, which is made anew in every run.
    digest = tasks["start"].inputs.parameters["pointer_digest"].task_output_parameter
    assert (digest.producer_task, digest.output_parameter_key) == ("check", "digest")
    assert tasks["start"].caching_options.enable_cache
    assert not tasks["promote"].caching_options.enable_cache
    conditions = {task.trigger_policy.condition for task in tasks.values() if task.trigger_policy.condition}
    verdict = "inputs.parameter_values['pipelinechannel--start-verdict'] == 'pass'"
    assert {verdict, f"!({verdict})"} <= conditions
    # The outcome of a run that found nothing to do is that it came through.
    assert "nothing-to-do" in tasks


def test_a_job_in_a_container_knows_what_its_reader_can_type(compiled: PipelineSpec) -> None:
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    environment = {entry["name"]: entry["value"] for entry in executors["exec-train"]["container"]["env"]}
    sections = json.loads(environment["RETRIEVER_SECTIONS"])
    assert (sections["passage_tokens"], sections[""]) == ("encoder", "train")
