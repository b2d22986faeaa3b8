"""A compiled WorkflowTemplate on this machine: what Argo does with it, without a cluster.

Parameters are put in place, tasks run in the order of their dependencies, once a shard where a sequence says so, each
as a process of its own that knows the variables of its container and nothing of the others. The processes are forked
from one that has torch imported: else importing it would be most of what a run costs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.warm import WarmProcess

_TEMPLATE = re.compile(r"\{\{([\w.]+)\}\}")


def run_workflow(workflow: Mapping[str, Any], values: Mapping[str, str], home: Path, **environment: str) -> list[str]:
    """Runs a WorkflowTemplate to its end; names of its pods in the order in which they ran.

    Args:
        workflow: The WorkflowTemplate.
        values: Parameters over those that it brings.
        home: Folder that holds one folder a pod, where it may write; nothing else survives a pod.
        environment: Variables of this machine that containers need.

    Raises:
        RuntimeError: Naming the pod that failed; its log is in this process's error output.
    """
    spec = workflow["spec"]
    given = {parameter["name"]: parameter.get("value") for parameter in spec["arguments"]["parameters"]} | dict(values)
    assert None not in given.values(), f"Argo asks for {[name for name, value in given.items() if value is None]}"
    templates = {template["name"]: template for template in spec["templates"]}
    pods: list[str] = []
    with WarmProcess(["components.shared.checkpoint.loading"]) as warm:
        for task in in_order(templates[spec["entrypoint"]]["dag"]["tasks"]):
            for shard in range(int(task.get("withSequence", {}).get("count", 1))):
                scope = {f"workflow.parameters.{name}": value for name, value in given.items()}
                scope |= {"inputs.parameters.shard": str(shard)} if "withSequence" in task else {}
                name = f"{task['name']}-{shard}"
                _run(warm, templates[task["template"]]["container"], scope, home / name, environment)
                pods.append(name)
    return pods


def in_order(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks of a graph, each after those that it waits for."""
    done: set[str] = set()
    while waiting := [task for task in tasks if task["name"] not in done]:
        ready = [task for task in waiting if set(task.get("dependencies", ())) <= done]
        assert ready, f"tasks {[task['name'] for task in waiting]} wait for each other"
        for task in ready:
            yield task
            done.add(task["name"])


def _run(
    warm: WarmProcess,
    container: Mapping[str, Any],
    scope: Mapping[str, str],
    folder: Path,
    environment: Mapping[str, str],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    python, flag, module = container["command"]
    assert (python, flag) == ("python", "-m")
    arguments = [_TEMPLATE.sub(lambda match: scope[match[1]], argument) for argument in container["args"]]
    plain = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    variables = {**plain, "HOME": str(folder), "TMPDIR": str(folder), "PATH": os.environ["PATH"], **environment}
    if code := warm.run(module, arguments, variables).code:
        raise RuntimeError(f"{folder.name} ended with {code}")
