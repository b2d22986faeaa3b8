"""Runs on Argo Workflows, through the Kubernetes API alone: no server of Argo is needed.

A run is a Workflow from the flow's WorkflowTemplate. What `argo retry` does is done by Argo's own program and server;
here what failed is run again by a new Workflow on the same artifact root, where finished tasks find what they made and
do nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml

from pipelines.operate.argo_objects import newest_first, run_of
from pipelines.operate.kubernetes_api import GROUP, VERSION, Namespace, Object
from pipelines.operate.runs import Run, Submitted, TaskRun

PART_OF = {"app.kubernetes.io/part-of": "retriever"}
# What was asked for: the same for a run, those that were asked for again, and their retries.
RUN_LABEL = "retriever/run"
_SELECTOR = ",".join(f"{name}={value}" for name, value in PART_OF.items())
_RETRY = re.compile(r"-retry-\d+$")
# What follows must leave the name of a run a label, which has 63; only names that a schedule made are longer.
_NAME_CHARACTERS = 52
# A progress line comes every ten seconds, and other events between.
_LINES_OF_LOG = 30


class Argo:
    """A namespace in which Argo runs workflows."""

    def __init__(self, namespace: Namespace) -> None:
        """`namespace` is where flows and runs are."""
        self._namespace = namespace

    def submit(self, compiled: Path, flow: str, name: str, *, again: bool, arguments: Mapping[str, Any]) -> Submitted:
        """Puts the WorkflowTemplate, and starts a Workflow from it; `arguments` stand in the template already."""
        if not again and (there := self._newest(name)) is not None:
            return Submitted(run_of(there), is_new=False)
        del arguments
        self._namespace.put("workflowtemplates", _of_kind(compiled, "WorkflowTemplate"))
        spec = {"workflowTemplateRef": {"name": flow}}
        if not again:
            if (made := self._namespace.create("workflows", _workflow(name, name, spec))) is not None:
                return Submitted(run_of(made), is_new=True)
            # Somebody asked for the same in the same moment.
            return Submitted(self.run(name), is_new=False)
        return Submitted(self._start(name, "", name, spec), is_new=True)

    def schedule(self, compiled: Path, flow: str, cron: str, *, replace: bool, arguments: Mapping[str, Any]) -> str:
        """Puts the WorkflowTemplate and the CronWorkflow.

        Raises:
            ValueError: Where there is a schedule already that is not to be replaced.
        """
        # All of it stands in what was compiled.
        del arguments, cron
        there = self._namespace.get("cronworkflows", flow)
        if there is not None and not replace:
            raise ValueError(
                f"namespace {self._namespace.name}: CronWorkflow {flow} is there already, with {_schedules(there)}; "
                "add --replace to take its place, or give the flow another --name"
            )
        self._namespace.put("workflowtemplates", _of_kind(compiled, "WorkflowTemplate"))
        self._namespace.put("cronworkflows", _of_kind(compiled, "CronWorkflow"))
        return f"it replaces {_schedules(there)}" if there is not None else "it is new"

    def runs(self, flow: str, limit: int) -> list[Run]:
        """The newest runs of a flow, or of all."""
        workflows = newest_first(self._namespace.items("workflows", _SELECTOR))
        chosen = [one for one in workflows if not flow or _template(one) == flow]
        return [run_of(one) for one in chosen[:limit]]

    def run(self, name: str) -> Run:
        """The Workflow of this name.

        Raises:
            ValueError: Where there is none.
        """
        return run_of(self._workflow(name))

    def retry(self, run: Run) -> Run:
        """A new Workflow like the one that failed; what is finished does nothing in it."""
        failed = self._workflow(run.name)
        spec = {name: value for name, value in failed["spec"].items() if name not in ("shutdown", "suspend")}
        label = (failed["metadata"].get("labels") or {}).get(RUN_LABEL, run.name)
        return self._start(_RETRY.sub("", run.name)[:_NAME_CHARACTERS].rstrip("-"), "retry-", label, spec)

    def progress(self, task: TaskRun) -> str:
        """What the job in the task's pod last said of its progress."""
        if task.state != "running" or not task.pod:
            return ""
        return progress_in(self._namespace.last_lines(task.pod, _LINES_OF_LOG))

    def _newest(self, name: str) -> Object | None:
        workflows = newest_first(self._namespace.items("workflows", f"{RUN_LABEL}={name}"))
        return workflows[0] if workflows else None

    def _workflow(self, name: str) -> Object:
        workflow = self._namespace.get("workflows", name)
        if workflow is None:
            raise ValueError(
                f"namespace {self._namespace.name}: there is no run {name}; `retriever status --target argo` lists "
                "them, and a finished one goes after a week"
            )
        return workflow

    def _start(self, name: str, word: str, label: str, spec: Object) -> Run:
        """A Workflow under the first name that is free."""
        for number in itertools.count(1):
            chosen = f"{name}-{word}{number}" if word or number > 1 else name
            if (made := self._namespace.create("workflows", _workflow(chosen, label, spec))) is not None:
                return run_of(made)
        raise AssertionError("there is always another number")


def progress_in(lines: str) -> str:
    """The last word on progress among a job's lines of JSON; empty where there is none."""
    for line in reversed(lines.splitlines()):
        try:
            said = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(said, dict) and said.get("event") == "progress":
            left = said.get("seconds_left")
            rest = f", {float(left):.0f} s left" if isinstance(left, int | float) else ""
            return f"{said.get('task')}: {said.get('done')}/{said.get('total') or '?'}{rest}"
    return ""


def _workflow(name: str, label: str, spec: Object) -> Object:
    labels = {**PART_OF, RUN_LABEL: label}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Workflow", "metadata": metadata, "spec": spec}


def _template(workflow: Mapping[str, Any]) -> str:
    return str((workflow["spec"].get("workflowTemplateRef") or {}).get("name", ""))


def _of_kind(compiled: Path, kind: str) -> Object:
    (chosen,) = [one for one in yaml.safe_load_all(compiled.read_text("utf-8")) if one["kind"] == kind]
    return dict(chosen)


def _schedules(cron_workflow: Mapping[str, Any]) -> str:
    spec = cron_workflow["spec"]
    # Before version 3.6 there was one, under another name.
    listed = spec.get("schedules") or [spec.get("schedule", "")]
    return f"schedule '{', '.join(listed)}' ({spec.get('timezone') or 'the time zone of the controller'})"
