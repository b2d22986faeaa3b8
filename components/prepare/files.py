"""The text files of a collection, plain or compressed: found by name, looked at first, then read line by line.

A compressed file is known by its first bytes and not by its name. A byte order mark in front of UTF-8 and blank lines
mean nothing: the mark is left out, the lines are counted.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from components.prepare.problems import Problems
from components.shared import log

COMPRESSED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
# What a cut or damaged archive raises; pa.ArrowInvalid is a ValueError.
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
_UTF8_MARK = b"\xef\xbb\xbf"
# First bytes of a file that cannot be read, what it is, and what to do about it; the longer mark of UTF-32 comes first.
_REFUSED = (
    (b"PK\x03\x04", "is a zip archive", "unpack it with unzip"),
    (b"\xff\xfe\x00\x00", "is UTF-32", "convert it with iconv -f utf-32 -t utf-8"),
    (b"\x00\x00\xfe\xff", "is UTF-32", "convert it with iconv -f utf-32 -t utf-8"),
    (b"\xff\xfe", "is UTF-16", "convert it with iconv -f utf-16 -t utf-8"),
    (b"\xfe\xff", "is UTF-16", "convert it with iconv -f utf-16 -t utf-8"),
    (b"{\x00", "is UTF-16", "convert it with iconv -f utf-16le -t utf-8"),
    (b"\x00{", "is UTF-16", "convert it with iconv -f utf-16be -t utf-8"),
)
_HEAD_BYTES, _BLOCK_BYTES = 65_536, 1 << 20
# A progress bar costs more than a line: it moves once per so many lines.
_LINES_PER_MOVE = 1024


class DamagedFileError(ValueError):
    """A compressed file that cannot be unpacked to its end."""


def _open_zstd(path: Path) -> io.BufferedIOBase:
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def _open_plain(path: Path) -> io.BufferedIOBase:
    return path.open("rb")


def _open_gzip(path: Path) -> io.BufferedIOBase:
    return gzip.GzipFile(path)


def _open_bz2(path: Path) -> io.BufferedIOBase:
    return bz2.BZ2File(path)


def _open_xz(path: Path) -> io.BufferedIOBase:
    return lzma.LZMAFile(path)


_OPENERS: tuple[tuple[bytes, Callable[[Path], io.BufferedIOBase]], ...] = (
    (b"\x1f\x8b", _open_gzip),
    (b"\x28\xb5\x2f\xfd", _open_zstd),
    (b"BZh", _open_bz2),
    (b"\xfd7zXZ\x00", _open_xz),
)


@dataclass
class TextFile:
    """A file of lines.

    Attributes:
        path: Where it is.
        name: What messages call it, below the collection's folder.
        num_blank: Blank lines in the last complete reading.
    """

    path: Path
    name: str
    num_blank: int = field(default=0, compare=False)

    @property
    def is_compressed(self) -> bool:
        """A compressed file is read from its beginning only."""
        return self._opener() is not _open_plain

    def head(self) -> bytes:
        """The first bytes, unpacked.

        Raises:
            ValueError: Where an archive is damaged.
        """
        try:
            with self._opener()(self.path) as file:
                return file.read(_HEAD_BYTES)
        except _DAMAGED as error:
            raise self._damaged(1, error) from error

    def blocks(self) -> Iterator[bytes]:
        """The whole content in order, unpacked, a megabyte at a time.

        Raises:
            DamagedFileError: Where an archive is damaged.
        """
        try:
            with self._opener()(self.path) as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
        except _DAMAGED as error:
            # A plain file that cannot be read is no matter of what is in it.
            if not self.is_compressed:
                raise
            raise DamagedFileError(f"is compressed and damaged or cut ({error or type(error).__name__})") from error

    def lines(self, label: str = "") -> Iterator[tuple[int, int, bytes]]:
        """Line number from 1, offset in bytes, and the line with its end, of all lines that are not blank.

        Args:
            label: Of the progress that is shown; empty: none.

        Raises:
            ValueError: Where an archive is damaged.
        """
        size = None if self.is_compressed else self.path.stat().st_size
        bar = log.Progress(label, total=size, unit="bytes") if label else None
        offset = shown_offset = num_blank = line_number = 0
        with self._opener()(self.path) as file:
            while line := self._next_line(file, line_number + 1):
                line_number += 1
                if line.isspace() or line == _UTF8_MARK:
                    num_blank += 1
                else:
                    yield line_number, offset, without_mark(line) if line_number == 1 else line
                offset += len(line)
                if bar and line_number % _LINES_PER_MOVE == 0:
                    bar.add(offset - shown_offset)
                    shown_offset = offset
        self.num_blank = num_blank
        if bar:
            bar.add(offset - shown_offset)
            bar.close()

    def lines_at(self, wanted: dict[int, int]) -> Iterator[tuple[int, bytes]]:
        """The lines of some numbers (line number -> offset, both ascending), each with its number."""
        if self.is_compressed:
            yield from ((line_number, line) for line_number, _, line in self.lines() if line_number in wanted)
            return
        with self.path.open("rb") as file:
            for line_number, offset in wanted.items():
                file.seek(offset)
                yield line_number, without_mark(file.readline())

    def _opener(self) -> Callable[[Path], io.BufferedIOBase]:
        with self.path.open("rb") as file:
            first_bytes = file.read(8)
        return next((opener for magic, opener in _OPENERS if first_bytes.startswith(magic)), _open_plain)

    def _next_line(self, file: io.BufferedIOBase, line_number: int) -> bytes:
        try:
            return file.readline()
        except _DAMAGED as error:
            raise self._damaged(line_number, error) from error

    def _damaged(self, line_number: int, error: Exception) -> ValueError:
        return ValueError(
            f"{self.path}:{line_number}: the compressed file is damaged or cut here ({error or type(error).__name__}); "
            "copy it again"
        )


def without_mark(line: bytes) -> bytes:
    """The line without a byte order mark in front."""
    return line.removeprefix(_UTF8_MARK)


def find_file(folder: Path, name: str, problems: Problems) -> TextFile | None:
    """The file of a name, plain or compressed; None where there is none. Two of them are a problem."""
    present = [f"{name}{suffix}" for suffix in ("", *COMPRESSED_SUFFIXES) if (folder / f"{name}{suffix}").is_file()]
    if len(present) > 1:
        problems.add_file(present[0], f"stands beside {present[1]}", "move one of the two away")
    return TextFile(folder / present[0], present[0]) if present else None


def check_encoding(file: TextFile, problems: Problems) -> bool:
    """Says whether the file can be read as lines of UTF-8; if not, the reason and the remedy go to the problems."""
    try:
        head = file.head()
    except ValueError as error:
        problems.add_file(file.name, f"is compressed and damaged ({error.__cause__})", "copy it again")
        return False
    for magic, problem, remedy in _REFUSED:
        if head.startswith(magic):
            problems.add_file(file.name, problem, remedy)
            return False
    if b"\r" in head.rstrip(b"\r\n") and b"\n" not in head:
        remedy = "convert it with tr '\\r' '\\n'"
        problems.add_file(file.name, "ends its lines with carriage returns alone", remedy)
        return False
    return True


def check_json_lines(file: TextFile, problems: Problems) -> None:
    """Names a file of JSON that is not one object a line."""
    head = without_mark(file.head()).lstrip()
    first_line = head.split(b"\n", 1)[0].strip()
    if first_line.startswith(b"["):
        problems.add_file(
            file.name, "is one JSON array", f"write one object a line, for example with jq -c '.[]' {file.name}"
        )
    elif first_line == b"{":
        problems.add_file(
            file.name, "spreads an object over lines", f"write one object a line, for example with jq -c . {file.name}"
        )
