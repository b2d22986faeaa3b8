"""Bytes of a document -> text, in the encoding that they are in.

A byte order mark decides first, then UTF-8 where all bytes agree with it, then what an HTML page says of itself, then
charset-normalizer's guess on the part where UTF-8 fails. A text that is UTF-8 but for a few bytes stays UTF-8 with
U+FFFD in their place: another encoding would spoil all of it. Whatever is not plain UTF-8 is noted.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from charset_normalizer import from_bytes

from components.prepare.files import TextFile
from components.prepare.problems import Fault

# UTF-32 comes first: the mark of UTF-16 is its beginning.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?([\w.:-]+)"""
    rb"""|<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]+)""",
    re.I,
)
# Where HTML may declare its encoding. Source: HTML standard, 13.2.3.2, prescan of the first 1024 bytes; tools put more
# in front of it.
_DECLARED_WITHIN = 4096
# More than this share of sequences that are right makes a file UTF-8 with errors in it.
_MOSTLY = 0.9
# The guess looks at this much: more makes it slower and no better.
_SAMPLE_BYTES = 16_384
# Share of bytes beyond ASCII; German text has 1.5 to 3 %.
_FEW = 0.01
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH = re.compile(rb"[\x80-\xff]")
BINARY = "binary content under the name of a text"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes become text; `note` says what is not plain UTF-8, empty where all is."""

    name: str
    errors: str = "strict"
    note: str = ""


def find_encoding(file: TextFile, *, is_html: bool = False) -> Encoding | Fault:
    """The encoding of a file, or why it cannot be read as text.

    Raises:
        DamagedFileError: Where an archive is damaged.
    """
    head = next(file.blocks(), b"")
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name) if name == "utf-8-sig" else Encoding(name, "replace", f"read as {name.upper()}")
    if b"\0" in head:
        return _with_zeros(head)
    failing = _first_failure(file)
    if failing is None:
        return Encoding("utf-8")
    num_right = len(_MULTIBYTE.findall(failing))
    num_wrong = len(_HIGH.findall(_MULTIBYTE.sub(b"", failing)))
    if num_right and num_right >= _MOSTLY * (num_right + num_wrong):
        return Encoding("utf-8", "replace", "broken characters of UTF-8 read as U+FFFD")
    declared = _declared(head) if is_html else ""
    name = declared or _guess(failing)
    if not name:
        return Fault("unknown encoding", "its bytes are of no known encoding", "convert it with iconv -t utf-8")
    return Encoding(name, "replace", f"read as {name}, which {'it declares' if declared else 'is a guess'}")


def text_pieces(file: TextFile, encoding: Encoding) -> Iterator[str]:
    r"""The text in order, in pieces that never end between `\r` and `\n`; without the byte order mark."""
    decoder = codecs.getincrementaldecoder(encoding.name)(encoding.errors)
    held = ""
    for block in file.blocks():
        piece = held + decoder.decode(block)
        held = "\r" if piece.endswith("\r") else ""
        if piece := piece.removesuffix("\r") if held else piece:
            yield piece
    if piece := held + decoder.decode(b"", final=True):
        yield piece


def _with_zeros(head: bytes) -> Encoding | Fault:
    """Zeros are half of the bytes of UTF-16 in Latin letters, and a sign of binary data elsewhere."""
    sample = head[: _SAMPLE_BYTES - _SAMPLE_BYTES % 2]
    half = max(len(sample) // 2, 1)
    for name, offset in (("utf-16-le", 1), ("utf-16-be", 0)):
        if sample[offset::2].count(0) > 0.7 * half and sample[1 - offset :: 2].count(0) == 0:
            return Encoding(name, "replace", f"read as {name}, which is a guess")
    return Fault(BINARY, "holds zero bytes, so it is no text", "move it away")


def _first_failure(file: TextFile) -> bytes | None:
    """Bytes around the first that is not UTF-8; None where all are."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    held = b""
    for block in file.blocks():
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            start = max(error.start - _SAMPLE_BYTES // 2, 0)
            return bytes((error.object if isinstance(error.object, bytes) else block)[start : start + _SAMPLE_BYTES])
        held = block[-4:]
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return held
    return None


def _declared(head: bytes) -> str:
    match = _DECLARED.search(head[:_DECLARED_WITHIN])
    if not match:
        return ""
    name = (match[1] or match[2]).decode("ascii", "replace")
    try:
        known = codecs.lookup(name).name
    except LookupError:
        return ""
    # Browsers read Latin-1 as what it is in practice; a page that says UTF-8 and is not would have ended before.
    return "cp1252" if known in ("iso8859-1", "ascii") else "" if known.startswith("utf") else known


def _guess(sample: bytes) -> str:
    best = from_bytes(sample).best()
    if best is None:
        return ""
    others = [letter for letter in str(best) if letter > "\x7f" and letter.isalpha()]
    is_latin = all(unicodedata.name(letter, "").startswith("LATIN") for letter in others)
    # A few names in English text fit a dozen encodings, and then it is nearly always this one: of 31 such files of a
    # Debian system 26 were guessed as cp1250, cp775 and the like, and held "Bj\u00f6rn" or "Mu\u00f1oz".
    if is_latin and len(_HIGH.findall(sample)) < _FEW * len(sample):
        return "cp1252"
    return best.encoding
