"""PDF -> blocks, by pypdf (extra `pdf`).

The source that offsets count in is the text of all pages as pypdf extracts it, with a form feed between two pages.
A page is read at a time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from components.prepare.documents.formats.blocks import Block, collapsed
from components.prepare.problems import Fault

_PARAGRAPH = re.compile(r"\S.*?(?=\n[ \t]*\n|\Z)", re.S)
# A word that a line end has cut, in the languages that cut words so.
_HYPHENATED = re.compile(r"(?<=[^\W\d_])-\n(?=[^\W\d_A-Z])")
# What broken files make pypdf raise beside its own errors.
_BROKEN = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, OSError, AssertionError)
REMEDY = "pip install 'retriever-pipeline[pdf]'"


def read_pdf(source: Path | BinaryIO) -> Iterator[Block | Fault]:
    """Paragraphs with their pages; the fault of a file that cannot be read ends them."""
    try:
        # Imported here: it is an extra, and a folder without PDF does not need it.
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError:
        yield Fault("PDF without its extra", "is a PDF, and pypdf is not installed", REMEDY)
        return
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(source)
        if reader.is_encrypted and not reader.decrypt(""):
            yield Fault("encrypted PDF", "wants a password", "save it without one")
            return
        title = collapsed(str(reader.metadata.title or "")) if reader.metadata else ""
        offset = 0
        for number, page in enumerate(reader.pages, start=1):
            text = page.extract_text()
            for match in _PARAGRAPH.finditer(text):
                raw = match[0].rstrip()
                start = offset + match.start()
                yield Block(
                    collapsed(_HYPHENATED.sub("", raw)),
                    start,
                    start + len(raw),
                    (title,) if title else (),
                    page=number,
                    source=raw,
                )
            offset += len(text) + 1
    except (PyPdfError, *_BROKEN) as error:
        yield Fault("broken PDF", f"pypdf cannot read it ({type(error).__name__}: {error})", "save it again")
