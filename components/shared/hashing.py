"""The one place where things get their digests: files, values, lines of a listing.

Everything is sha256 in hexadecimal, so two digests can be compared wherever they were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import orjson

_BLOCK_BYTES = 1 << 20


def file_digest(path: Path) -> str:
    """Of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def text_digest(text: str | bytes) -> str:
    """Of a text's UTF-8 bytes, or of bytes; a file's name that is no UTF-8 counts with its own bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text).hexdigest()


def lines_digest(lines: Iterable[str]) -> str:
    """Of lines in their order, such as the names and digests of a folder's files."""
    return text_digest("\n".join(lines))


def content_key(*parts: object) -> str:
    """Of the JSON of the parts, keys sorted: equal values have equal keys on every machine."""
    return text_digest(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS))
