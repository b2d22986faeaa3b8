"""What Argo makes of the compiled WorkflowTemplate: what it tries again, who waits for whom, what a schedule starts.

Real jobs in real pods: prepare with a flag that there is not (2), without a collection (65), without a store (75).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.shared.durable import storage
from tests.cluster import readme
from tests.cluster.argo import begin, compiled, read
from tests.cluster.argo_runs import Workflow
from tests.cluster.conftest import Store, store_variables
from tests.cluster.given_cluster import Site
from tests.cluster.kube import Kube, Object, until
from tests.cluster.settings import values, write_corpus

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_ROOT_URI = "s3://retriever/argo"
_CORPUS = "s3://retriever/argo/corpus"
_EVERY_MINUTE = "* * * * *"


@pytest.fixture(scope="module")
def manifests(
    argo: Kube, store: Store, site: Site, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Object]]:
    """WorkflowTemplate and CronWorkflow of the tiny corpus, with a Secret of their own."""
    folder = tmp_path_factory.mktemp("argo")
    storage.publish(write_corpus(folder / "corpus"), _CORPUS)
    argo.secret(namespace, **store_variables(store.inside))
    command = readme.command("retriever compile").replace("retriever-store:", f"{namespace}:")
    command = command.rpartition(" --output ")[0].replace("s3://retriever/runs/first", _ROOT_URI)
    chosen = {**values("s3://retriever/models/base", "http://llm:8000/v1"), "prepare.collection_uri": _CORPUS}
    more = f"--name {namespace} --schedule '{_EVERY_MINUTE}'"
    yield read(compiled(command, folder / "argo.yaml", site, values=chosen, more=more))
    argo.run("delete", "secret", namespace)


@pytest.fixture
def started(argo: Kube, manifests: list[Object]) -> Iterator[Callable[..., Workflow]]:
    """Starts prepare alone from a changed copy of the WorkflowTemplate; all of it goes at the end."""
    names: list[tuple[str, str]] = []

    def begin_changed(name: str, change: Callable[[Object], None] | None = None, **spec: object) -> Workflow:
        template = copy.deepcopy(manifests[0])
        template["metadata"]["name"] = name = f"{template['metadata']['name']}-{name}"
        (task,) = [one for one in template["spec"]["templates"] if one["name"] == "prepare"]
        # Half a minute between attempts is right for a store, and long for a test.
        task["retryStrategy"]["backoff"] = {"duration": "1s", "factor": "1"}
        if change is not None:
            change(task["container"])
        argo.apply(template)
        workflow = begin(argo, name, entrypoint="prepare", **spec)
        names.extend([("workflow", workflow.name), ("workflowtemplate", name)])
        return workflow

    yield begin_changed
    for kind, name in names:
        argo.run("delete", kind, name, "--ignore-not-found")


def _attempts(workflow: Workflow) -> list[str]:
    return [node.exit_code for node in workflow.nodes()]


def test_bad_data_is_not_tried_again(started: Callable[..., Workflow]) -> None:
    nowhere = [{"name": "prepare_collection_uri", "value": "s3://retriever/nowhere"}]
    workflow = started("bad", arguments={"parameters": nowhere})
    assert workflow.ended(180) == "Failed"
    assert _attempts(workflow) == ["65"]


def test_a_mistake_in_the_flags_is_not_tried_again(started: Callable[..., Workflow]) -> None:
    workflow = started("usage", lambda container: container["args"].append("--no-such-flag=1"))
    assert workflow.ended(180) == "Failed"
    assert _attempts(workflow) == ["2"]


def test_what_may_pass_by_itself_is_tried_again_as_often_as_the_profile_says(
    started: Callable[..., Workflow], manifests: list[Object]
) -> None:
    def without_store(container: Object) -> None:
        container["env"] = [one for one in container["env"] if one["name"] != "AWS_ENDPOINT_URL"]
        # Nobody listens there.
        container["env"].append({"name": "AWS_ENDPOINT_URL", "value": "http://127.0.0.1:9"})
        container["env"].append({"name": "RETRIEVER_STORE_SECONDS", "value": "1"})

    workflow = started("away", without_store)
    assert workflow.ended(400) == "Failed"
    (task,) = [one for one in manifests[0]["spec"]["templates"] if one["name"] == "prepare"]
    assert _attempts(workflow) == ["75"] * (1 + int(task["retryStrategy"]["limit"]))


def test_the_reason_of_a_failure_stands_in_the_workflow(started: Callable[..., Workflow]) -> None:
    nowhere = [{"name": "prepare_collection_uri", "value": "s3://retriever/nowhere"}]
    workflow = started("reason", arguments={"parameters": nowhere})
    assert workflow.ended(180) == "Failed"
    (node,) = workflow.nodes()
    assert "exit code 65" in node.message


def test_two_runs_on_one_artifact_root_work_one_after_the_other(
    started: Callable[..., Workflow], figures: Callable[[str], None]
) -> None:
    first = started("one")
    until(120, "the first run", lambda: first.phase() == "Running")
    second = started("two")
    waits = until(120, "the second run to wait", lambda: _waiting(second), 1)
    assert second.nodes() == []
    assert [first.ended(180), second.ended(180)] == ["Succeeded", "Succeeded"]
    (held,), (waited,) = first.nodes(), second.nodes()
    assert held.finished is not None
    assert waited.started >= held.finished
    figures(f"the second run waited: {waits}")


def _waiting(workflow: Workflow) -> str | None:
    status = workflow.status()
    return str(status["message"]) if status.get("synchronization", {}).get("mutex", {}).get("waiting") else None


def test_the_schedule_starts_a_run_by_itself(
    argo: Kube, manifests: list[Object], figures: Callable[[str], None], tmp_path: Path
) -> None:
    template, cron = manifests
    argo.apply(template)
    argo.apply(cron)
    name = cron["metadata"]["name"]
    selector = f"workflows.argoproj.io/cron-workflow={name}"
    try:
        run = until(150, "the schedule", lambda: argo.items("workflow", selector=selector), 2)[0]
        workflow = Workflow(argo, run["metadata"]["name"])
        until(120, "its first task", workflow.nodes, 2)
        scheduled = run["metadata"]["annotations"]["workflows.argoproj.io/scheduled-time"]
        figures(f"scheduled for {scheduled}, created {run['metadata']['creationTimestamp']}")
        workflow.stop()
        workflow.ended(120)
    finally:
        argo.run("delete", "cronworkflow", name)
        argo.run("delete", "workflow", f"--selector={selector}", "--ignore-not-found")
        argo.run("delete", "workflowtemplate", name)
