"""Which files a collection has, and what form each has, before a line is read.

A file may be compressed (corpus.jsonl.gz). Qrels are named for their split, or there is one file that is not split.
What people often have in the place of a file, such as the queries.tsv of MS MARCO, is named with a way to convert it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from components.prepare.beir import CORPUS_NAME, QUERIES_NAME, UNLABELED_NAME
from components.prepare.files import COMPRESSED_SUFFIXES, TextFile, check_encoding, check_json_lines, find_file
from components.prepare.labels.qrels import QrelsLayout, read_layout
from components.prepare.problems import Fault, Problems
from components.shared.dataset import SPLITS
from components.shared.durable import storage
from components.shared.manifest import is_artifact, open_artifact

QRELS_FOLDER = "qrels"
_UNSPLIT_NAME = "all"
_QRELS_SUFFIXES = (".tsv", ".txt", ".csv", ".qrels", ".qrel", ".trec")
# What people have instead of a file of this layout.
_INSTEAD = {
    CORPUS_NAME: ("corpus", "collection", "documents", "docs", "passages"),
    QUERIES_NAME: ("queries", "topics", "questions"),
}


QrelsFiles: TypeAlias = tuple[tuple[TextFile, QrelsLayout, str], ...]


@dataclass(frozen=True)
class Layout:
    """The files of a collection; `qrels` gives of each file its split, '' where its queries are split by hash.

    There are no files of queries where the collection is a corpus and nothing else.
    """

    folder: Path
    corpus: TextFile
    queries: tuple[TextFile, ...]
    qrels: QrelsFiles
    notes: Counter[str] = field(default_factory=Counter)

    def count_blank_lines(self) -> int:
        """Blank lines of all files in their last reading."""
        return sum(file.num_blank for file in (self.corpus, *self.queries, *(file for file, _, _ in self.qrels)))


def find_layout(collection_uri: str, problems: Problems) -> Layout:
    """The files of a collection, each with the form it must have before a line is read.

    Raises:
        ValueError: Where the collection is not a folder, is an artifact that was changed, or lacks a file.
    """
    if not storage.exists(collection_uri):
        raise ValueError(
            f"{collection_uri}: nothing here; name a folder with {CORPUS_NAME}, {QUERIES_NAME} and, if there is one, "
            "qrels/"
        )
    folder = open_artifact(collection_uri) if is_artifact(collection_uri) else storage.fetch(collection_uri)
    if not folder.is_dir():
        raise ValueError(f"{collection_uri}: is a file; name the folder that holds {CORPUS_NAME} and {QUERIES_NAME}")
    corpus = _find_lines(folder, CORPUS_NAME, problems)
    # A corpus alone is a collection too: an LLM can write the queries (ask).
    is_alone = not _instead(folder, QUERIES_NAME) and not any(folder.glob("qrels*"))
    queries = _find_lines(folder, QUERIES_NAME, problems, is_needed=not is_alone)
    unlabeled = _checked(find_file(folder, UNLABELED_NAME, problems), problems)
    qrels = find_qrels(folder, problems)
    problems.refuse_files()
    assert corpus is not None
    return Layout(folder, corpus, tuple(file for file in (queries, unlabeled) if file), qrels)


def find_queries(folder: Path, problems: Problems) -> tuple[TextFile, ...]:
    """The query files of a folder where it may have none."""
    names = (QUERIES_NAME, UNLABELED_NAME)
    files = [_checked(find_file(folder, name, problems), problems) for name in names]
    return tuple(file for file in files if file is not None)


def find_qrels(folder: Path, problems: Problems) -> QrelsFiles:
    """The qrels files of a folder, each with its form and its split."""
    return tuple(_find_qrels(folder, problems))


def _find_lines(folder: Path, name: str, problems: Problems, *, is_needed: bool = True) -> TextFile | None:
    file = find_file(folder, name, problems)
    if file is None and not is_needed:
        return None
    if file is None:
        problems.add_file(name, "is missing", _hint(folder, name))
    return _checked(file, problems)


def _checked(file: TextFile | None, problems: Problems) -> TextFile | None:
    if file is not None and check_encoding(file, problems):
        check_json_lines(file, problems)
    return file


def _instead(folder: Path, name: str) -> list[str]:
    """Files that stand where one of this name is looked for."""
    names = sorted(path.name for path in folder.iterdir() if path.name.split(".", 1)[0] in _INSTEAD[name])
    return [other for other in names if other != UNLABELED_NAME]


def _hint(folder: Path, name: str) -> str:
    """What to do where a file is missing: convert what stands in its place."""
    others = _instead(folder, name)
    if not others:
        return "write it, one JSON object a line"
    if others[0].endswith(".tsv"):
        script = 'split("\\t") | {_id: .[0], text: .[1]}'
        return f"{others[0]} is there: convert it, for example with jq -Rc '{script}' {others[0]} > {name}"
    return f"{others[0]} is there: convert it"


def _find_qrels(folder: Path, problems: Problems) -> Iterator[tuple[TextFile, QrelsLayout, str]]:
    for name, split in _qrels_names(folder, problems).items():
        file = TextFile(folder / name, name)
        if not check_encoding(file, problems):
            continue
        first = next(file.lines(), None)
        if first is None:
            problems.add_file(name, "is empty", "write its rows, or delete it")
            continue
        columns = read_layout(first[2])
        if isinstance(columns, Fault):
            problems.add_file(f"{name}:{first[0]}", columns.problem, columns.remedy)
        else:
            yield file, columns, split


def _qrels_names(folder: Path, problems: Problems) -> Mapping[str, str]:
    """The split of each qrels file, '' for none.

    Held-out files come first: where a query stands in two splits and bad lines are skipped, it stays held out.
    """
    paths = sorted((folder / QRELS_FOLDER).glob("[!.]*"))
    if not paths:
        for path in sorted(path for path in folder.glob("qrels*") if path.is_file()):
            remedy = f"move it to {QRELS_FOLDER}/test.tsv, or to {QRELS_FOLDER}/all.tsv to have it split"
            problems.add_file(path.name, f"is not in the folder {QRELS_FOLDER}", remedy)
        return {}
    by_stem: dict[str, list[str]] = {}
    for path in paths:
        by_stem.setdefault(_stem(path.name), []).append(f"{QRELS_FOLDER}/{path.name}")
    for names in by_stem.values():
        if len(names) > 1:
            problems.add_file(names[0], f"stands beside {names[1]}", "move one of the two away")
    given = {by_stem[split][0]: split for split in reversed(SPLITS) if split in by_stem}
    others = [stem for stem in by_stem if stem not in (*SPLITS, _UNSPLIT_NAME)]
    if not given and len(by_stem) == 1 and (others == [] or "." not in others[0]):
        return {names[0]: "" for names in by_stem.values()}
    for stem in others:
        remedy = "rename it to train.tsv, dev.tsv, test.tsv or all.tsv (not split), or move it away"
        problems.add_file(by_stem[stem][0], "is not the name of a split", remedy)
    return given


def _stem(name: str) -> str:
    """The name without what says that it is compressed and a table."""
    for suffixes in (COMPRESSED_SUFFIXES, _QRELS_SUFFIXES):
        name = next((name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix)), name)
    return name
