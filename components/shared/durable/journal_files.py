"""The files of a journal's folder: who writes which, how many become few, and what is in a bucket already.

A journal is a set of lines: a line that stands in two files is one record. So files are merged by writing all their
lines into a new one first and removing them afterwards, and a kill between the two leaves copies, never a loss and
never a record that counts twice. Whoever opens or merges holds the folder's lock; whoever writes a file holds that
file's own, and its file is left alone.

Names: `calls-00000.jsonl` is written by one process at a time, `pack-<digest>.jsonl` holds merged lines, any other
`.jsonl` is a segment from a bucket. `calls-00000.uploaded` says how many bytes of that file are in the bucket, and
`.names` which of the bucket's segments are in this folder's packs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from components.shared.durable import storage
from components.shared.hashing import text_digest
from components.shared.records import RecordError

SUFFIX = ".jsonl"
# More files than these, beside those that are being written, are merged when a journal is opened.
MOST_FILES = 16
_MERGED_AT_ONCE = 64
_DOWNLOADS_AT_ONCE = 16
_PACK_BYTES = 1 << 26
_PARTIAL = ".partial"
_NAMES = ".names"
_UPLOADED = ".uploaded"


def read_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes, str, dict[str, Any]]]:
    """Offset, bytes, key and value of every whole line of a file; a last line without its end is left out.

    Raises:
        RecordError: At a line that is not a journal record.
    """
    offset = 0
    for line_number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            record = orjson.loads(line)
            key, value = record["key"], record["value"]
            if not isinstance(key, str) or not isinstance(value, dict):
                raise TypeError("key or value of a wrong type")
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            remedy = "restore the file, or delete this line to make the call again"
            raise RecordError(file.name, line_number, f"not a journal record ({error})", remedy) from error
        yield offset, line, key, value
        offset += len(line)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; waits for another process that opens or merges."""
    descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def claim(folder: Path) -> tuple[Path, int]:
    """The first file that no other process writes, locked and open for appending; a process that ends frees its own."""
    number = 0
    while True:
        path = folder / f"calls-{number:05}{SUFFIX}"
        writer = os.open(path, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o644)
        # Another process may have removed the file since it was opened here.
        if _try_lock(writer) and path.exists() and path.stat().st_ino == os.fstat(writer).st_ino:
            return path, writer
        number += path.exists()
        os.close(writer)


def merge(folder: Path) -> None:
    """Makes few files of many: until at most `MOST_FILES` are left beside those that are being written.

    The caller holds the folder's lock.

    Raises:
        RecordError: At a line that is not a journal record; nothing of its file is touched.
    """
    for leftover in folder.glob(f".*{_PARTIAL}"):
        leftover.unlink()
    while len(idle := [path for path in sorted(folder.glob(f"*{SUFFIX}")) if _is_idle(path)]) > MOST_FILES:
        # The smallest first, so that what is large already is seldom copied again.
        idle.sort(key=lambda path: (path.stat().st_size, path.name))
        num_merged = 0
        while len(idle) > MOST_FILES:
            group, idle = idle[:_MERGED_AT_ONCE], idle[_MERGED_AT_ONCE:]
            with ExitStack() as stack:
                held = [path for path in sorted(group) if _hold(path, stack)]
                if len(held) > 1:
                    _replace_by_pack(folder, held)
                    num_merged += len(held)
        if not num_merged:
            # Others have begun to write to all of them.
            return


def unsaved(path: Path) -> int:
    """From which byte on a file's lines are not in the bucket."""
    try:
        num_bytes = int(path.with_suffix(_UPLOADED).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0
    # The file may be another one than the mark was made for.
    return num_bytes if num_bytes <= path.stat().st_size else 0


def upload(uri: str, path: Path) -> None:
    """Makes a segment in the bucket of a file's whole lines that are not there yet, named by its content."""
    first = unsaved(path)
    with path.open("rb") as file:
        file.seek(first)
        content = file.read()
    content = content[: content.rfind(b"\n") + 1]
    if not content:
        return
    name = f"{text_digest(content)[:24]}{SUFFIX}"
    storage.write_bytes(f"{uri.rstrip('/')}/{name}", content)
    _remember(path.parent, [name])
    storage.write_bytes(str(path.with_suffix(_UPLOADED)), str(first + len(content)).encode())


def exchange(uri: str, folder: Path) -> None:
    """Brings a bucket and the folder that mirrors it together: what either lacks, it gets.

    The caller holds the folder's lock. Lines that a killed process left behind go to the bucket first; segments that
    are new here come into packs, several at a time.
    """
    for path in sorted(folder.glob(f"calls-*{SUFFIX}")):
        if _is_idle(path):
            upload(uri, path)
    known = {path.name for path in folder.glob(f"*{SUFFIX}")} | _names(folder)
    missing: Sequence[str] = [name for name in storage.list_files(uri) if name.endswith(SUFFIX) and name not in known]
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        while missing:
            missing = _download(uri, folder, missing, pool)


def _download(uri: str, folder: Path, names: Sequence[str], pool: ThreadPoolExecutor) -> Sequence[str]:
    """One pack of the first segments; returns the names of those that did not go into it."""
    num_taken = 0
    with _Partial(folder) as partial:
        while num_taken < len(names) and partial.num_bytes < _PACK_BYTES:
            group = names[num_taken : num_taken + _MERGED_AT_ONCE]
            for content in pool.map(storage.read_bytes, [f"{uri.rstrip('/')}/{name}" for name in group]):
                partial.write(content)
            num_taken += len(group)
        partial.publish()
    _remember(folder, names[:num_taken])
    return names[num_taken:]


class _Partial:
    """A pack in the making: invisible until it is whole and on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path, self.num_bytes = folder, folder / f".pack{_PARTIAL}", 0
        self._file, self._digest = self._path.open("wb"), hashlib.sha256()

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def write(self, lines: bytes) -> None:
        """Adds whole lines; a segment without its last end gets it."""
        lines = lines if lines.endswith(b"\n") or not lines else lines + b"\n"
        self._file.write(lines)
        self._digest.update(lines)
        self.num_bytes += len(lines)

    def publish(self) -> Path | None:
        """The pack under its name; None where it is empty."""
        self._file.flush()
        os.fsync(self._file.fileno())
        if not self.num_bytes:
            return None
        path = self._folder / f"pack-{self._digest.hexdigest()[:24]}{SUFFIX}"
        self._path.rename(path)
        _sync_folder(self._folder)
        return path


def _replace_by_pack(folder: Path, paths: Sequence[Path]) -> None:
    with _Partial(folder) as partial:
        for path in paths:
            with path.open("rb") as file:
                for _, line, _, _ in read_lines(file):
                    partial.write(line)
        pack = partial.publish()
    _remember(folder, [path.name for path in paths if not path.name.startswith(("calls-", "pack-"))])
    for path in paths:
        # The mark first: a file that is made anew under this name must not inherit it.
        path.with_suffix(_UPLOADED).unlink(missing_ok=True)
        # A pack and empty files make the same pack again.
        if path != pack:
            path.unlink()


def _names(folder: Path) -> set[str]:
    path = folder / _NAMES
    return set(path.read_text().split("\n")) if path.exists() else set()


def _remember(folder: Path, names: Sequence[str]) -> None:
    if not names:
        return
    with (folder / _NAMES).open("a") as file:
        # It begins on a line of its own, whatever a kill left of the last one.
        file.write("\n" + "\n".join(names) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _is_idle(path: Path) -> bool:
    """Whether no process writes the file; only those with a number are ever written to."""
    if not path.name.startswith("calls-"):
        return True
    with path.open("rb") as file:
        return _try_lock(file.fileno())


def _hold(path: Path, stack: ExitStack) -> bool:
    """Keeps every writer off a file until the stack ends; False where one has it."""
    return _try_lock(stack.enter_context(path.open("rb")).fileno())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
