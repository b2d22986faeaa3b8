"""Components that are generated from the configs: names, types, sentences, and commands that give the config back."""

import dataclasses
import re
from typing import Any, get_type_hints

import pytest

from components.shared.launch import parse_flags
from pipelines import flow
from pipelines.cluster.names import field_sentences
from pipelines.kubeflow import make_component
from pipelines.resources import PROFILES
from pipelines.settings import complete, defaults
from tests.pipelines.compiling import FLOWS, GIVEN

pytestmark = pytest.mark.usefixtures("pushed_images", "quick_stacks")

_EVERYTHING = complete({**GIVEN, **FLOWS["sharded"], **FLOWS["miner"], **FLOWS["asked"]})
every_task = pytest.mark.parametrize("task", flow.taking_part(_EVERYTHING), ids=lambda task: task.name)
_FLAG = re.compile(r"--([a-z0-9-]+)=(.*)", re.DOTALL)
_PARAMETER = re.compile(r"\{\{\$\.inputs\.parameters\['(\w+)'\]\}\}")
_ARTIFACT = re.compile(r"\{\{\$\.(inputs|outputs)\.artifacts\['(\w+)'\]\.path\}\}")


def _flags(component: Any) -> dict[str, str]:
    """Config field -> value as the compiled command has it."""
    given = component.component_spec.implementation.container.args
    assert given[-2:] == ["--executor-input", "{{$}}"]
    matches = [_FLAG.fullmatch(argument) for argument in given[:-2]]
    return {match.group(1).replace("-", "_"): match.group(2) for match in matches if match}


@every_task
def test_a_generated_component_has_the_names_types_defaults_and_sentences_of_its_config(task: flow.Task) -> None:
    component = make_component(task, _EVERYTHING, PROFILES["laptop"][task.component])
    declared = {field.name: field for field in dataclasses.fields(task.config)}
    types, sentences = get_type_hints(task.config), field_sentences(task.config)
    parameters = {
        name: given for name, given in component.component_spec.inputs.items() if not given.type.startswith("system.")
    }
    cache_keys = {f"{name.removesuffix('_uri')}_digest" for name in task.watched}
    wanted = {*flow.owners(task), *(["shard"] if task.shards else [])}
    assert set(parameters) - cache_keys == wanted
    for name in wanted:
        kfp_type = {int: "Integer", float: "Float"}.get(types[name], "String")
        default = "" if declared[name].default is dataclasses.MISSING else declared[name].default
        assert (parameters[name].type, parameters[name].default) == (kfp_type, default)
        assert parameters[name].description == sentences[name]


@every_task
def test_the_rendered_command_makes_the_config_that_a_local_run_makes(task: flow.Task) -> None:
    component = make_component(task, _EVERYTHING, PROFILES["laptop"][task.component])
    inputs = component.component_spec.inputs
    paths = {name: {"artifacts": [{"uri": f"/in/{name}-{shard}"} for shard in range(2)]} for name in inputs}

    def render(value: str) -> str:
        if match := _PARAMETER.fullmatch(value):
            default = inputs[match.group(1)].default
            # The cluster writes whole doubles without a point, a loop's item may have one: both must do.
            return f"{default:.1f}" if isinstance(default, int) else str(default)
        return _ARTIFACT.sub(r"/\1/\2", value)

    given = [f"--{name.replace('_', '-')}={render(value)}" for name, value in _flags(component).items()]
    parsed = parse_flags(task.component, task.config, given, {"inputs": {"artifacts": paths}})
    made = {name: getattr(parsed, name) for name in flow.sources(task, _EVERYTHING)}
    assert all(uri.startswith("/in") for uri in made.values())
    expected = flow.make_config(task, defaults(), inputs=made, output_uri=parsed.output_uri)
    assert parsed == expected


@every_task
def test_every_task_names_its_image_its_command_and_an_output_that_is_what_it_makes(task: flow.Task) -> None:
    component = make_component(task, _EVERYTHING, PROFILES["laptop"][task.component])
    container = component.component_spec.implementation.container
    assert container.image.split("/")[-1].startswith(f"{task.component}:")
    assert container.command == ["python", "-m", f"components.{task.component}"]
    kinds = {"metrics": task.shown, "page": task.page, "note": task.note}
    shown = {name for name, given in kinds.items() if given}
    assert set(component.component_spec.outputs) == {task.makes.rpartition("-")[2], *shown}
