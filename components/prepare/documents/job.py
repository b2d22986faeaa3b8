"""The recipe for documents: find the files, read them part by part, look for repeats, then check the qrels.

An id of a passage is the path of its file and a hash of its content, so it stays when other files come or go. A record
that is one passage keeps its own id.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from components.prepare.beir import CORPUS_NAME, QUERIES_NAME
from components.prepare.collection import Collection, read_qrels, read_queries
from components.prepare.config import PrepareConfig
from components.prepare.documents.corpus import Corpus
from components.prepare.documents.parts import SIGNATURES_NAME, Part, Sizes, open_part, parted, read_part
from components.prepare.documents.walk import NO_READER, DocumentFile, LeftOut, find_documents, is_documents, suffix_of
from components.prepare.files import COMPRESSED_SUFFIXES
from components.prepare.layout import QRELS_FOLDER, find_qrels, find_queries
from components.prepare.problems import Problems
from components.shared import log
from components.shared.durable import storage
from components.shared.manifest import LOGS, ArtifactWriter

LEFT_OUT_NAME = f"{LOGS}left_out.tsv"
_NAMED_A_KIND, _NAMED_SUFFIXES = 3, 12


def documents_folder(collection_uri: str) -> Path | None:
    """The local folder of a collection that is documents; None where it is in BEIR layout or holds no document."""
    if storage.is_remote(collection_uri):
        names = (f"{collection_uri.rstrip('/')}/{CORPUS_NAME}{suffix}" for suffix in ("", *COMPRESSED_SUFFIXES))
        if not storage.exists(collection_uri) or any(map(storage.exists, names)):
            return None
        folder = storage.fetch(collection_uri)
    else:
        folder = Path(collection_uri)
    return folder if is_documents(folder) else None


def read_documents(config: PrepareConfig, folder: Path, artifact: ArtifactWriter) -> Collection:
    """The passages of a folder of documents, with the queries and qrels that may lie beside them.

    Raises:
        ValueError: Naming what cannot be read.
    """
    problems = Problems(config.collection_uri, max_reported=config.max_reported)
    query_files, qrels_files = find_queries(folder, problems), find_qrels(folder, problems)
    if qrels_files and not query_files:
        problems.add_file(QUERIES_NAME, "is missing", f"write it, or move {QRELS_FOLDER} away")
    problems.refuse_files()
    notes: Counter[str] = Counter()
    queries = read_queries(query_files, notes, problems)
    judgements = read_qrels(qrels_files, queries, problems)
    walk = find_documents(folder)
    groups = parted(walk.documents)
    sizes = Sizes(config.cut_tokens, config.cut_overlap_tokens)
    parts = _read(groups, artifact.scratch / "parts", sizes, num_processes=config.processes or os.cpu_count() or 1)
    corpus = Corpus(parts, groups, drops_same=config.duplicates == "drop")
    for part in parts:
        notes.update(part.findings.notes)
    corpus.name_problems(problems)
    rows = corpus.judged(judgements, problems)
    if not corpus.num_passages:
        problems.add_file("", "no document here has anything to read", "add text, Markdown, HTML or JSON with texts")
    problems.settle(config.on_problem)
    metrics = corpus.metrics(artifact.scratch / SIGNATURES_NAME, min_documents=config.boilerplate_documents)
    metrics |= {"num_skipped": problems.skipped.total(), "skipped": dict(problems.skipped)}
    log.event("documents", **metrics)
    metrics |= _say_left_out([*walk.left_out, *corpus.left_out()], artifact.path / LEFT_OUT_NAME)
    if not queries:
        log.warning(
            f"there are no queries: {QUERIES_NAME} beside the documents would hold them; without any, passages can be "
            "indexed and searched, and nothing can be trained or measured"
        )
    return Collection(corpus.passages, corpus.sample(), queries, judgements, rows, metrics, notes)


def _read(groups: Sequence[Sequence[DocumentFile]], folder: Path, sizes: Sizes, *, num_processes: int) -> list[Part]:
    folder.mkdir(exist_ok=True)
    folders = [folder / f"{number:06}" for number in range(len(groups))]
    num_done = sum(len(group) for place, group in zip(folders, groups, strict=True) if place.exists())
    work = [(place, group) for place, group in zip(folders, groups, strict=True) if not place.exists()]
    with log.Progress("reading documents", total=sum(map(len, groups)), unit="files", done=num_done) as bar:
        if num_processes == 1 or len(work) < 2:
            for place, group in work:
                read_part(place, group, sizes)
                bar.add(len(group))
        else:
            # Spawned: a fork of a process whose libraries run threads can hang.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(num_processes, len(work)), mp_context=context) as pool:
                waiting = {pool.submit(read_part, place, group, sizes): len(group) for place, group in work}
                for finished in as_completed(waiting):
                    finished.result()
                    bar.add(waiting[finished])
    return [open_part(place) for place in folders]


def _say_left_out(left_out: Sequence[LeftOut], path: Path) -> dict[str, Any]:
    """Writes the name and reason of every file that is not read; logs the first names of each kind."""
    path.parent.mkdir(exist_ok=True)
    lines = sorted(f"{entry.name}\t{entry.kind}\n" for entry in left_out)
    path.write_text("".join(lines), "utf-8")
    counts = Counter(entry.kind for entry in left_out)
    suffixes = Counter(suffix_of(entry.name) for entry in left_out if entry.kind == NO_READER)
    if left_out:
        first: dict[str, list[str]] = {}
        for entry in left_out:
            if len(names := first.setdefault(entry.kind, [])) < _NAMED_A_KIND:
                names.append(entry.name)
        log.warning(
            "files left out, because there is nothing in them to read as a document",
            by_kind=dict(counts),
            first=first,
            no_reader_for=dict(suffixes.most_common(_NAMED_SUFFIXES)),
            all=LEFT_OUT_NAME,
        )
    return {"num_left_out": len(left_out), "left_out": dict(counts)}
