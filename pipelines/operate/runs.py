"""A run as a person sees it, whatever platform it is on: its tasks, their states, and why one of them failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

State = Literal["waiting", "running", "succeeded", "failed", "skipped"]

_ENDED: tuple[State, ...] = ("succeeded", "failed", "skipped")
# A reason is one cell of a table; `retriever watch` has all of it.
_REASON_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """One task of a run; one a shard where it is split.

    Attributes:
        name: As the platform shows it.
        state: Where it stands.
        reason: Why it failed, or what it waits for.
        started: When its first pod was made; None where none was.
        finished: When it ended.
        pod: Its last pod; empty where there is none, or the platform does not say.
    """

    name: str
    state: State
    reason: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    pod: str = ""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a flow.

    Attributes:
        name: What a person calls it.
        identifier: What the platform calls it.
        state: Where it stands, by its tasks.
        reason: What the platform says of the whole: a deadline, a lock that it waits for.
        started: When it began; None while it waits.
        finished: When it ended.
        tasks: In the order in which they began; those that have not begun may be missing.
        parameters: Name -> value of what it was started with.
    """

    name: str
    identifier: str
    state: State
    reason: str = ""
    started: datetime | None = None
    finished: datetime | None = None
    tasks: tuple[TaskRun, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it works any more."""
        return self.state in _ENDED

    def current(self) -> str:
        """The tasks that work or wait for a pod now."""
        return ", ".join(task.name for task in self.tasks if task.state in ("running", "waiting"))

    def why(self) -> str:
        """Why it failed, task by task; what it waits for while it waits; empty where all is well."""
        failed = [
            f"{task.name}: {task.reason or 'no reason was left'}" for task in self.tasks if task.state == "failed"
        ]
        return "; ".join(failed) or self.reason


class Submitted(NamedTuple):
    """A run that was asked for, and whether this is what started it."""

    run: Run
    is_new: bool


class Platform(Protocol):
    """What the commands ask of Argo and of Kubeflow alike; every refusal names where, what and the remedy.

    All methods raise ValueError for what a person can mend and TransientError for what may pass by itself.
    """

    def submit(self, compiled: Path, flow: str, name: str, *, again: bool, arguments: Mapping[str, Any]) -> Submitted:
        """Makes or updates what the flow needs, and starts the run, unless there is one of this name already."""

    def schedule(self, compiled: Path, flow: str, cron: str, *, replace: bool, arguments: Mapping[str, Any]) -> str:
        """Makes or updates what the flow needs, and the schedule; a sentence about what was there before."""

    def runs(self, flow: str, limit: int) -> list[Run]:
        """The newest runs, newest first; of all flows where none is named."""

    def run(self, name: str) -> Run:
        """The newest run of this name."""

    def retry(self, run: Run) -> Run:
        """Runs again what failed of a run that is over; the run to follow from here."""

    def progress(self, task: TaskRun) -> str:
        """How far a running task is, in its own words; empty where it cannot be known."""


def table(runs: Sequence[Run], now: datetime | None = None) -> str:
    """Runs as lines under a header, columns as wide as what stands in them."""
    header = ("NAME", "STATE", "STARTED", "DURATION", "TASK", "REASON")
    return columns([header, *(tuple(_row(run, now or datetime.now(UTC))) for run in runs)])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """The rows with their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def duration(start: datetime | None, end: datetime | None, now: datetime | None = None) -> str:
    """Hours, minutes and seconds between two times, the largest two of them; a dash where it has not begun."""
    if start is None:
        return "-"
    seconds = max(0, round(((end or now or datetime.now(UTC)) - start).total_seconds()))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def _row(run: Run, now: datetime) -> Iterator[str]:
    yield run.name
    yield run.state
    yield f"{run.started:%Y-%m-%d %H:%M:%S}Z" if run.started else "-"
    yield duration(run.started, run.finished, now)
    yield run.current() or "-"
    reason = " ".join(run.why().split()) if run.state != "succeeded" else ""
    yield reason if len(reason) <= _REASON_CHARACTERS else f"{reason[: _REASON_CHARACTERS - 3]}..."
