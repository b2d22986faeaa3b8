"""Which files of a folder are documents, in which format, and why each of the others is left out.

Nothing is left out in silence: every file is either in the list of documents or in that of what is left out. Links are
followed, to folders too, unless what they lead to is read anyway: so no text is there twice, and no circle is endless.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.prepare.beir import CORPUS_NAME, QUERIES_NAME, UNLABELED_NAME
from components.prepare.files import COMPRESSED_SUFFIXES
from components.prepare.layout import QRELS_FOLDER
from components.shared.durable import storage

Format = Literal["text", "markdown", "rst", "html", "pdf", "records"]

FORMATS: dict[str, Format] = {
    **dict.fromkeys((".txt", ".text"), "text"),
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "markdown"),
    **dict.fromkeys((".rst", ".rest"), "rst"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "records"),
}
# Files that are documents by custom, although their names have no suffix.
_CUSTOMARY = frozenset(
    {"authors", "bugs", "changelog", "changes", "contributing", "copying", "copyright", "credits", "faq"}
    | {"hacking", "history", "install", "license", "licence", "news", "notice", "readme", "thanks", "todo"}
)
# Folders that tools fill and nobody reads.
_NOISE = frozenset({"node_modules", "bower_components", "__pycache__", "__macosx"})
_VENV_NAME = "pyvenv.cfg"
HIDDEN, NOISE, NO_READER, LINK, BROKEN_LINK, SPECIAL = (
    "hidden",
    "folder that tools fill",
    "no reader for this kind of file",
    "link to what is read anyway",
    "link to nothing",
    "no regular file",
)


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A file that is read; `name` is its path below the folder, with slashes."""

    path: Path
    name: str
    format: Format

    @property
    def stem(self) -> str:
        """The name without folders and suffixes: the title of a document that has none."""
        last = self.name.rpartition("/")[2]
        return _without_compression(last).split(".", 1)[0] or last


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that is not read, and why; `kind` is what it is counted under."""

    name: str
    kind: str


@dataclass(frozen=True)
class Walk:
    """What a folder holds: documents in the order of their names, and everything else."""

    documents: tuple[DocumentFile, ...]
    left_out: tuple[LeftOut, ...]


def is_documents(folder: Path) -> bool:
    """Whether a folder is read as documents: it holds some, and no corpus of BEIR layout."""
    names = (f"{CORPUS_NAME}{suffix}" for suffix in ("", *COMPRESSED_SUFFIXES))
    if not folder.is_dir() or any((folder / name).exists() for name in names):
        return False
    return any(isinstance(entry, DocumentFile) for entry in _entries(folder))


def find_documents(folder: Path) -> Walk:
    """Looks at every entry of the folder and the folders below it."""
    documents, left_out = [], []
    for entry in _entries(folder):
        if isinstance(entry, DocumentFile):
            documents.append(entry)
        else:
            left_out.append(entry)
    present = {os.path.realpath(document.path) for document in documents if not document.path.is_symlink()}
    kept = []
    for document in documents:
        if document.path.is_symlink():
            target = os.path.realpath(document.path)
            if target in present:
                left_out.append(LeftOut(document.name, LINK))
                continue
            present.add(target)
        kept.append(document)
    return Walk(
        tuple(sorted(kept, key=lambda document: document.name.split("/"))),
        tuple(sorted(left_out, key=lambda entry: entry.name)),
    )


def readable_name(path: Path, folder: Path) -> str:
    """The path below the folder; bytes that are no UTF-8 become U+FFFD."""
    return path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _entries(folder: Path) -> Iterator[DocumentFile | LeftOut]:
    # Folders by themselves first, then behind links, in the order of their names: what is read does not depend on the
    # order in which a disk lists them.
    root, waiting, links, entered = os.path.realpath(folder), [folder], list[Path](), set[str]()
    while waiting or links:
        if not waiting:
            links.sort(reverse=True)
            waiting.append(links.pop())
        current = waiting.pop()
        target = os.path.realpath(current)
        if target in entered or (current != folder and storage.is_around(target, root)):
            yield LeftOut(readable_name(current, folder), LINK)
            continue
        entered.add(target)
        for path in sorted(current.iterdir()):
            name = readable_name(path, folder)
            if current == folder and _is_of_queries(path):
                continue
            if kind := _refused(path):
                yield LeftOut(name, kind)
            elif path.is_dir():
                (links if path.is_symlink() else waiting).append(path)
            elif found_format := _format(path.name):
                yield DocumentFile(path, name, found_format)
            else:
                yield LeftOut(name, NO_READER)


def _is_of_queries(path: Path) -> bool:
    """Queries and qrels lie beside the documents under the names of BEIR layout."""
    if path.is_dir():
        return path.name == QRELS_FOLDER
    return _without_compression(path.name) in (QUERIES_NAME, UNLABELED_NAME)


def _refused(path: Path) -> str:
    if path.name.startswith("."):
        return HIDDEN
    if path.is_symlink() and not path.exists():
        return BROKEN_LINK
    if path.is_dir():
        return NOISE if path.name.lower() in _NOISE or (path / _VENV_NAME).exists() else ""
    return "" if path.is_file() else SPECIAL


def _format(name: str) -> Format | None:
    bare = _without_compression(name)
    first, _, rest = bare.partition(".")
    # README and readme, and README.Debian; but news.py is a program.
    is_customary = first.lower() in _CUSTOMARY and (not rest or (first.isupper() and rest.isalpha()))
    return FORMATS.get(Path(bare).suffix.lower()) or ("text" if is_customary else None)


def suffix_of(name: str) -> str:
    """What a file's name ends with behind its last dot, small, without what says that it is compressed."""
    return Path(_without_compression(name)).suffix.lower()


def _without_compression(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in COMPRESSED_SUFFIXES if name.endswith(suffix)), name)
