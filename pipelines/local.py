"""The flow on this machine: the same jobs as on a cluster, in the same order, from the same parameter file.

Each step is the command its container would run, in a process of its own: so memory is given back, an exit code means
the same in both places, and killing one step harms no other. A step whose inputs, settings and code are unchanged is
skipped.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from components.shared import log
from components.shared.launch import EXIT_BAD_DATA, EXIT_OK, EXIT_TRANSIENT
from components.shared.manifest import compute_identity, input_digests, is_finished
from components.shared.roles import SECTIONS_VARIABLE, sections_value
from components.shared.tracing.spans import note, parent_variables, process_span, span
from pipelines import flow
from pipelines.flow import Settings
from pipelines.settings import resolved
from pipelines.warm import WarmProcess


@dataclass(frozen=True)
class LocalStep:
    """One task of the flow: a name that people read, the module that runs, and its config."""

    name: str
    module: str
    config: Any
    sections: str = ""
    """Value of SECTIONS_VARIABLE for the job, so that an error can say what to type."""

    @property
    def component(self) -> str:
        """What the step's code is found by, see identity.py."""
        return self.module.removeprefix("components.")

    @property
    def is_unchanged(self) -> bool:
        """Whether its artifact is there, made from the same inputs, settings and code.

        Raises:
            ValueError: Where it is, but a file of it was cut or edited.
        """
        identity = compute_identity(self.component, self.config, input_digests(self.config))
        return is_finished(self.config.output_uri, identity)


# Folder of the artifact of a task.
FolderOf: TypeAlias = Callable[[flow.Task], Path]


class StepError(Exception):
    """A step ended with this exit code; it has said why itself."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} ended with exit code {code}")
        self.code = code


@dataclass
class Tally:
    """What a run did."""

    executed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    peak_mebibytes: float = 0.0


def plan(settings: Settings, workdir: Path, *, folder_of: FolderOf | None = None) -> list[LocalStep]:
    """The steps of a run in order, as flow.py has them; artifacts are folders of the work folder.

    Args:
        settings: Complete settings.
        workdir: Where artifacts and durable places lie.
        folder_of: Folder of the artifact of a task, where it is not named after what the task makes.

    Raises:
        SettingsError: Where a packaged model is not installed.
    """
    settings, folder_of = resolved(settings), folder_of or (lambda task: workdir / task.makes)
    return [
        _step(task, settings, workdir, folder_of, shard)
        for task in flow.taking_part(settings)
        for shard in range(flow.num_shards(task, settings))
    ]


def _step(task: flow.Task, settings: Settings, workdir: Path, folder_of: FolderOf, shard: int) -> LocalStep:
    made = {
        name: ",".join(folders(maker, settings, folder_of(maker)))
        for name, maker in flow.sources(task, settings).items()
    }
    config = flow.make_config(
        task, settings, inputs=made, output_uri=folders(task, settings, folder_of(task))[shard], shard=shard
    )
    durable = {name: str(workdir / folder) for name, folder in task.places.items() if not getattr(config, name)}
    count = flow.num_shards(task, settings)
    name = f"{task.name} {shard + 1}/{count}" if count > 1 else task.name
    return LocalStep(
        name,
        task.module,
        replace(config, **durable),
        sections=sections_value(flow.owners(task), task.sections[-1]),
    )


def folders(task: flow.Task, settings: Settings, folder: Path) -> list[str]:
    """Where the artifacts of a row lie: that folder, or one a shard beside it."""
    count = flow.num_shards(task, settings)
    return [str(folder)] if count == 1 else [f"{folder}-{shard}" for shard in range(count)]


def run_steps(steps: Sequence[LocalStep]) -> Tally:
    """Runs what is not done yet, in order.

    Raises:
        StepError: With the exit code of the first step that failed; what was finished before stays.
    """
    tally = Tally()
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        stack.enter_context(process_span("retriever", "run", steps=len(steps)))
        warm: WarmProcess | None = None
        for number, step in enumerate(steps, start=1):
            label = f"[{number}/{len(steps)}] {step.name}"
            with span(step.name, component=step.component):
                if _unchanged(step):
                    note(skipped=True)
                    log.event(f"{label}: unchanged, skipped", artifact=step.config.output_uri)
                    tally.skipped += 1
                    continue
                log.event(f"{label}: running")
                if warm is None:
                    waiting = steps[number - 1 :]
                    components = sorted({waits.component for waits in waiting})
                    warm = stack.enter_context(WarmProcess(_imported(waiting), components))
                seconds, mebibytes = _run(step, warm)
                log.event(f"{label}: done", seconds=round(seconds, 1), peak_mebibytes=round(mebibytes))
            tally.executed += 1
            tally.peak_mebibytes = max(tally.peak_mebibytes, mebibytes)
    tally.seconds = time.monotonic() - start
    return tally


def flags(config: Any) -> list[str]:  # noqa: ANN401 any config dataclass
    """The command-line flags that give exactly this config."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in asdict(config).items()]


def _imported(steps: Sequence[LocalStep]) -> list[str]:
    """What is worth importing once for these steps; nothing that starts a thread, as onnxruntime does."""
    return ["components.shared.checkpoint.loading"] if {"train", "export"} & {step.component for step in steps} else []


def _unchanged(step: LocalStep) -> bool:
    try:
        return step.is_unchanged
    except ValueError as error:
        log.error(f"{step.name}: an artifact is damaged", problem=str(error))
        raise StepError(step.name, EXIT_BAD_DATA) from error


def _run(step: LocalStep, warm: WarmProcess) -> tuple[float, float]:
    start = time.monotonic()
    environment = {
        **os.environ,
        **parent_variables(),
        **({SECTIONS_VARIABLE: step.sections} if step.sections else {}),
        "RETRIEVER_LOG": os.environ.get("RETRIEVER_LOG", _log_kind()),
    }
    try:
        ended = warm.run(step.module, flags(step.config), environment)
    except ChildProcessError as error:
        log.error(f"{step.name}: stopped", problem=str(error), remedy="run it again; finished work is kept")
        raise StepError(step.name, EXIT_TRANSIENT) from error
    if ended.code != EXIT_OK:
        raise StepError(step.name, ended.code if ended.code > 0 else 128 - ended.code)
    return time.monotonic() - start, ended.peak_mebibytes


def _log_kind() -> str:
    return "human" if sys.stderr.isatty() else "json"
