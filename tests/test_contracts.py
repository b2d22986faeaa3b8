"""Flags = fields = KFP defaults; nothing that runs in a container imports kfp; every task is one a cluster accepts."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from components.annotate.component import annotate
from components.annotate.config import AnnotateConfig
from components.evaluate.component import evaluate
from components.evaluate.config import EvaluateConfig
from components.export.component import export_base, export_checkpoint
from components.export.config import ExportConfig
from components.index.component import encode_corpus, index, index_vectors, update_index
from components.index.config import IndexConfig
from components.mine.component import mine
from components.mine.config import MineConfig
from components.prepare.component import prepare
from components.prepare.config import PrepareConfig
from components.shared.launch import parse_flags
from components.train.component import train
from components.train.config import TrainConfig

_ROOMS = Path(__file__).parents[1] / "components"
_TASKS: list[tuple[Any, type[Any]]] = [
    (prepare, PrepareConfig),
    (mine, MineConfig),
    (annotate, AnnotateConfig),
    (train, TrainConfig),
    (export_base, ExportConfig),
    (export_checkpoint, ExportConfig),
    (index, IndexConfig),
    (encode_corpus, IndexConfig),
    (index_vectors, IndexConfig),
    (update_index, IndexConfig),
    (evaluate, EvaluateConfig),
]
_KFP_TYPES = {str: "String", int: "Integer", float: "Float"}
_FLAG = re.compile(r"--([a-z0-9-]+)=(.*)")
_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}")
_ARTIFACT = re.compile(r"\{\{\$\.(inputs|outputs)\.artifacts\['(\w+)'\]\.path\}\}")
# Parameters that are no flag: part of the cache key only.
_KEYS = {"prepare": {"collection_digest"}}
# Fields that a task does not ask for: a checkpoint of train says its own, and a share of a corpus is no index.
_NOT_ASKED = {
    "export-checkpoint": {"pooling", "normalise", "query_prefix", "passage_prefix", "query_tokens", "passage_tokens"},
    "index": {"vectors_uri", "previous_uri", "product", "shard", "num_shards"},
    "update-index": {"vectors_uri", "product", "shard", "num_shards"},
    "index-vectors": {"previous_uri", "product", "shard", "num_shards", "batch_tokens"},
    "encode-corpus": {
        *("vectors_uri", "previous_uri", "factory", "search_parameters", "memory_mib", "part_passages"),
        *("training_vectors", "num_recall_queries", "min_recall", "seed"),
    },
}
# What a task fixes: the kind of its product.
_FIXED = {"encode-corpus": {"product": "vectors"}}

every_task = pytest.mark.parametrize(("task", "config"), _TASKS, ids=lambda each: getattr(each, "name", ""))


def _flags(task: Any) -> dict[str, str]:
    """Field -> value as the compiled command has it."""
    arguments = task.component_spec.implementation.container.args
    assert arguments[-2:] == ["--executor-input", "{{$}}"]
    matches = [_FLAG.fullmatch(argument) for argument in arguments[:-2]]
    return {match.group(1).replace("-", "_"): match.group(2) for match in matches if match}


@every_task
def test_flags_are_fields(task: Any, config: type[Any]) -> None:
    fields = {field.name for field in dataclasses.fields(config)}
    flags = set(_flags(task))
    assert flags <= fields
    assert fields - flags == _NOT_ASKED.get(task.name, set())


@every_task
def test_parameters_have_the_names_types_and_defaults_of_fields(task: Any, config: type[Any]) -> None:
    fields, types = {field.name: field for field in dataclasses.fields(config)}, get_type_hints(config)
    flags = _flags(task)
    parameters = {
        name: spec for name, spec in task.component_spec.inputs.items() if not spec.type.startswith("system.")
    }
    assert {name for name, value in flags.items() if _PARAMETER.fullmatch(value)} == set(parameters) - _KEYS.get(
        task.name, set()
    )
    for name in set(parameters) - _KEYS.get(task.name, set()):
        assert _PARAMETER.fullmatch(flags[name]).group(1) == name
        assert parameters[name].type == _KFP_TYPES.get(types[name], "String")
        assert parameters[name].optional == (fields[name].default is not dataclasses.MISSING)
        if parameters[name].optional:
            assert parameters[name].default == fields[name].default


@every_task
def test_artifacts_have_the_names_of_fields_and_the_output_is_named_for_what_it_is(
    task: Any, config: type[Any]
) -> None:
    specification, flags = task.component_spec, _flags(task)
    (output,) = specification.outputs
    assert output != "Output"
    assert flags["output_uri"] == f"{{{{$.outputs.artifacts['{output}'].path}}}}"
    for name in (name for name, spec in specification.inputs.items() if spec.type.startswith("system.")):
        is_list = specification.inputs[name].is_artifact_list
        assert flags[f"{name}_uri"] == ("executor-input" if is_list else f"{{{{$.inputs.artifacts['{name}'].path}}}}")


@every_task
def test_the_rendered_command_makes_the_default_config(task: Any, config: type[Any]) -> None:
    inputs = task.component_spec.inputs
    paths = {name: {"artifacts": [{"uri": f"/in/{name}-{shard}"} for shard in range(2)]} for name in inputs}

    def render(value: str) -> str:
        if match := _PARAMETER.fullmatch(value):
            default = inputs[match.group(1)].default
            # The cluster writes whole doubles without a point, a loop's item may have one: both must do.
            return (
                f"given-{match.group(1)}"
                if default is None
                else f"{default:.1f}"
                if isinstance(default, int)
                else str(default)
            )
        return _ARTIFACT.sub(r"/\1/\2", value)

    arguments = [f"--{name.replace('_', '-')}={render(value)}" for name, value in _flags(task).items()]
    parsed = parse_flags(task.name, config, arguments, {"inputs": {"artifacts": paths}})
    for field in dataclasses.fields(config):
        if field.default is not dataclasses.MISSING and not (
            field.name.endswith("_uri") and getattr(parsed, field.name)
        ):
            assert getattr(parsed, field.name) == _FIXED.get(task.name, {}).get(field.name, field.default)
    if "annotations" in inputs:
        assert parsed.annotations_uri == "/in/annotations-0,/in/annotations-1"


@every_task
def test_every_task_names_its_image_and_command(task: Any, config: type[Any]) -> None:
    container = task.component_spec.implementation.container
    room = config.__module__.split(".")[1]
    assert container.image.split("/")[-1].startswith(f"{room}:")
    assert container.command == ["python", "-m", f"components.{room}"]
    assert (_ROOMS / room / "__main__.py").is_file()


def test_an_image_reference_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from components.images import image

    monkeypatch.setenv("REGISTRY", "example.com/team/")
    monkeypatch.setenv("TAG", "7")
    assert image("train") == "example.com/team/train:7"
    monkeypatch.setenv("IMAGE_TRAIN", "example.com/train@sha256:00")
    assert image("train") == "example.com/train@sha256:00"
    assert image("mine") == "example.com/team/mine:7"


def _imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    sources = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return names | {f"{node.module}.{alias.name}" for node in sources for alias in node.names}


def test_nothing_that_runs_in_a_container_imports_kfp() -> None:
    runtime = [path for path in _ROOMS.rglob("*.py") if path.name not in ("component.py", "images.py")]
    assert len(runtime) > 40
    for path in runtime:
        for name in _imported(path):
            assert name.split(".")[0] != "kfp", path
            assert ".component" not in name, path
            assert not name.startswith("components.images"), path


def test_component_files_import_kfp_images_and_configs_only() -> None:
    for path in _ROOMS.glob("*/component.py"):
        for name in _imported(path):
            assert name == "kfp.dsl" or name.startswith(
                ("components.images.", f"components.{path.parent.name}.config.")
            ), (path, name)
