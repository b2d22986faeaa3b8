"""Documents -> passages, a part of the files at a time, each part on disk before the next is begun.

A killed job goes on behind its last finished part, and parts can be read by several processes. Memory is one document's
blocks: a part's passages go to its file as they come.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from components.prepare.documents.cutting import CutPassage, cut
from components.prepare.documents.formats.blocks import Block, collapsed
from components.prepare.documents.formats.decoding import BINARY, Encoding, find_encoding, text_pieces
from components.prepare.documents.formats.hypertext import read_hypertext
from components.prepare.documents.formats.markdown import read_markdown
from components.prepare.documents.formats.pdf import read_pdf
from components.prepare.documents.formats.plain import read_plain
from components.prepare.documents.formats.records import MISSING_TEXT, NO_OBJECT, BadRecord, Record, read_records
from components.prepare.documents.formats.restructured import read_restructured
from components.prepare.documents.repeats import compared, hash_of
from components.prepare.documents.walk import DocumentFile, Format
from components.prepare.files import DamagedFileError, TextFile
from components.prepare.problems import Fault

# Files and bytes of a part: small enough that a kill loses seconds.
_PART_FILES, _PART_BYTES = 200, 16 << 20
_BATCH_ROWS = 4096
_NOT_IN_ID = re.compile(r"[\s\x00-\x1f\x7f\ufffd]")
NOTHING = "nothing to read"
NO_TEXTS = "JSON without texts"
_SCHEMA = pa.schema(
    [
        ("passage_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("file", pa.string()),
        ("record", pa.string()),
        ("headings", pa.list_(pa.string())),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("page", pa.int32()),
    ]
)
_HASH_ARRAYS = ("id_hash", "text_hash", "block_hash", "file_hash", "record_hash")
_NUMBER_ARRAYS = ("document", "block_size", "block_passage", "file_number", "line")
_ROWS_NAME, _ARRAYS_NAME, _FINDINGS_NAME, SIGNATURES_NAME = "rows.arrow", "arrays.npz", "findings.json", "signatures"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How passages are cut."""

    max_tokens: int
    overlap_tokens: int


@dataclass
class Findings:
    """What a part's files gave beside passages: faults (name, line, kind, problem, remedy), names left out, notes."""

    faults: list[tuple[str, int, str, str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    num_files: Counter[str] = field(default_factory=Counter)

    def add_fault(self, name: str, line_number: int, fault: Fault) -> None:
        """A file (line 0) or a record that cannot be read."""
        self.faults.append((name, line_number, fault.kind, fault.problem, fault.remedy))


@dataclass(frozen=True)
class Part:
    """A finished part on disk.

    Attributes:
        folder: Where it is.
        arrays: By name: id_hash, text_hash and document of each passage; block_hash, block_size and block_passage of
            each of their blocks; file_number (in the part), file_hash, record_hash and line of each document.
        findings: What else its files gave.
    """

    folder: Path
    arrays: dict[str, np.ndarray]
    findings: Findings

    def row_at(self, number: int) -> dict[str, Any]:
        """The passage of a row of this part."""
        with pa.memory_map(str(self.folder / _ROWS_NAME)) as source:
            batch = pa.ipc.open_file(source).get_batch(number // _BATCH_ROWS)
            row: dict[str, Any] = batch.slice(number % _BATCH_ROWS, 1).to_pylist()[0]
            return row

    def rows(self) -> Iterator[dict[str, Any]]:
        """The passages in order, a batch in memory at a time."""
        # Not memory-mapped: what is read once is no memory of this process.
        with pa.OSFile(str(self.folder / _ROWS_NAME)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                yield from reader.get_batch(number).to_pylist()


def parted(documents: Sequence[DocumentFile]) -> list[list[DocumentFile]]:
    """The documents in parts, in order."""
    parts: list[list[DocumentFile]] = []
    num_bytes = 0
    for document in documents:
        size = document.path.stat().st_size
        if not parts or len(parts[-1]) == _PART_FILES or num_bytes + size > _PART_BYTES:
            parts.append([])
            num_bytes = 0
        parts[-1].append(document)
        num_bytes += size
    return parts


def read_part(folder: Path, documents: Sequence[DocumentFile], sizes: Sizes) -> None:
    """Reads a part's files into a folder, unless that is done already."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with _PartWriter(partial, sizes) as writer:
        for document in documents:
            writer.read(document)
    partial.rename(folder)


def open_part(folder: Path) -> Part:
    """A part that was read."""
    with np.load(folder / _ARRAYS_NAME) as arrays:
        values = orjson.loads((folder / _FINDINGS_NAME).read_bytes())
        findings = Findings(
            [tuple(fault) for fault in values["faults"]],
            [tuple(entry) for entry in values["left_out"]],
            Counter(values["notes"]),
            Counter(values["num_files"]),
        )
        return Part(folder, dict(arrays), findings)


class _PartWriter:
    """Writes a part passage by passage."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder, self._sizes = folder, sizes
        self._findings = Findings()
        self._file_number = -1
        self._batch: list[dict[str, Any]] = []
        self._arrays = {name: array("Q") for name in _HASH_ARRAYS} | {name: array("I") for name in _NUMBER_ARRAYS}

    def __enter__(self) -> _PartWriter:
        self._sink = pa.OSFile(str(self._folder / _ROWS_NAME), "wb")
        self._rows = pa.ipc.new_file(self._sink, _SCHEMA)
        self._signatures = (self._folder / SIGNATURES_NAME).open("wb")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._flush()
        self._rows.close()
        self._sink.close()
        self._signatures.close()
        if kind is None:
            arrays = {name: np.frombuffer(values, dtype=values.typecode) for name, values in self._arrays.items()}
            np.savez(self._folder / _ARRAYS_NAME, allow_pickle=False, **arrays)
            content = {name: getattr(self._findings, name) for name in Findings.__dataclass_fields__}
            (self._folder / _FINDINGS_NAME).write_bytes(orjson.dumps(content))

    def read(self, document: DocumentFile) -> None:
        """Adds the passages of a file, or the reason why there are none."""
        self._file_number += 1
        num_before, num_faults = len(self._arrays["id_hash"]), len(self._findings.faults)
        try:
            self._read(document)
        except DamagedFileError as error:
            self._findings.add_fault(document.name, 0, Fault("damaged archive", str(error), "copy it again"))
        except OSError as error:
            fault = Fault("unreadable file", str(error.strerror), "make it readable, or move it away")
            self._findings.add_fault(document.name, 0, fault)
        if len(self._arrays["id_hash"]) > num_before:
            self._findings.num_files[document.format] += 1
        elif len(self._findings.faults) == num_faults and document.name not in dict(self._findings.left_out[-1:]):
            self._findings.left_out.append((document.name, NOTHING))
            self._new_document(document.name, "", 0)

    def _read(self, document: DocumentFile) -> None:
        file = TextFile(document.path, document.name)
        if document.format == "pdf":
            stream = io.BytesIO(b"".join(file.blocks())) if file.is_compressed else document.path
            blocks = list(read_pdf(stream))
            if blocks and isinstance(blocks[-1], Fault):
                self._findings.add_fault(document.name, 0, blocks[-1])
            else:
                self._add_document(document, (block for block in blocks if isinstance(block, Block)))
            return
        encoding = find_encoding(file, is_html=document.format == "html")
        if isinstance(encoding, Fault):
            if encoding.kind == BINARY:
                self._findings.left_out.append((document.name, BINARY))
            else:
                self._findings.add_fault(document.name, 0, encoding)
            return
        if encoding.note:
            self._findings.notes[encoding.note] += 1
        if document.format == "records":
            self._read_records(document, text_pieces(file, encoding))
        else:
            self._add_document(document, _blocks(document.format, file, encoding))

    def _read_records(self, document: DocumentFile, pieces: Iterable[str]) -> None:
        bad: list[BadRecord] = []
        num_records = 0
        for record in read_records(pieces, is_lines=_is_lines(document)):
            if isinstance(record, BadRecord):
                # A file of settings has no texts at all; that is known at its end only.
                if num_records or record.fault.kind not in (MISSING_TEXT, NO_OBJECT):
                    self._findings.add_fault(document.name, record.line_number, record.fault)
                else:
                    bad.append(record)
                continue
            num_records += 1
            if record.text_name != "text":
                self._findings.notes[f'"{record.text_name}" read as "text"'] += 1
            self._add_record(document, record)
        if not num_records and bad:
            self._findings.left_out.append((document.name, NO_TEXTS))
        elif bad:
            for record in bad:
                self._findings.add_fault(document.name, record.line_number, record.fault)

    def _add_record(self, document: DocumentFile, record: Record) -> None:
        read = read_markdown if record.text_name == "markdown" else read_plain
        title = collapsed(record.title)
        number = self._new_document(document.name, record.record_id, record.line_number)
        passages = self._cut(_below(title, read([record.text])))
        first = list(islice(passages, 2))
        own_id = _NOT_IN_ID.sub(_quoted, record.record_id)
        for passage in chain(first, passages):
            passage.page = record.page
            digest = _digest(document.name, record.record_id, passage)
            passage_id = own_id if own_id and len(first) == 1 else f"{own_id or _slug(document.name)}#{digest}"
            self._add(passage_id, document.name, record.record_id or str(record.line_number), passage, number)

    def _add_document(self, document: DocumentFile, blocks: Iterable[Block]) -> None:
        number = -1
        for passage in self._cut(blocks):
            passage.headings = passage.headings or (document.stem,)
            number = self._new_document(document.name, "", 0) if number < 0 else number
            passage_id = f"{_slug(document.name)}#{_digest(document.name, '', passage)}"
            self._add(passage_id, document.name, "", passage, number)

    def _cut(self, blocks: Iterable[Block]) -> Iterator[CutPassage]:
        return cut(blocks, max_tokens=self._sizes.max_tokens, overlap_tokens=self._sizes.overlap_tokens)

    def _new_document(self, name: str, record_id: str, line_number: int) -> int:
        self._arrays["file_hash"].append(hash_of(name))
        self._arrays["record_hash"].append(hash_of(record_id) if record_id else 0)
        self._arrays["file_number"].append(self._file_number)
        self._arrays["line"].append(line_number)
        return len(self._arrays["line"]) - 1

    def _add(self, passage_id: str, name: str, record: str, passage: CutPassage, document: int) -> None:
        row = len(self._arrays["id_hash"])
        text_hash, signature = compared(passage.text)
        self._arrays["id_hash"].append(hash_of(passage_id))
        self._arrays["text_hash"].append(text_hash)
        self._arrays["document"].append(document)
        for block, num_characters in passage.blocks:
            self._arrays["block_hash"].append(hash_of(collapsed(block.text).casefold()))
            self._arrays["block_size"].append(num_characters)
            self._arrays["block_passage"].append(row)
        self._signatures.write(signature.tobytes())
        self._batch.append(
            {
                "passage_id": passage_id,
                "title": _title(passage),
                "text": passage.text,
                "file": name,
                "record": record,
                "headings": list(passage.headings),
                "start": passage.start,
                "end": passage.end,
                "page": passage.page,
            }
        )
        if len(self._batch) == _BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._batch:
            self._rows.write_batch(pa.RecordBatch.from_pylist(self._batch, schema=_SCHEMA))
            self._batch = []


def _blocks(kind: Format, file: TextFile, encoding: Encoding) -> Iterator[Block]:
    if kind == "html":
        return read_hypertext(lambda: text_pieces(file, encoding))
    read = {"text": read_plain, "markdown": read_markdown, "rst": read_restructured}[kind]
    return read(text_pieces(file, encoding))


def _is_lines(document: DocumentFile) -> bool:
    """Whether a file of records has one a line: its name says so, and its first line is no bracket of an array."""
    return ".json" not in (suffix.lower() for suffix in document.path.suffixes) and _first_value(document)


def _first_value(document: DocumentFile) -> bool:
    head = TextFile(document.path, document.name).head().lstrip(b"\xef\xbb\xbf \t\r\n")
    return not head.startswith(b"[") and head.split(b"\n", 1)[0].strip() != b"{"


def _below(title: str, blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        if title:
            block.headings = (title, *block.headings)
        yield block


def _title(passage: CutPassage) -> str:
    """The path of titles, each said once where a page repeats its own title below itself."""
    before = (None, *passage.headings)
    kept = [title for title, last in zip(passage.headings, before, strict=False) if title != last]
    return " > ".join(kept)


def _digest(name: str, record_id: str, passage: CutPassage) -> str:
    content = "\0".join((name, record_id, *passage.headings, passage.text))
    return hashlib.blake2b(content.encode(), digest_size=6).hexdigest()


def _slug(name: str) -> str:
    return _NOT_IN_ID.sub(_quoted, name)


def _quoted(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
