"""The flow as a Kubeflow pipeline: every task of flow.py is a container component that is generated from its config.

Those settings that differ from run to run (flow.PARAMETERS) are parameters of the pipeline, with the file's values as
defaults; all others become constants of the tasks when it is compiled, as do the number of shards and the resources,
which KFP cannot take from a parameter. So a run shows a page of parameters that a person can read, and another setting
is another compile, which takes a second. KFP reads a component's inputs from `inspect.signature`, so a signature that
is made here does as well as a written one.
"""

# No `from __future__ import annotations`: KFP reads the types of a component from the signature itself.
import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from kfp import compiler, dsl

from components.shared.contract.executor import NOTE_VARIABLE, PAGE_VARIABLE, SHOWN_VARIABLE
from components.shared.contract.verdict import PASSED, VERDICT
from components.shared.durable.storage import digest_or_absent
from components.shared.launch import FROM_EXECUTOR_INPUT
from components.shared.roles import SECTIONS_VARIABLE, sections_value
from pipelines import flow
from pipelines.cluster import guards
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.images import build_of, image
from pipelines.cluster.names import component_name, field_sentences
from pipelines.cluster.places import STATE, durable_places, run_parameters
from pipelines.cluster.placing import place
from pipelines.cluster.refusals import refuse_for_cluster
from pipelines.flow import Settings, Task
from pipelines.resources import Resources, profile_of
from pipelines.settings import SettingsError, missing

# What KFP's pages call an artifact of that name; every other is an Artifact.
_ARTIFACT_TYPES = {"dataset": dsl.Dataset, "asked": dsl.Dataset, "encoder": dsl.Model, "checkpoint": dsl.Model}


def make_component(task: Task, settings: Settings, resources: Resources) -> Any:  # noqa: ANN401 KFP ships no types
    """The container component of a row: artifacts, then every setting with its default and its field's sentence."""
    sources = flow.sources(task, settings)
    arguments = [*_artifacts(task, sources, settings), *_parameters(task, settings)]
    signature = inspect.Signature(arguments, return_annotation=dsl.ContainerSpec)

    def container(*given: object, **named: object) -> dsl.ContainerSpec:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        return _container(task, sources, settings, resources, bound.arguments)

    # What KFP reads of a function.
    container.__signature__ = signature  # type: ignore[attr-defined]
    container.__annotations__ = {argument.name: argument.annotation for argument in arguments}
    container.__name__ = component_name(task).replace("-", "_")
    container.__doc__ = _docstring(task, [argument.name for argument in arguments])
    return dsl.container_component(container)


def build(settings: Settings, profile: str, deployment: Deployment) -> Any:  # noqa: ANN401 KFP ships no types
    """The pipeline of complete settings on the machines of a profile, put on a cluster by a deployment.

    Raises:
        ValueError: Where there is no such profile.
    """
    machines = profile_of(profile)
    tasks = flow.taking_part(settings)
    components = {
        # KFP lets no pipeline be made while another one is.
        task.name: _behind_gate(task, settings, machines[task.component], deployment)
        if task.gate
        else make_component(task, settings, machines[task.component])
        for task in tasks
    }
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=default)
        for name, kind, default in _pipeline_parameters(settings, deployment)
    ]
    outputs = flow.outputs(settings)
    outcome = NamedTuple("Outcome", [(name, _artifact_type(name)) for name in outputs])  # type: ignore[misc]
    # KFP lets no output out of an exit handler.
    returned = inspect.Signature.empty if deployment.state_uri else outcome
    signature = inspect.Signature(parameters, return_annotation=returned)

    def retriever(*values: object, **named: object) -> Any:  # noqa: ANN401 a tuple of KFP channels
        given = signature.bind(*values, **named).arguments
        if not deployment.state_uri:
            made = _make_tasks(components, settings, given, machines, deployment)
            return outcome(**{name: made[task.name].output for name, task in outputs.items()})
        with dsl.ExitHandler(exit_task=guards.make_outcome(machines, deployment), name="flow"):
            checked = guards.make_check(settings, given, machines, deployment).outputs["digest"]
            chosen = {**given, **dict.fromkeys(_digest_parameters(settings), checked)}
            if (opener := flow.opener(settings)) is None:
                _whole_flow(components, settings, chosen, machines, deployment)
                return None
            # Whatever its component's other jobs are: the digests of all that it reads are part of its key.
            row = replace(machines[opener.component], cached=True)
            first = place(
                _make_task(opener, components[opener.name], settings, chosen, {}), row, deployment, name=opener.name
            )
            begun = {opener.name: _Made(first, first.outputs[_noun(opener.makes)], is_split=False)}
            with dsl.If(first.outputs[VERDICT] == PASSED, name="there is something to do"):
                _whole_flow(components, settings, chosen, machines, deployment, begun)
            with dsl.Else(name="there is nothing to do"):
                guards.make_record_of_nothing(machines, deployment)
            return None

    retriever.__signature__ = signature  # type: ignore[attr-defined]
    retriever.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return dsl.pipeline(name=deployment.name, description="From a corpus to a measured dense retriever.")(retriever)


def compile_to(path: Path, settings: Settings, profile: str, deployment: Deployment | None = None) -> None:
    """Writes the compiled pipeline (and the Kubernetes settings of its tasks) as YAML.

    Raises:
        SettingsError: Naming everything that a cluster cannot run, with its remedy.
        ValueError: Where there is no such profile.
    """
    deployment = deployment or Deployment()
    refuse_for_cluster(settings, profile, deployment)
    compiler.Compiler().compile(build(settings, profile, deployment), str(path))


def arguments(settings: Settings, deployment: Deployment | None = None) -> dict[str, Any]:
    """The arguments of a run: the parameters' values, and the digests of what a cache knows by name only.

    Raises:
        SettingsError: Naming every setting that a run needs and that is empty.
    """
    if problems := missing(settings):
        raise SettingsError(problems)
    deployment = deployment or Deployment()
    chosen = {name: default for name, _, default in _pipeline_parameters(settings, deployment)}
    if deployment.state_uri:
        # The check digests it anew in every run.
        return chosen
    for task in flow.taking_part(settings):
        for name in task.watched:
            section = flow.owners(task)[name]
            chosen[f"{section}_{_digest_name(name)}"] = digest_or_absent(settings[section][name])
    return chosen


class _Made(NamedTuple):
    """A task and what it makes; `is_split` where it is one output a shard."""

    task: Any
    output: Any
    is_split: bool


def _whole_flow(
    components: Mapping[str, Any],
    settings: Settings,
    given: Mapping[str, object],
    machines: Mapping[str, Resources],
    deployment: Deployment,
    begun: Mapping[str, _Made] = MappingProxyType({}),
) -> None:
    """Every task that is not begun, and the record that all came through."""
    made = _make_tasks(components, settings, given, machines, deployment, begun)
    record = guards.make_record(made[flow.outputs(settings)["evaluation"].name].output, machines, deployment)
    read = {maker.name for task in flow.taking_part(settings) for maker in flow.sources(task, settings).values()}
    record.after(*(one.task for name, one in made.items() if name not in read))


def _make_tasks(
    components: Mapping[str, Any],
    settings: Settings,
    given: Mapping[str, object],
    machines: Mapping[str, Resources],
    deployment: Deployment,
    begun: Mapping[str, _Made] = MappingProxyType({}),
) -> dict[str, _Made]:
    """All tasks of the flow that are not begun, each once a shard where it is split."""
    made = dict(begun)
    for task in flow.taking_part(settings):
        if task.name in begun:
            continue
        make = functools.partial(_make_task, task, components[task.name], settings, given, made)
        put = functools.partial(place, resources=machines[task.component], deployment=deployment, name=task.name)
        noun, count = _noun(task.makes), flow.num_shards(task, settings)
        if task.gate:
            made[task.name] = _Made(_gated(task, components[task.name], settings, made), None, is_split=False)
            continue
        if count == 1:
            placed = put(make())
        else:
            with dsl.ParallelFor(items=list(range(count))) as shard:
                placed = put(make(shard=shard))
        made[task.name] = _Made(placed, placed.outputs[noun], is_split=count > 1)
    return made


def _behind_gate(task: Task, settings: Settings, resources: Resources, deployment: Deployment) -> Any:  # noqa: ANN401
    """The component of a row in a pipeline of its own, which starts it where the verdict that it is given says so.

    Of its own, because KFP's local runner skips a condition on another task's output without a word.
    """
    component, sources = make_component(task, settings, resources), flow.sources(task, settings)
    kinds = {_artifact_name(name): _artifact_type(_noun(maker.makes)) for name, maker in sources.items()}
    arguments = [_argument(VERDICT, str), *(_argument(name, dsl.Input[kind]) for name, kind in kinds.items())]
    signature = inspect.Signature(arguments)

    def behind(*values: object, **named: object) -> None:
        given = signature.bind(*values, **named).arguments
        inside = {
            maker.name: _Made(None, given[_artifact_name(name)], is_split=False) for name, maker in sources.items()
        }
        with dsl.If(given[VERDICT] == PASSED, name="the gate is open"):
            place(_make_task(task, component, settings, {}, inside), resources, deployment, name=task.name)

    behind.__signature__ = signature  # type: ignore[attr-defined]
    behind.__annotations__ = {argument.name: argument.annotation for argument in arguments}
    return dsl.pipeline(name=f"{component_name(task)}-behind-the-gate")(behind)


def _gated(task: Task, component: Any, settings: Settings, made: Mapping[str, _Made]) -> Any:  # noqa: ANN401
    sources = flow.sources(task, settings)
    artifacts = {_artifact_name(name): made[maker.name].output for name, maker in sources.items()}
    verdict = made[sources[task.gate].name].task.outputs[VERDICT]
    return component(**{VERDICT: verdict, **artifacts}).set_display_name(f"{task.name}, where the gate is open")


def _make_task(
    task: Task,
    component: Any,  # noqa: ANN401 KFP ships no types
    settings: Settings,
    given: Mapping[str, object],
    made: Mapping[str, _Made],
    **shard: object,
) -> Any:  # noqa: ANN401 KFP ships no types
    chosen: dict[str, object] = {}
    for name, section in _open_fields(task, settings).items():
        chosen[name] = given.get(f"{section}_{name}", settings[section][name])
    if STATE in given:
        chosen |= durable_places(task, settings, str(given[STATE]))
    for name in task.watched:
        chosen[_digest_name(name)] = given[f"{flow.owners(task)[name]}_{_digest_name(name)}"]
    for name, maker in flow.sources(task, settings).items():
        source = made[maker.name]
        # Collected anew for each reader: the compiler changes the object it has seen.
        chosen[_input_name(task, name)] = dsl.Collected(source.output) if source.is_split else source.output
    variables = {
        SECTIONS_VARIABLE: sections_value(flow.owners(task), task.sections[-1]),
        SHOWN_VARIABLE: ",".join(task.shown),
        PAGE_VARIABLE: task.page,
        NOTE_VARIABLE: task.note,
    }
    made_task = component(**chosen, **shard).set_display_name(task.name)
    for name, value in variables.items():
        # KFP compiles an empty value to none at all.
        if value:
            made_task.set_env_variable(name, value)
    return made_task


def _artifacts(task: Task, sources: Mapping[str, Task], settings: Settings) -> Iterator[inspect.Parameter]:
    for name, maker in sources.items():
        kind = _artifact_type(_noun(maker.makes))
        is_split = flow.num_shards(maker, settings) > 1
        yield _argument(_input_name(task, name), dsl.Input[list[kind]] if is_split else dsl.Input[kind])  # type: ignore[valid-type]
    yield _argument(_noun(task.makes), dsl.Output[_artifact_type(_noun(task.makes))])
    # What the run's page shows of it.
    if task.shown:
        yield _argument("metrics", dsl.Output[dsl.Metrics])
    if task.page:
        yield _argument("page", dsl.Output[dsl.HTML])
    if task.note:
        yield _argument("note", dsl.Output[dsl.Markdown])
    if task.name in flow.gates(settings):
        yield _argument(VERDICT, dsl.OutputPath(str))


def _open_fields(task: Task, settings: Settings) -> dict[str, str]:
    """Config field -> section, of every field that no task makes in this run."""
    made = flow.sources(task, settings)
    return {name: section for name, section in flow.owners(task).items() if name not in made}


def _parameters(task: Task, settings: Settings) -> Iterator[inspect.Parameter]:
    names, types = _open_fields(task, settings), get_type_hints(task.config)
    shown = [*names, *(["shard"] if task.shards else [])]
    for declared in dataclasses.fields(task.config):
        if declared.name in shown:
            default = "" if declared.default is MISSING else declared.default
            yield _argument(declared.name, _kfp_type(types[declared.name]), default)
    for name in task.watched:
        yield _argument(_digest_name(name), str, "")


def _argument(name: str, annotation: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation, default=default)


def _container(
    task: Task, sources: Mapping[str, Task], settings: Settings, resources: Resources, bound: Mapping[str, Any]
) -> dsl.ContainerSpec:
    flags: dict[str, object] = {}
    for name, maker in sources.items():
        # KFP has no placeholder for the paths of a list that its local runner renders too; the launcher of the job
        # reads this word as "all paths of this input in the executor input".
        is_split = flow.num_shards(maker, settings) > 1
        flags[name] = FROM_EXECUTOR_INPUT if is_split else bound[_input_name(task, name)].path
    flags |= {parameter.name: bound[parameter.name] for parameter in _parameters(task, settings)}
    flags |= {**task.fixed, "output_uri": bound[_noun(task.makes)].path}
    for name in task.watched:
        # Only part of the cache key.
        del flags[_digest_name(name)]
    return dsl.ContainerSpec(
        image=image(build_of(task.component, resources)),
        command=["python", "-m", task.module],
        # With `=`, because a value may be empty or begin with a dash (a prefix, a YAML list); KFP puts the executor
        # input in place of `{{$}}`.
        args=[*(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()), "--executor-input", "{{$}}"],
    )


def _pipeline_parameters(settings: Settings, deployment: Deployment) -> Iterator[tuple[str, type, object]]:
    """Name, type and default of each parameter of the pipeline; with a folder for state it is the only place."""
    if deployment.state_uri:
        yield STATE, str, deployment.state_uri
    for parameter in run_parameters(settings) if deployment.state_uri else flow.parameters(settings):
        section, name = parameter.split(".")
        kind = _kfp_type(get_type_hints(flow.SECTIONS[section])[name])
        yield f"{section}_{name}", kind, settings[section][name]
    if not deployment.state_uri:
        yield from ((name, str, "") for name in _digest_parameters(settings))


def _digest_parameters(settings: Settings) -> list[str]:
    """Parameters that a run without a check brings itself: the digests of what a cache knows by name only."""
    tasks = flow.taking_part(settings)
    names = (f"{flow.owners(task)[name]}_{_digest_name(name)}" for task in tasks for name in task.watched)
    return list(dict.fromkeys(names))


def _kfp_type(wanted: Any) -> type:  # noqa: ANN401 a type, or a Literal
    if get_origin(wanted) is Literal:
        return type(get_args(wanted)[0])
    assert wanted in (str, int, float), f"a config field of type {wanted} has no counterpart in KFP"
    return wanted  # type: ignore[no-any-return]


def _artifact_type(noun: str) -> Any:  # noqa: ANN401 KFP ships no types
    return _ARTIFACT_TYPES.get(noun, dsl.Artifact)


def _noun(makes: str) -> str:
    """What an artifact is, without what tells it from another of its kind: base-encoder -> encoder."""
    return makes.rpartition("-")[2]


def _artifact_name(field_name: str) -> str:
    return field_name.removesuffix("_uri")


def _input_name(task: Task, field_name: str) -> str:
    """Name of an input artifact, which no output may have too: train reads a checkpoint and makes one."""
    name = _artifact_name(field_name)
    return f"given_{name}" if name == _noun(task.makes) else name


def _digest_name(field_name: str) -> str:
    return f"{_artifact_name(field_name)}_digest"


def _docstring(task: Task, names: list[str]) -> str:
    sentences = field_sentences(task.config)
    lines = [(task.config.__doc__ or "").splitlines()[0], "", "Args:"]
    for name in names:
        if sentence := sentences.get(name) or sentences.get(f"{name}_uri"):
            lines.append(f"    {name}: {sentence}")
    return "\n".join(lines)
