"""The compiled pipeline is one that a cluster accepts, and parameter files mean what they say."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines.resources import PROFILES
from pipelines.retriever import arguments, compile_to
from pipelines.settings import SECTIONS, complete, read_settings

_GIVEN = {
    "prepare": {"collection_uri": "/collection"},
    "base": {"checkpoint_uri": "base"},
    "annotate": {"llm_uri": "llm", "num_shards": 3},
}


@pytest.fixture(scope="module", params=sorted(PROFILES))
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PipelineSpec:
    """The pipeline as a protobuf: parsing is a check of the schema."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_to(path, _GIVEN, request.param)
    specification, *_ = yaml.safe_load_all(path.read_text())
    return json_format.ParseDict(specification, PipelineSpec())


def _dags(pipeline: PipelineSpec) -> Iterator[tuple[Any, Any]]:
    """Every graph of tasks, with the inputs that it declares."""
    yield pipeline.root.dag, pipeline.root.input_definitions
    for component in pipeline.components.values():
        if component.HasField("dag"):
            yield component.dag, component.input_definitions


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
                found += [f"{name}.{key} is not declared" for key in set(given) - set(getattr(wanted, kind))]
                for key, source in given.items():
                    found += _unmet(pipeline, dag, declared, f"{name}.{key}", kind, source)
    return found


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
    assert len(list(_dags(compiled))) == 2
    assert _dangling(compiled) == []


def test_a_dangling_input_would_be_seen(compiled: PipelineSpec) -> None:
    pipeline = PipelineSpec()
    pipeline.CopyFrom(compiled)
    task = pipeline.root.dag.tasks["mine"]
    task.inputs.parameters["num_queries"].component_input_parameter = "nobody"
    task.inputs.artifacts["dataset"].task_output_artifact.output_artifact_key = "nothing"
    assert len(_dangling(pipeline)) == 2


def test_every_task_has_image_command_output_and_resources(compiled: PipelineSpec) -> None:
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    assert len(executors) == 9
    for executor in executors.values():
        container = executor["container"]
        assert container["image"]
        assert container["command"][:2] == ["python", "-m"]
        assert {"cpuLimit", "memoryLimit", "cpuRequest", "memoryRequest"} & set(container["resources"])
    for component in compiled.components.values():
        outputs = component.output_definitions
        assert outputs.artifacts or outputs.parameters
        assert "Output" not in outputs.artifacts


def test_resources_hold_no_placeholder(compiled: PipelineSpec) -> None:
    executors = json_format.MessageToDict(compiled.deployment_spec)["executors"]
    assert not any("{{" in json.dumps(executor["container"]["resources"]) for executor in executors.values())


def test_every_task_is_cached_and_tried_again(compiled: PipelineSpec) -> None:
    tasks = [
        task for dag, _ in _dags(compiled) for task in dag.tasks.values() if not task.HasField("parameter_iterator")
    ]
    assert len(tasks) == 9
    assert all(task.caching_options.enable_cache and task.retry_policy.max_retry_count >= 1 for task in tasks)


def test_a_gpu_task_has_its_pool_its_toleration_and_shared_memory(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", _GIVEN, "gke-gpu")
    specification, kubernetes = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    executors = specification["deploymentSpec"]["executors"]
    with_gpu = {name for name, each in executors.items() if "accelerator" in each["container"]["resources"]}
    assert with_gpu == {"exec-annotate", "exec-train", "exec-index", "exec-index-2"}
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


def test_only_training_takes_several_gpus_of_one_pod(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", _GIVEN, "gke-multi-gpu")
    specification, _ = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    resources = {
        name: each["container"]["resources"] for name, each in specification["deploymentSpec"]["executors"].items()
    }
    counts = {name: int(its["accelerator"]["resourceCount"]) for name, its in resources.items() if "accelerator" in its}
    assert counts == {"exec-annotate": 1, "exec-train": 4, "exec-index": 1, "exec-index-2": 1}


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no profile 'cray'; known are laptop, gke-gpu, gke-multi-gpu"):
        compile_to(tmp_path / "pipeline.yaml", _GIVEN, "cray")


def test_shards_are_dealt_to_as_many_tasks(compiled: PipelineSpec) -> None:
    (loop,) = (task for task in compiled.root.dag.tasks.values() if task.HasField("parameter_iterator"))
    assert json.loads(loop.parameter_iterator.items.raw) == [0, 1, 2]
    (annotate,) = compiled.components[loop.component_ref.name].dag.tasks.values()
    assert annotate.inputs.parameters["num_shards"].runtime_value.constant.number_value == 3


def test_settings_that_are_no_parameter_become_constants(tmp_path: Path) -> None:
    compile_to(tmp_path / "pipeline.yaml", {**_GIVEN, "train": {"query_prefix": "query: ", "seed": 7}}, "laptop")
    specification = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    given = specification["root"]["dag"]["tasks"]["train"]["inputs"]["parameters"]
    assert given["query_prefix"] == {"runtimeValue": {"constant": "query: "}}
    assert given["seed"] == {"runtimeValue": {"constant": 7}}
    assert given["curriculum"] == {"componentInputParameter": "train_curriculum"}


def test_arguments_are_the_parameters_of_the_compiled_pipeline(tmp_path: Path, tiny_collection: Path) -> None:
    stages = [{"name": "llm", "labels": "llm"}]
    values = {**_GIVEN, "prepare": {"collection_uri": str(tiny_collection)}, "train": {"curriculum": stages}}
    compile_to(tmp_path / "pipeline.yaml", values, "laptop")
    declared = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())["root"]["inputDefinitions"]["parameters"]
    given = arguments(values)
    assert set(given) == set(declared)
    assert json.loads(given["train_curriculum"]) == stages
    assert all(
        declared[name]["defaultValue"] == value for name, value in given.items() if name != "prepare_collection_digest"
    )


def test_a_changed_collection_is_another_cache_key(tiny_collection: Path) -> None:
    values = {**_GIVEN, "prepare": {"collection_uri": str(tiny_collection)}}
    before = arguments(values)["prepare_collection_digest"]
    assert arguments(values)["prepare_collection_digest"] == before
    with (tiny_collection / "queries.jsonl").open("a") as file:
        file.write('{"_id": "another", "text": "what else"}\n')
    assert arguments(values)["prepare_collection_digest"] != before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": {}}, "unknown section trian; did you mean train?"),
        ({"quux": {}}, "unknown section quux; known are prepare, base"),
        ({"mine": {"num_bm52": 3}}, "unknown setting in section mine: num_bm52; did you mean num_bm25?"),
        ({"train": {"base_uri": "x"}}, "unknown setting in section train: base_uri"),
        ({"export": {"query_tokens": 3}}, "unknown setting in section export: query_tokens"),
        ({"annotate": {"shard": 3}}, "unknown setting in section annotate: shard"),
        ({"mine": {"num_bm25": "three"}}, "mine.num_bm25: 'three' is not of type int"),
        ({"mine": {"num_bm25": True}}, "mine.num_bm25: True is not of type int"),
        ({"mine": {"human_positive": "maybe"}}, "mine.human_positive: 'maybe' is none of include, as_retrieved"),
        ({"train": {"loss_temperature": "hot"}}, "train.loss_temperature: 'hot' is not a number"),
        ({"train": 3}, "section train: a mapping of settings is wanted, found 3"),
        (["train"], "a mapping of sections is wanted, found list"),
    ],
)
def test_a_wrong_parameter_file_is_refused_by_name(values: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        complete(values)
    assert message in str(caught.value)


def test_a_missing_place_is_named() -> None:
    with pytest.raises(ValueError, match=r"annotate\.llm_uri is not set"):
        arguments({**_GIVEN, "annotate": {}})


def test_yaml_traps_are_read_as_they_were_meant(tmp_path: Path) -> None:
    # YAML 1.1 reads 1e-5 as text and a bare yes as a truth value.
    (tmp_path / "run.yaml").write_text(
        "base: {normalise: yes, max_difference: 1e-5}\ntrain: {loss_temperature: 1}\nindex:\n"
    )
    settings = read_settings(tmp_path / "run.yaml")
    assert settings["base"]["normalise"] == "yes"
    assert settings["base"]["max_difference"] == 1e-5
    assert isinstance(settings["train"]["loss_temperature"], float)
    assert settings["index"]["factory"] == "auto"
    assert set(settings) == set(SECTIONS)


def test_a_broken_parameter_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("train: {seed: [}\n")
    with pytest.raises(ValueError, match=r"run\.yaml"):
        read_settings(tmp_path / "run.yaml")


def test_parameter_files_of_the_repository_compile(tmp_path: Path) -> None:
    files = sorted((Path(__file__).parents[2] / "pipelines" / "params").glob("*.yaml"))
    assert files
    for path in files:
        compile_to(tmp_path / f"{path.stem}.yaml", read_settings(path), "gke-gpu")
