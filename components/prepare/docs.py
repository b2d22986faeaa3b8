"""Documentation of installed Python packages -> a collection in BEIR layout.

It is the demo's corpus, and an example of the format.

A passage is the docstring of a public object without its summary line; a query is the summary line a person wrote for
it; the qrels are the object itself (grade 2) and the objects of its See Also section (grade 1). The object's name is
the passage id and not its title: with it all-MiniLM-L6-v2 ranks by the name (nDCG@10 on the held-out queries 0.83
instead of 0.70, of 1,500 passages) and little is left to learn from the text.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import orjson

from components.prepare.beir import CORPUS_NAME, QRELS_HEADER, QUERIES_NAME
from components.prepare.config import DocsConfig
from components.prepare.docstring import split_docstring
from components.prepare.sources import STDLIB, DocumentedObject, find_modules, read_objects
from components.shared import log
from components.shared.dataset import SPLITS
from components.shared.launch import launch
from components.shared.manifest import artifact_writer
from components.shared.splits import hash_split

# A summary below 4 words ("The name.") asks nothing; a body below 12 ("Override this.") answers nothing.
MIN_SUMMARY_WORDS, MAX_SUMMARY_WORDS, MIN_BODY_WORDS = 4, 40, 12
# About 128 tokens: what is cut off is mostly the description of further parameters.
MAX_BODY_WORDS = 80
OWN_GRADE, SEE_ALSO_GRADE = 2, 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A documented object that can be a passage, and a query."""

    name: str
    module: str
    summary: str
    body: str
    see_also: tuple[str, ...]


def collect_docs(config: DocsConfig, search_path: Sequence[str] | None = None) -> None:
    """Writes the collection of a config; the same installed packages give the same bytes.

    A collection that is finished stays as it is when packages are upgraded (their versions are in its manifest): qrels
    and corpus then still agree. Delete it to collect anew.

    Args:
        config: What is collected, how much of it, and where it goes.
        search_path: Folders the packages are looked for in; default is this interpreter's.

    Raises:
        ValueError: Where a package has no sources here, or the packages hold too little to choose from.
    """
    entries = usable_entries(_documented(config.packages.split(), search_path))
    related = resolve_see_also(entries)
    asked, kept = _draw(entries, related, config)
    with artifact_writer("prepare.docs", config) as artifact:
        _write(artifact.path, [entries[name] for name in asked], [entries[name] for name in kept], related)
        artifact.metrics |= {
            "num_passages": len(kept),
            "num_queries": len(asked),
            "num_documented_objects": len(entries),
            "versions": _versions(config.packages.split()),
        }


def usable_entries(objects: Iterable[DocumentedObject]) -> dict[str, Entry]:
    """Entries by name, in order: summary and body are long enough, no two alike, and no summary says the name."""
    entries: dict[str, Entry] = {}
    for documented in objects:
        parts = split_docstring(documented.docstring)
        body = " ".join(parts.body.split()[:MAX_BODY_WORDS])
        entry = Entry(documented.name, documented.module, parts.summary, body, parts.see_also)
        entries.setdefault(documented.name, entry)
    summaries = Counter(_normalised(entry.summary) for entry in entries.values())
    bodies: set[str] = set()
    usable = {}
    for name, entry in entries.items():
        body = _normalised(entry.body)
        if _is_usable(entry) and summaries[_normalised(entry.summary)] == 1 and body not in bodies:
            bodies.add(body)
            usable[name] = entry
    return usable


def resolve_see_also(entries: Mapping[str, Entry]) -> dict[str, list[str]]:
    """For every entry the entries that its See Also section names.

    A name is looked for in the entry's class and module, then it is the only one of its package that is called so.
    """
    by_last: dict[tuple[str, str], list[str]] = {}
    for name in entries:
        by_last.setdefault((_top(name), _last(name)), []).append(name)
    related = {}
    for name, entry in entries.items():
        resolved = (_resolve(reference, entry, entries, by_last) for reference in entry.see_also)
        related[name] = [other for other in dict.fromkeys(resolved) if other and other != name]
    return related


def _resolve(
    reference: str, entry: Entry, entries: Mapping[str, Entry], by_last: Mapping[tuple[str, str], list[str]]
) -> str | None:
    for prefix in (entry.name.rpartition(".")[0], entry.module, _top(entry.name)):
        if (name := f"{prefix}.{reference}") in entries:
            return name
    if reference in entries:
        return reference
    candidates = by_last.get((_top(entry.name), _last(reference)), [])
    return candidates[0] if len(candidates) == 1 else None


def _draw(
    entries: Mapping[str, Entry], related: Mapping[str, Sequence[str]], config: DocsConfig
) -> tuple[list[str], list[str]]:
    """Names that ask, and names that are kept: those that ask, those in their See Also, and others drawn to fill up."""
    if len(entries) < config.num_queries or config.num_passages < config.num_queries:
        raise ValueError(
            f"{config.packages}: {len(entries)} documented objects can be used, {config.num_queries} queries and "
            f"{config.num_passages} passages are wanted; "
            "name more --packages, or lower --num-queries (at most --num-passages)"
        )
    order = sorted(entries, key=lambda name: hashlib.sha256(f"{config.seed}:{name}".encode()).digest())
    asked = order[: config.num_queries]
    if len(entries) < config.num_passages:
        log.warning(
            "fewer passages than wanted: all that can be used are kept",
            num_passages=len(entries),
            wanted=config.num_passages,
        )
    wanted = [*asked, *(name for asking in asked for name in related[asking]), *order[config.num_queries :]]
    return sorted(asked), sorted(list(dict.fromkeys(wanted))[: config.num_passages])


def _write(folder: Path, asked: Sequence[Entry], kept: Sequence[Entry], related: Mapping[str, Sequence[str]]) -> None:
    kept_names = {entry.name for entry in kept}
    passages = [{"_id": entry.name, "title": "", "text": entry.body} for entry in kept]
    queries = [{"_id": f"how-{entry.name}", "text": entry.summary} for entry in asked]
    (folder / CORPUS_NAME).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in passages))
    (folder / QUERIES_NAME).write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in queries))
    (folder / "qrels").mkdir(exist_ok=True)
    rows = {split: [QRELS_HEADER] for split in SPLITS}
    for entry in asked:
        query_id = f"how-{entry.name}"
        grades = {entry.name: OWN_GRADE} | {name: SEE_ALSO_GRADE for name in related[entry.name] if name in kept_names}
        rows[hash_split(query_id)] += [f"{query_id}\t{name}\t{grade}" for name, grade in grades.items()]
    for split, lines in rows.items():
        (folder / "qrels" / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines))


def _documented(packages: Sequence[str], search_path: Sequence[str] | None) -> Iterable[DocumentedObject]:
    for package in packages:
        modules = find_modules(package, search_path)
        yield from read_objects(log.progress(modules, f"reading {package}", total=len(modules), unit="modules"))


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {STDLIB: platform.python_version()} if STDLIB in packages else {}
    for name in sorted({_top(package) for package in packages} - {STDLIB}):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # sources without a distribution, such as a folder on the search path
    return versions


def _is_usable(entry: Entry) -> bool:
    num_words = len(entry.summary.split())
    if not MIN_SUMMARY_WORDS <= num_words <= MAX_SUMMARY_WORDS or len(entry.body.split()) < MIN_BODY_WORDS:
        return False
    return _last(entry.name).lower() not in re.findall(r"\w+", entry.summary.lower())


def _normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _top(name: str) -> str:
    return name.partition(".")[0]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


if __name__ == "__main__":
    launch("prepare.docs", DocsConfig, collect_docs)
