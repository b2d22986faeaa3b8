"""What is wrong with a collection: every bad line counted by kind, the first few in full, all in one message."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from components.shared import log
from components.shared.records import RecordError
from components.shared.roles import hint


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line cannot be used, and what mends it."""

    kind: str
    problem: str
    remedy: str


class Problems:
    """Collects problems while the files are read; `settle` then refuses the collection or leaves the bad lines out."""

    def __init__(self, collection_uri: str, *, max_reported: int) -> None:
        """Names files below the collection's own URI, also where a local copy is read."""
        self._uri = collection_uri.rstrip("/")
        self._max_reported = max_reported
        self._files: list[str] = []
        self._lines: list[str] = []
        self._tolerated: set[str] = set()
        self._num_whole_files = 0
        self.skipped: Counter[str] = Counter()

    def add_line(self, name: str, line_number: int, fault: Fault) -> None:
        """A line that can be left out; a line number of 0 means the whole file, one document of many."""
        self.skipped[fault.kind] += 1
        self._num_whole_files += line_number == 0
        if len(self._lines) < self._max_reported:
            path = f"{self._uri}/{name}"
            in_file = f"{path}: {fault.problem}; {fault.remedy}"
            of_line = RecordError(path, line_number, fault.problem, fault.remedy)
            self._lines.append(str(of_line) if line_number else in_file)

    def add_file(self, name: str, problem: str, remedy: str) -> None:
        """A file, or the collection as a whole, that cannot be used; leaving lines out does not mend it."""
        self._files.append(f"{self._uri}/{name}: {problem}; {remedy}")

    def tolerate(self, *kinds: str) -> None:
        """Makes a warning of these kinds: their lines are left out and counted whatever `on_problem` says."""
        self._tolerated.update(kinds)

    def refuse_files(self) -> None:
        """Ends the job before any long reading.

        Raises:
            ValueError: Where a file cannot be used.
        """
        if self._files:
            raise ValueError(self._message())

    def settle(self, on_problem: Literal["refuse", "skip"]) -> None:
        """Called once, when all is read: refuses, or logs what is left out.

        Raises:
            ValueError: Naming the first problems in full, and all by kind.
        """
        if self._files or (self.skipped.keys() - self._tolerated and on_problem == "refuse"):
            raise ValueError(self._message())
        if self.skipped:
            counts = {"num_lines": self.skipped.total(), "by_kind": dict(self.skipped)}
            log.warning(f"bad {self._called()} left out", **counts, first=self._lines)

    def _message(self) -> str:
        num_lines = self.skipped.total()
        message = [f"{self._uri}: this collection cannot be used; nothing was written", *self._files, *self._lines]
        if num_lines > len(self._lines):
            message.append(f"... and {num_lines - len(self._lines)} more {self._called()}")
        if num_lines:
            counted = ", ".join(f"{count} x {kind}" for kind, count in self.skipped.most_common())
            message.append(f"bad {self._called()}: {num_lines} ({counted})")
        if num_lines and not self._files:
            message.append(f"mend the {self._called()}, or leave them out ({hint('on_problem', 'skip')})")
        return "\n".join(message)

    def _called(self) -> str:
        return "files and lines" if self._num_whole_files else "lines"
