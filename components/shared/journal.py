"""Append-only record log keyed by content hash; survives kill -9 and pod preemption.

One JSON line a record. A kill in the middle of a write leaves a torn last line, which is cut off when the journal is opened
again; a broken line anywhere else is damage, and is refused. Only keys and file positions are held in memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from components.shared import log, storage
from components.shared.manifest import BusyError
from components.shared.records import RecordError


def content_key(*parts: object) -> str:
    """sha256 of the JSON of the parts: equal calls have equal keys on every machine."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read_journal(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and value of every record of a journal's folder, in the order of its files; a key may come twice.

    A last line that is being written, or was torn by a kill, is left out.
    """
    for path in sorted(storage.fetch(uri).glob("*.jsonl")):
        with path.open("rb") as file:
            for line_number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield _record(line, path, line_number)


def _record(line: bytes, path: Path, line_number: int) -> tuple[str, dict[str, Any]]:
    try:
        record = orjson.loads(line)
        key, value = record["key"], record["value"]
        if not isinstance(key, str) or not isinstance(value, dict):
            raise TypeError("key or value of a wrong type")
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise RecordError(
            path, line_number, f"not a journal record ({error})", "restore the file, or delete this line to make the call again"
        ) from error
    return key, value


class Journal:
    """A log that is also a lookup table: append once, read for ever."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the journal, and recovers a torn last line.

        Raises:
            RecordError: At a line before the last that is not a journal record.
            BusyError: Where another process writes it; the positions held here would be wrong.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._offsets: dict[str, int] = {}
        self._file = path.open("a+b")
        try:
            self._lock()
            self._size = self._recover()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, key: str) -> bool:
        return key in self._offsets

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, or None."""
        if key not in self._offsets:
            return None
        self._file.seek(self._offsets[key])
        value: dict[str, Any] = orjson.loads(self._file.readline())["value"]
        return value

    def append(self, key: str, value: dict[str, Any]) -> None:
        """Writes one record and hands it to the operating system, so that killing this process loses nothing.

        A key that is known already keeps its record.
        """
        if key in self._offsets:
            return
        line = orjson.dumps({"key": key, "value": value}) + b"\n"
        self._file.write(line)
        self._file.flush()
        self._offsets[key] = self._size
        self._size += len(line)

    def sync(self) -> None:
        """Forces the records to the disk: they survive a power cut too."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Syncs and closes."""
        self.sync()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def _lock(self) -> None:
        # Held until the file is closed, so also by a process that is killed.
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{self._path}: another process is writing this journal; wait for it or end it") from error

    def _recover(self) -> int:
        offset = 0
        self._file.seek(0)
        for line_number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                log.warning("journal: cut a torn last line", path=self._path, line=line_number, torn_bytes=len(line))
                self._file.truncate(offset)
                break
            self._offsets.setdefault(_record(line, self._path, line_number)[0], offset)
            offset += len(line)
        return offset
