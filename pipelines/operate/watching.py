"""`retriever watch`: a run followed to its end, with each task as it changes.

On a terminal the tasks stand below each other and change in place; elsewhere a line is written for every change.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TextIO

from components.shared import log
from components.shared.contract.ending import TransientError
from pipelines.operate.runs import Platform, Run, TaskRun, columns, duration

# A run of days is not given up for a server that is started anew.
_PATIENCE_SECONDS = 300.0


def follow(platform: Platform, name: str, *, num_retries: int, poll_seconds: float, view: View) -> Run:
    """The run once it is over and not run again; failed ones are run again up to `num_retries` times.

    Raises:
        TransientError: Where the API did not answer for five minutes.
        ValueError: Where there is no such run, or the API refuses.
    """
    run, is_known = Run(name=name, identifier=name, state="waiting"), False
    last_answer = time.monotonic()
    while True:
        try:
            run, is_known = platform.run(name), True
            view.show(run, platform.progress)
            if run.state == "failed" and num_retries > 0:
                num_retries -= 1
                again = platform.retry(run)
                view.say(f"{run.name} failed ({run.why()}); what failed runs again as {again.name}")
                name, run = again.name, again
            elif run.is_over:
                return run
            last_answer = time.monotonic()
        except TransientError as error:
            # Who asks for the first time wants to know at once.
            if not is_known or time.monotonic() - last_answer > _PATIENCE_SECONDS:
                raise
            log.warning("the API does not answer; asking again", problem=str(error))
        time.sleep(poll_seconds)


class View:
    """What a person sees of a run while it works."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Writes to standard error, where everything goes that happens on the way."""
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._num_lines = 0
        self._said: dict[tuple[str, str], str] = {}

    def show(self, run: Run, progress: Callable[[TaskRun], str]) -> None:
        """Shows the tasks as they are now."""
        lines = {task.name: _words(task, progress(task)) for task in run.tasks}
        if self._is_terminal:
            self._redraw(run, lines)
            return
        whole = {"": run.state if not run.reason or run.is_over else f"{run.state}: {run.reason}"}
        for name, words in {**whole, **lines}.items():
            if self._said.get((run.name, name)) != words:
                self._said[run.name, name] = words
                self.say(f"{run.name}  {name}  {words}" if name else f"{run.name}  {words}")

    def say(self, line: str) -> None:
        """Writes a line that stays."""
        print(f"{datetime.now(UTC):%H:%M:%SZ}  {line}", file=self._stream, flush=True)
        self._num_lines = 0

    def _redraw(self, run: Run, lines: dict[str, str]) -> None:
        if self._num_lines:
            # Up to where the last picture began, and away with it.
            self._stream.write(f"\x1b[{self._num_lines}F\x1b[J")
        times = {task.name: duration(task.started, task.finished) for task in run.tasks}
        rows = [(run.name, duration(run.started, run.finished), f"{run.state} {run.reason}".strip())]
        rows += [(f"  {name}", times[name], words) for name, words in lines.items()]
        text = columns(rows)
        self._stream.write(f"{text}\n")
        self._stream.flush()
        self._num_lines = text.count("\n") + 1


def summary(run: Run, figures: Iterable[str]) -> str:
    """What there is to say when a run is over."""
    first = f"{run.name}: {run.state} after {duration(run.started, run.finished)}"
    failed = [f"  {task.name}: {task.reason or 'no reason was left'}" for task in run.tasks if task.state == "failed"]
    reason = [f"  {run.reason}"] if run.state == "failed" and run.reason else []
    return "\n".join([first, *failed, *reason, *figures])


def _words(task: TaskRun, progress: str) -> str:
    seconds = f" after {duration(task.started, task.finished)}" if task.finished and task.state == "succeeded" else ""
    reason = " ".join(task.reason.split())
    return ", ".join(part for part in (f"{task.state}{seconds}", progress, reason) if part)
