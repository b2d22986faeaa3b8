"""Append-only record log keyed by content hash; survives kill -9 and pod preemption, and is shared by shards and by runs.

A journal is a folder of JSON-lines files. Each process that opens it writes a file of its own, the first that no other
process holds, and reads them all; so shards and runs share what they paid for, and there are as many files as there
were writers at once. A kill in the middle of a write leaves a torn last line, which is cut off when the file is written
to again; a broken line anywhere else is damage, and is refused.

Under a gs:// URI the files are immutable segments: records go to a file on this machine first, which becomes a segment
every half minute and when the journal is closed (so on SIGTERM too). A machine that vanishes without a signal takes at
most that half minute along.

Memory: 24 to 48 bytes a record, whatever its size; values stay on the disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from components.shared import log, storage
from components.shared.hashing import text_digest
from components.shared.records import RecordError

_SUFFIX = ".jsonl"
_UPLOAD_SECONDS = 30.0
_OFFSET_BITS = 44
_BLOCK_BYTES = 1 << 12
_MIN_SLOTS = 1 << 10


def read_journal(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and value of every record of a journal's folder, in the order of its files; a key may come twice.

    A last line that is being written, or was torn by a kill, is left out.
    """
    for path in sorted(storage.fetch(uri).glob(f"*{_SUFFIX}")):
        with path.open("rb") as file:
            for _, _, key, value in _records(file):
                yield key, value


class Journal:
    """A log that is also a lookup table: append once, read for ever."""

    def __init__(self, uri: str | Path) -> None:
        """Opens or makes the journal of a folder, local or gs://, and recovers a torn last line.

        Raises:
            RecordError: At a line before the last of a file that is not a journal record.
        """
        self._uri = str(uri)
        self._is_remote = storage.is_remote(self._uri)
        self._folder = _spool(self._uri) if self._is_remote else Path(uri)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._places = _Places()
        self._files: list[IO[bytes]] = []
        self._path, self._writer = _claim(self._folder)
        self._last_upload = time.monotonic()
        try:
            if self._is_remote:
                _download(self._uri, self._folder)
            for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
                if path != self._path:
                    self._read(path)
            self._size = self._read(self._path, is_own=True)
        except BaseException:
            self._close_files()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, or None."""
        return self._find(key)

    def append(self, key: str, value: dict[str, Any]) -> None:
        """Writes one record and hands it to the operating system, so that killing this process loses nothing.

        A key that is known already keeps its record. Where the disk is full nothing of the record stays.
        """
        if key in self:
            return
        line = orjson.dumps({"key": key, "value": value}) + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._writer, line[written:])
        except OSError:
            os.ftruncate(self._writer, self._size)
            raise
        self._places.add(key, len(self._files) - 1, self._size)
        self._size += len(line)

    def sync(self) -> None:
        """Forces the records to the disk: they survive a power cut too. Under gs:// a new segment is due every half minute."""
        os.fsync(self._writer)
        if self._is_remote and time.monotonic() - self._last_upload > _UPLOAD_SECONDS:
            self._upload()

    def close(self) -> None:
        """Syncs, uploads and closes."""
        try:
            os.fsync(self._writer)
            if self._is_remote:
                self._upload()
        finally:
            self._close_files()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        """Every key once, in the order in which the files hold them."""
        for number, file in enumerate(self._files):
            file.seek(0)
            for offset, _, key, _ in _records(file):
                if next((place for place, _ in self._matches(key)), None) == (number, offset):
                    yield key

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and value of every record, in the order of the files; a key that two writers wrote at once comes twice."""
        for file in self._files:
            file.seek(0)
            for _, _, key, value in _records(file):
                yield key, value

    def _find(self, key: str) -> dict[str, Any] | None:
        return next((value for _, value in self._matches(key)), None)

    def _matches(self, key: str) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
        """Place and value of the record of the key; the index knows a part of its hash only, so the key itself is compared."""
        for number, offset in self._places.find(key):
            record = orjson.loads(_line(self._files[number].fileno(), offset))
            if record["key"] == key:
                yield (number, offset), record["value"]

    def _read(self, path: Path, *, is_own: bool = False) -> int:
        """Indexes a file; returns the length of its whole lines. A torn last line is cut from the own file, and left to others' writers."""
        number, size = len(self._files), 0
        self._files.append(path.open("rb"))
        for offset, length, key, _ in _records(self._files[number]):
            size = offset + length
            if self._find(key) is None:
                self._places.add(key, number, offset)
        if is_own and (torn := path.stat().st_size - size):
            log.warning("journal: cut a torn last line", path=path, torn_bytes=torn)
            os.ftruncate(self._writer, size)
        return size

    def _upload(self) -> None:
        """Makes a segment of what was written since the last one: named by its content, so that a repeated upload changes nothing."""
        self._last_upload = time.monotonic()
        if not self._size:
            return
        content = self._path.read_bytes()
        name = f"{text_digest(content)[:24]}{_SUFFIX}"
        storage.write_bytes(f"{self._uri.rstrip('/')}/{name}", content)
        # What was read through the old name goes on being read through the open file.
        self._path.rename(self._folder / name)
        os.close(self._writer)
        self._path, self._writer = _claim(self._folder)
        self._files.append(self._path.open("rb"))
        self._size = 0

    def _close_files(self) -> None:
        os.close(self._writer)
        for file in self._files:
            file.close()


class _Places:
    """Key -> file and offset as an open-addressing table in two flat arrays; a Python dictionary takes five times the memory."""

    def __init__(self) -> None:
        self._count = 0
        self._hashes, self._values = array("Q", bytes(8 * _MIN_SLOTS)), array("Q", bytes(8 * _MIN_SLOTS))

    def __len__(self) -> int:
        return self._count

    def add(self, key: str, number: int, offset: int) -> None:
        """Adds a place; the caller has seen that the key has none."""
        if 3 * self._count >= 2 * len(self._hashes):
            self._grow()
        self._put(_hash(key), number << _OFFSET_BITS | offset)
        self._count += 1

    def find(self, key: str) -> Iterator[tuple[int, int]]:
        """File number and offset of every record whose key has the same hash: almost always one or none."""
        wanted, slots = _hash(key), len(self._hashes)
        slot = wanted % slots
        while found := self._hashes[slot]:
            if found == wanted:
                yield self._values[slot] >> _OFFSET_BITS, self._values[slot] & (1 << _OFFSET_BITS) - 1
            slot = (slot + 1) % slots

    def _put(self, hashed: int, value: int) -> None:
        slot = hashed % len(self._hashes)
        while self._hashes[slot]:
            slot = (slot + 1) % len(self._hashes)
        self._hashes[slot], self._values[slot] = hashed, value

    def _grow(self) -> None:
        hashes, values = self._hashes, self._values
        self._hashes, self._values = array("Q", bytes(16 * len(hashes))), array("Q", bytes(16 * len(hashes)))
        for hashed, value in zip(hashes, values, strict=True):
            if hashed:
                self._put(hashed, value)


def _hash(key: str) -> int:
    # 0 marks an empty slot.
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) | 1


def _records(file: IO[bytes]) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Offset, length, key and value of every whole line."""
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
        yield offset, len(line), key, value
        offset += len(line)


def _line(descriptor: int, offset: int) -> bytes:
    line = b""
    while b"\n" not in line:
        line += os.pread(descriptor, _BLOCK_BYTES, offset + len(line))
    return line.partition(b"\n")[0]


def _claim(folder: Path) -> tuple[Path, int]:
    """The first file that no other process writes, locked and open for appending; a process that ends, however, frees its own."""
    number = 0
    while True:
        path = folder / f"calls-{number:05}{_SUFFIX}"
        writer = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(writer)
            number += 1
            continue
        # Its writer may have made a segment of it since we opened it.
        if path.exists() and path.stat().st_ino == os.fstat(writer).st_ino:
            return path, writer
        os.close(writer)


def _spool(uri: str) -> Path:
    return Path.home() / ".cache" / "retriever" / "journal" / text_digest(uri.rstrip("/"))[:16]


def _download(uri: str, folder: Path) -> None:
    for name in storage.list_files(uri):
        if name.endswith(_SUFFIX) and not (folder / name).exists():
            storage.write_bytes(str(folder / name), storage.read_bytes(f"{uri.rstrip('/')}/{name}"))
