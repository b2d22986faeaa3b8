"""The tasks around a flow on Kubeflow: a check before it, a record when it came through, an outcome when it is over.

None is ever cached. The check gives the digest of the watched collection to the task that reads it, because a cache
knows an address by its text only. The outcome is an exit task: it reads what the tasks left, as Kubeflow's own final
status tells a run whose condition was not taken from one that works, but not why a run failed.
"""

# No `from __future__ import annotations`: KFP reads the types of a component from the signature itself.
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from kfp import dsl

from components.shared.roles import Role, may_be_absent, role_of
from pipelines import flow
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.images import image
from pipelines.cluster.placing import place
from pipelines.flow import Settings
from pipelines.resources import NODES, Resources

_COMPONENT = "check"
_COMMAND = ["python", "-m", f"components.{_COMPONENT}"]
_RUN_ID = dsl.PIPELINE_JOB_ID_PLACEHOLDER


def _container(moment: str, **values: object) -> dsl.ContainerSpec:
    """The container that looks at the run at a moment; KFP puts the executor input in place of `{{$}}`."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {"moment": moment, **values}.items()]
    return dsl.ContainerSpec(image=image(_COMPONENT), command=_COMMAND, args=[*flags, "--executor-input", "{{$}}"])


# These functions become components where they are used: KFP reads their image when it decorates them.
def check(
    checks: dsl.Output[dsl.Artifact],
    digest: dsl.OutputPath(str),  # type: ignore[valid-type]  # noqa: ARG001 the job finds it in the executor input
    run_id: str,
    records_uri: str,
    watched: str,
    readable: str,
    writable: str,
    variables: str,
    llm: str,
    gpu_gib: float,
) -> dsl.ContainerSpec:
    """Looks whether the run will find what it needs, and digests what a cache must know.

    Args:
        checks: What was found.
        digest: Of all watched addresses.
        run_id: Identifier of the run.
        records_uri: Durable folder of the records of runs.
        watched: Addresses whose content is digested, separated by spaces.
        readable: Addresses that tasks will read, as name=address separated by spaces.
        writable: Folders that tasks will write to, as name=address separated by spaces.
        variables: Environment variables that must be set.
        llm: Folder in a bucket of the LLM that a GPU must hold.
        gpu_gib: Memory of that GPU.
    """
    return _container(
        "before",
        output_uri=checks.path,
        run_id=run_id,
        records_uri=records_uri,
        watched=watched,
        readable=readable,
        writable=writable,
        variables=variables,
        llm=llm,
        gpu_gib=gpu_gib,
    )


def came_through(
    checks: dsl.Output[dsl.Artifact], evaluation: dsl.Input[dsl.Artifact], run_id: str, records_uri: str
) -> dsl.ContainerSpec:
    """Leaves the record that every task of the run is through, with what was measured.

    Args:
        checks: What was recorded.
        evaluation: Evaluation of the run.
        run_id: Identifier of the run.
        records_uri: Durable folder of the records of runs.
    """
    places = {"output_uri": checks.path, "records_uri": records_uri, "evaluation_uri": evaluation.path}
    return _container("end", run_id=run_id, **places)


def nothing_to_do(checks: dsl.Output[dsl.Artifact], run_id: str, records_uri: str) -> dsl.ContainerSpec:
    """Leaves the record that the run is through, because what is served was made of this very collection.

    Args:
        checks: What was recorded.
        run_id: Identifier of the run.
        records_uri: Durable folder of the records of runs.
    """
    return _container("end", run_id=run_id, output_uri=checks.path, records_uri=records_uri)


def outcome(
    checks: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],  # noqa: ARG001 the job finds it in the executor input
    run_id: str,
    records_uri: str,
) -> dsl.ContainerSpec:
    """Records and reports what came of the run, however it ended.

    Args:
        checks: The outcome.
        metrics: What the run's page shows.
        run_id: Identifier of the run.
        records_uri: Durable folder of the records of runs.
    """
    return _container("after", output_uri=checks.path, run_id=run_id, records_uri=records_uri)


def make_check(
    settings: Settings, given: Mapping[str, object], machines: Mapping[str, Resources], deployment: Deployment
) -> Any:  # noqa: ANN401 KFP ships no types
    """The task before all others; its output `digest` is that of the watched collection, and of the pointer if any."""
    addresses = _addresses(settings, given)
    watched = dict.fromkeys(address for name, (address, _) in addresses.items() if name in _watched(settings))
    llm = next((address for name, (address, _) in addresses.items() if name.endswith(".llm_uri")), "")
    task = dsl.container_component(check)(
        run_id=_RUN_ID,
        records_uri=deployment.records_uri,
        watched=" ".join(watched),
        readable=" ".join(f"{name}={address}" for name, (address, is_needed) in addresses.items() if is_needed),
        writable=f"state-uri={deployment.state_uri}",
        variables=" ".join(name for name, _, _ in deployment.secret_variables()),
        llm=llm,
        gpu_gib=max(_engine_gib(settings, machines), default=0.0),
    )
    return _placed(task, "check", machines, deployment)


def _engine_gib(settings: Settings, machines: Mapping[str, Resources]) -> Iterator[float]:
    """Memory of the GPUs of one engine, of each task that loads an LLM."""
    for task in flow.taking_part(settings):
        row = machines[task.component]
        if row.gpu and (section := flow.owners(task).get("llm_uri")):
            yield float(NODES[row.node].gpu_gib * settings[section]["vllm_tensor_parallel_size"])


def make_record(evaluation: Any, machines: Mapping[str, Resources], deployment: Deployment) -> Any:  # noqa: ANN401
    """The task behind all others."""
    task = dsl.container_component(came_through)(
        evaluation=evaluation, run_id=_RUN_ID, records_uri=deployment.records_uri
    )
    return _placed(task, "came through", machines, deployment)


def make_record_of_nothing(machines: Mapping[str, Resources], deployment: Deployment) -> Any:  # noqa: ANN401
    """The task of a run that found nothing to do."""
    task = dsl.container_component(nothing_to_do)(run_id=_RUN_ID, records_uri=deployment.records_uri)
    return _placed(task, "nothing to do", machines, deployment)


def make_outcome(machines: Mapping[str, Resources], deployment: Deployment) -> Any:  # noqa: ANN401 KFP ships no types
    """The exit task."""
    task = dsl.container_component(outcome)(run_id=_RUN_ID, records_uri=deployment.records_uri)
    return _placed(task, "outcome", machines, deployment)


def _placed(task: Any, title: str, machines: Mapping[str, Resources], deployment: Deployment) -> Any:  # noqa: ANN401
    named = task.set_display_name(title)
    return place(named, machines[_COMPONENT], deployment, name=title, cached=False)


def _watched(settings: Settings) -> set[str]:
    return {f"{flow.owners(task)[name]}.{name}" for task in flow.taking_part(settings) for name in task.watched}


def _addresses(settings: Settings, given: Mapping[str, object]) -> dict[str, tuple[str, bool]]:
    """`section.setting` -> address of everything that a person names for the run to read, and whether it must be there.

    The address may be a parameter.
    """
    addresses: dict[str, tuple[str, bool]] = {}
    for task in flow.taking_part(settings):
        declared = {field.name: field for field in dataclasses.fields(task.config)}
        for name, section in flow.owners(task).items():
            if role_of(declared[name]) is not Role.INPUT:
                continue
            # A server's own name for its model is no address.
            if name == "llm_uri" and settings[section]["engine"] == "endpoint":
                continue
            address = given.get(f"{section}_{name}", settings[section][name])
            if address != "":
                addresses[f"{section}.{name}"] = str(address), not may_be_absent(declared[name])
    return addresses
