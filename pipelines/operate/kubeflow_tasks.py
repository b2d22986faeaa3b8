"""What Kubeflow's own words on a run mean: its details as tasks, and a state that those tasks bear out.

A task is several details: a driver, the task, and an executor whose pod it is, which alone has the reason of a failure.
The state of the whole is not to be trusted: an exit handler hides a failure, and a condition that was not taken leaves
the run as if it worked on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.operate.runs import Run, State, TaskRun

_STATES: Mapping[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "CANCELING": "running",
    "PAUSED": "waiting",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "failed",
    "SKIPPED": "skipped",
}
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_DRIVER, _EXECUTOR = "-driver", re.compile(r"executor(\(\d+\))?|.*-executor")
# What holds tasks and is none: the whole, loops and their turns, conditions, exit handlers.
_FRAME = re.compile(r"root|(exit-handler|for-loop|condition|condition-branches|iteration)\b.*|.*behind-the-gate")
# The last task of a run, whatever came before.
_EXIT_TASK = "outcome"


def run_of(run: Any) -> Run:  # noqa: ANN401 kfp_server_api ships no types
    """A run of the API as a run."""
    tasks, frames = _tasks(run)
    state = _state(str(run.state or ""), tasks)
    reason = str(run.error.message) if run.error is not None and run.error.message else ""
    if state == "failed" and not any(task.state == "failed" for task in tasks):
        # Nothing but a frame says why: its driver failed.
        tasks = [*tasks, *(frame for frame in frames if frame.state == "failed" and frame.reason)]
    config = run.runtime_config
    return Run(
        name=str(run.display_name),
        identifier=str(run.run_id),
        state=state,
        reason=reason,
        started=run.created_at,
        finished=run.finished_at if state in ("succeeded", "failed", "skipped") and _is_date(run) else None,
        tasks=tuple(tasks),
        parameters=dict(config.parameters or {}) if config is not None else {},
    )


def _is_date(run: Any) -> bool:  # noqa: ANN401
    """A run that works on has the year 1970 for its end."""
    return run.finished_at is not None and run.finished_at.year > 1970


def _state(said: str, tasks: Iterable[TaskRun]) -> State:
    """By the tasks where they have ended, and by the platform's word where nothing contradicts it."""
    states = {task.name: task.state for task in tasks}
    is_over = said in _ENDED or states.get(_EXIT_TASK) in ("succeeded", "failed")
    if not is_over:
        return _STATES.get(said, "waiting")
    if any(state == "failed" for state in states.values()) or said in ("FAILED", "CANCELED"):
        return "failed"
    return "skipped" if said == "SKIPPED" else "succeeded"


def _tasks(run: Any) -> tuple[list[TaskRun], list[TaskRun]]:  # noqa: ANN401
    """The tasks and the frames around them, in the order in which they began."""
    details = list(run.run_details.task_details or ()) if run.run_details is not None else []
    parents = {child.task_id or child.pod_name: one for one in details for child in one.child_tasks or ()}
    parents |= {one.task_id: by_id for one in details if (by_id := _by_id(details, one.parent_task_id)) is not None}
    groups: dict[tuple[str, str], list[Any]] = {}
    for one in sorted(details, key=lambda detail: str(detail.start_time or detail.create_time or "")):
        if not _is_workflow(one, details, parents):
            groups.setdefault(_key(one, parents), []).append(one)
    made = [_task(name, group) for (name, _), group in groups.items()]
    counts = [[task.name for task in made[:end]].count(task.name) for end, task in enumerate(made)]
    # Shards have one name on Kubeflow.
    numbered = [
        task if not count else TaskRun(**{**vars(task), "name": f"{task.name}({count})"})
        for task, count in zip(made, counts, strict=True)
    ]
    return [one for one in numbered if not _FRAME.fullmatch(one.name)], [
        one for one in numbered if _FRAME.fullmatch(one.name)
    ]


def _is_workflow(one: Any, details: Iterable[Any], parents: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """The node of the whole, which has a name that Kubeflow made up: nothing is above it, and tasks hang on it."""
    name = str(one.display_name).removesuffix(_DRIVER)
    if _parent(one, parents) is not None or _FRAME.fullmatch(name):
        return False
    below = (str(other.display_name) for other in details if _parent(other, parents) is one)
    return any(not _EXECUTOR.fullmatch(child) and child.removesuffix(_DRIVER) != name for child in below)


def _by_id(details: Iterable[Any], identifier: str | None) -> Any:  # noqa: ANN401
    return next((one for one in details if identifier and one.task_id == identifier), None)


def _parent(one: Any, parents: Mapping[str, Any]) -> Any:  # noqa: ANN401
    return parents.get(one.task_id) or parents.get(one.pod_name or "")


def _key(one: Any, parents: Mapping[str, Any]) -> tuple[str, str]:  # noqa: ANN401
    """The task's name, and what it is in, which tells shards apart."""
    while _EXECUTOR.fullmatch(str(one.display_name)) and (above := _parent(one, parents)) is not None:
        one = above
    name = str(one.display_name).removesuffix(_DRIVER)
    above = _parent(one, parents)
    while above is not None and str(above.display_name).removesuffix(_DRIVER) == name:
        # A task hangs on its driver, or its driver on it.
        above = _parent(above, parents)
    return name, str(above.task_id) if above is not None else ""


def _task(name: str, group: list[Any]) -> TaskRun:
    own = [one for one in group if not str(one.display_name).endswith(_DRIVER)] or group
    states = [_STATES.get(str(one.state), "waiting") for one in own]
    state: State = states[-1]
    if "running" in states:
        state = "running"
    elif any(str(one.state) == "FAILED" for one in group if one not in own):
        # Its driver failed, and it was never started.
        state = "failed"
    elif "failed" in states and "succeeded" not in states[states.index("failed") :]:
        state = "failed"
    reasons = [str(one.error.message) for one in group if one.error is not None and one.error.message]
    ends = [one.end_time for one in group if one.end_time is not None and one.end_time.year > 1970]
    return TaskRun(
        name=name,
        state=state,
        # The pod's own words are the longest: what is above it says only that it failed.
        reason=max(reasons, key=len, default="") if state == "failed" else "",
        started=next((one.start_time for one in group if one.start_time is not None), None),
        finished=max(ends, default=None) if state not in ("running", "waiting") else None,
        pod=next((str(one.pod_name) for one in reversed(own) if one.pod_name), ""),
    )
