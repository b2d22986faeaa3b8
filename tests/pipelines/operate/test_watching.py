"""How a run looks while it works: one picture that changes in place on a terminal, and times that a person reads."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from pipelines.operate.runs import Run, TaskRun, columns, duration, table
from pipelines.operate.watching import View

_START = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """What stands there after every command to go up and clear was followed."""
        lines: list[str] = []
        for part in self.getvalue().replace("\x1b[J", "").split("\x1b["):
            up, letter, text = part.partition("F") if lines else ("0", "F", part)
            assert letter == "F"
            lines = lines[: len(lines) - int(up)] + text.splitlines()
        return lines


def _run(*tasks: TaskRun) -> Run:
    return Run(name="squad-1", identifier="1", state="running", started=_START, finished=_START, tasks=tasks)


def _task(name: str, **more: object) -> TaskRun:
    values: dict[str, object] = {"state": "running", "started": _START, "finished": _START + timedelta(seconds=5)}
    return TaskRun(name=name, **(values | more))  # type: ignore[arg-type]


def test_a_terminal_shows_one_picture_that_changes_in_place() -> None:
    terminal = Terminal()
    view = View(terminal)
    view.show(_run(_task("prepare")), lambda _: "3/20")
    view.show(_run(_task("prepare", state="succeeded"), _task("mine", state="waiting", reason="no node")), lambda _: "")
    assert terminal.screen() == [
        "squad-1    0s  running",
        "  prepare  5s  succeeded after 5s",
        "  mine     5s  waiting, no node",
    ]


def test_what_is_said_stays_above_the_next_picture() -> None:
    terminal = Terminal()
    view = View(terminal)
    view.show(_run(_task("prepare")), lambda _: "")
    view.say("again")
    view.show(_run(_task("prepare")), lambda _: "")
    assert [line.split()[-1] for line in terminal.screen()] == ["running", "running", "again", "running", "running"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (59.4, "59s"), (60, "1m00s"), (3600, "1h00m"), (90061, "25h01m")],
)
def test_a_duration_has_the_two_largest_units(seconds: float, words: str) -> None:
    assert duration(_START, _START + timedelta(seconds=seconds)) == words


def test_a_run_that_has_not_begun_has_no_duration() -> None:
    assert duration(None, None) == "-"


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    assert columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"


def test_a_long_reason_is_cut_in_a_table_and_a_past_one_left_out() -> None:
    failed = Run(name="a", identifier="a", state="failed", reason="no " * 100)
    good = Run(name="b", identifier="b", state="succeeded", reason="was retried")
    _, first, second = table([failed, good]).splitlines()
    assert first.endswith(f"  {('no ' * 100)[:97]}...")
    assert second.endswith("-")
