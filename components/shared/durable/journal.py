"""Append-only record log keyed by content hash; survives kill -9 and preemption, and is shared by shards and by runs.

A journal is a folder of JSON-lines files. Each process that opens it writes a file of its own, the first that no other
process holds, and reads them all; so shards and runs share what they paid for. A kill in the middle of a write leaves a
torn last line, which is cut off when the file is written to again; a broken line anywhere else is damage, and is
refused. Many files are merged into few whenever a journal is opened, so a journal takes a bounded number of file
descriptors: `MOST_FILES` and one for every process that writes at the same time.

Under a gs:// URI the files are immutable segments: records go to a file on this machine first, whose new lines become a
segment every half minute and when the journal is closed (so on SIGTERM too). A machine that vanishes without a signal
takes at most that half minute along.

Memory: 24 to 48 bytes a record, whatever its size; values stay on the disk.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from components.shared import log
from components.shared.durable import storage
from components.shared.durable.journal_files import SUFFIX, claim, exchange, locked, merge, read_lines, upload
from components.shared.hashing import text_digest

_UPLOAD_SECONDS = 30.0
_OFFSET_BITS = 44
_REJECTED = 1 << 63
_BLOCK_BYTES = 1 << 12
_MIN_SLOTS = 1 << 10
_MOST_INTEGER = 1 << 63

# File number and offset of a line.
Place = tuple[int, int]


def read_journal(uri: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and value of every record of a journal's folder, in the order of its files; a key may come twice.

    A last line that is being written, or was torn by a kill, is left out, and so is a copy of a line.
    """
    folder, read, seen = storage.fetch(uri), set[Path](), _Table()
    while paths := sorted(set(folder.glob(f"*{SUFFIX}")) - read):
        for path in paths:
            read.add(path)
            try:
                file = path.open("rb")
            except FileNotFoundError:
                # Merged since the folder was listed: its lines are in a file that the next listing shows.
                continue
            with file:
                for _, line, key, value in read_lines(file):
                    if seen.add_new(_hash(line)):
                        yield key, value


class Journal:
    """A log that is also a lookup table: append once, read for ever."""

    def __init__(self, uri: str | Path, *, accepts: Callable[[Mapping[str, Any]], bool] | None = None) -> None:
        """Opens or makes the journal of a folder, local or gs://, merges its files and recovers a torn last line.

        Args:
            uri: The folder.
            accepts: What a value must satisfy to be found; a record that does not is as if it were not there, and its
                key may be appended again.

        Raises:
            RecordError: At a line before the last of a file that is not a journal record.
        """
        self._uri = str(uri)
        self._accepts = accepts or (lambda _: True)
        self._is_remote = storage.is_remote(self._uri)
        self._folder = _spool(self._uri) if self._is_remote else Path(uri)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._table, self._num_keys, self.num_repaired = _Table(), 0, 0
        self._last_upload = time.monotonic()
        self._files: list[IO[bytes]] = []
        with locked(self._folder):
            if self._is_remote:
                exchange(self._uri, self._folder)
            merge(self._folder)
            self._path, self._writer = claim(self._folder)
            try:
                # Open files stay readable whoever merges them later. The own one comes last: it grows.
                others = [path for path in sorted(self._folder.glob(f"*{SUFFIX}")) if path != self._path]
                self._files += [path.open("rb") for path in (*others, self._path)]
            except BaseException:
                self._close_files()
                raise
        try:
            sizes = [self._read(number) for number in range(len(self._files))]
            self._size = sizes[-1]
            self._cut_torn_line()
        except BaseException:
            self._close_files()
            raise

    def __len__(self) -> int:
        return self._num_keys

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of a key, or None."""
        record = self._find(key)
        return None if record is None else record[1]

    def append(self, key: str, value: Mapping[str, Any]) -> None:
        """Writes one record and hands it to the operating system, so that killing this process loses nothing.

        A key that is known already keeps its record. Halves of surrogate pairs, which no file can hold, are replaced
        and counted in `num_repaired`. Where the disk is full nothing of the record stays.

        Raises:
            ValueError: Where the value could not be read back as it is: a number that is not finite, or a type that
                JSON does not have.
        """
        if key in self:
            return
        plain = self._plain(value, f"record {key!r}")
        try:
            line = orjson.dumps({"key": key, "value": plain}) + b"\n"
        except TypeError as error:
            raise ValueError(f"journal key {key!r} is no text that can be written ({error})") from error
        try:
            written = 0
            while written < len(line):
                written += os.write(self._writer, line[written:])
        except OSError:
            os.ftruncate(self._writer, self._size)
            raise
        self._add(key, plain, (len(self._files) - 1, self._size))
        self._size += len(line)

    def sync(self) -> None:
        """Forces the records to the disk, so that they survive a power cut too; in a bucket every half minute."""
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
        for place, key, _ in self._lines():
            if (known := self._find(key)) is not None and known[0] == place:
                yield key

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key and value of every record that was read or appended; a key that two writers wrote at once comes twice."""
        for _, key, value in self._lines():
            yield key, value

    def _lines(self) -> Iterator[tuple[Place, str, dict[str, Any]]]:
        for number, file in enumerate(self._files):
            file.seek(0)
            for offset, _, key, value in read_lines(file):
                if any(_place(packed) == (number, offset) for packed in self._table.find(_hash(key.encode()))):
                    yield (number, offset), key, value

    def _find(self, key: str) -> tuple[Place, dict[str, Any]] | None:
        """Place and value of the key; of two that were written at once the same one in whatever order the files are."""
        matches = list(self._matches(key))
        if not matches:
            return None
        place, line = matches[0] if len(matches) == 1 else min(matches, key=lambda match: match[1])
        return place, orjson.loads(line)["value"]

    def _matches(self, key: str) -> Iterator[tuple[Place, bytes]]:
        """Places and lines of a key; the table knows a part of its hash only, so the key itself is compared."""
        try:
            hashed = _hash(key.encode())
        except UnicodeEncodeError:
            return
        for packed in self._table.find(hashed):
            line = self._line(_place(packed))
            if not packed & _REJECTED and orjson.loads(line)["key"] == key:
                yield _place(packed), line

    def _line(self, place: Place) -> bytes:
        descriptor, offset, line = self._files[place[0]].fileno(), place[1], b""
        while b"\n" not in line:
            line += os.pread(descriptor, _BLOCK_BYTES, offset + len(line))
        return line[: line.index(b"\n") + 1]

    def _read(self, number: int) -> int:
        """Indexes a file, without the copies of lines that stand elsewhere; returns the length of its whole lines."""
        size = 0
        for offset, line, key, value in read_lines(self._files[number]):
            size = offset + len(line)
            same = self._table.find(_hash(key.encode()))
            if not any(self._line(_place(packed)) == line for packed in same):
                self._add(key, value, (number, offset))
        return size

    def _add(self, key: str, value: Mapping[str, Any], place: Place) -> None:
        is_accepted = self._accepts(value)
        self._num_keys += is_accepted and self._find(key) is None
        packed = place[0] << _OFFSET_BITS | place[1]
        self._table.add(_hash(key.encode()), packed if is_accepted else packed | _REJECTED)

    def _cut_torn_line(self) -> None:
        """Cuts a torn last line from the own file; others' writers may still be writing theirs."""
        if torn := self._path.stat().st_size - self._size:
            log.warning("journal: cut a torn last line", path=self._path, torn_bytes=torn)
            os.ftruncate(self._writer, self._size)

    def _upload(self) -> None:
        self._last_upload = time.monotonic()
        upload(self._uri, self._path)

    def _close_files(self) -> None:
        os.close(self._writer)
        for file in self._files:
            file.close()

    def _plain(self, value: object, where: str) -> Any:  # noqa: ANN401 what JSON can hold
        """The value as it will be read back."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._repaired(str(value))
        if isinstance(value, int) and -_MOST_INTEGER <= value < 2 * _MOST_INTEGER:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, list | tuple):
            return [self._plain(part, f"{where}[{number}]") for number, part in enumerate(value)]
        if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            return {self._repaired(name): self._plain(part, f"{where}.{name}") for name, part in value.items()}
        shown = repr(value)[:80]
        raise ValueError(
            f"journal: {where} is {shown} ({type(value).__name__}), which could not be read back; a record holds text, "
            "finite numbers, true, false, null, and lists and objects of these"
        )

    def _repaired(self, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            if not self.num_repaired:
                log.warning("journal: halves of surrogate pairs in a text are replaced by question marks")
            self.num_repaired += 1
            return text.encode("utf-8", "replace").decode()
        return text


class _Table:
    """64-bit hash -> numbers, by open addressing in two flat arrays: a fifth of the memory of a Python dictionary."""

    def __init__(self) -> None:
        self._count = 0
        self._hashes, self._values = array("Q", bytes(8 * _MIN_SLOTS)), array("Q", bytes(8 * _MIN_SLOTS))

    def add(self, hashed: int, value: int) -> None:
        """Adds one number more to a hash."""
        if 3 * self._count >= 2 * len(self._hashes):
            self._grow()
        self._put(hashed, value)
        self._count += 1

    def add_new(self, hashed: int) -> bool:
        """Adds a hash; False where it is there already."""
        if any(True for _ in self.find(hashed)):
            return False
        self.add(hashed, 0)
        return True

    def find(self, hashed: int) -> Iterator[int]:
        """The numbers of a hash: almost always one or none."""
        slots = len(self._hashes)
        slot = hashed % slots
        while there := self._hashes[slot]:
            if there == hashed:
                yield self._values[slot]
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


def _hash(content: bytes) -> int:
    # 0 marks an empty slot.
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) | 1


def _place(packed: int) -> Place:
    return (packed & ~_REJECTED) >> _OFFSET_BITS, packed & (1 << _OFFSET_BITS) - 1


def _spool(uri: str) -> Path:
    return Path.home() / ".cache" / "retriever" / "journal" / text_digest(uri.rstrip("/"))[:16]
