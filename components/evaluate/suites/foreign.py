"""TREC run files: our own, of which the order is the ranking, and those made elsewhere, read as trec_eval reads them.

trec_eval ignores ranks and line order, keeps scores in 32 bits and breaks ties by descending passage id. So what is
measured here of such a file is what trec_eval measures of it, although our own runs know no ties.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from components.evaluate.runs import Search, trec_id
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.measuring.trec import run_lines
from components.shared.records import Hit, Query, RecordError


def foreign(uri: str, dataset: Dataset) -> Search:
    """A search that answers from a run file; a query that is not in it has no hits.

    Raises:
        ValueError: Naming the first line that is none of a run, or that no query of the dataset has hits.
    """
    runs = read_foreign(storage.fetch(uri), where=uri)
    if not any(trec_id(query.query_id) in runs for query in dataset.queries()):
        first = next(iter(runs), "none")
        raise ValueError(f"{uri}: no query of the dataset is in it (its first is {first!r}); name the run of this one")

    def search(queries: Sequence[Query], depth: int, _: list[set[str]]) -> list[list[Hit]]:
        rankings = [runs.get(trec_id(query.query_id), [])[:depth] for query in queries]
        return [[Hit(_original(hit.passage_id, dataset), hit.score) for hit in hits] for hits in rankings]

    return search


def read_foreign(path: Path, *, where: str = "") -> dict[str, list[Hit]]:
    """Hits of each query, best first, as trec_eval ranks them: by 32-bit score, then by descending passage id.

    Raises:
        RecordError: Naming the first line that is none of a run, or names a passage twice.
    """
    runs: dict[str, dict[str, float]] = {}
    for line_number, query_id, passage_id, score in run_lines(path, where=where):
        hits = runs.setdefault(query_id, {})
        if passage_id in hits:
            problem = f"passage {passage_id} twice for query {query_id}"
            raise RecordError(where or path, line_number, problem, "keep one line of them")
        hits[passage_id] = score
    return {query_id: _ranked(hits) for query_id, hits in runs.items()}


def _ranked(hits: dict[str, float]) -> list[Hit]:
    ranked = sorted(((score, passage_id) for passage_id, score in hits.items()), reverse=True)
    return [Hit(passage_id, score) for score, passage_id in ranked]


def iter_own(path: Path, dataset: Dataset) -> Iterator[tuple[str, dict[str, float]]]:
    """Query id and hits of each query of a run that was written here, in its order; memory holds one query's hits."""
    queries = {trec_id(query.query_id): query.query_id for query in dataset.queries()}
    for name, hits in iter_written(path):
        yield queries[name], {_original(passage_id, dataset): score for passage_id, score in hits.items()}


def iter_written(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """The same with the ids as the file has them; the lines of a query stand together."""
    with path.open(encoding="utf-8") as file:
        rows = (line.split(" ") for line in file)
        for name, lines in itertools.groupby(rows, key=lambda fields: fields[0]):
            yield name, {fields[2]: float(fields[4]) for fields in lines}


def _original(written: str, dataset: Dataset) -> str:
    """The passage id that a run file holds; white space stands in it percent-encoded."""
    if "%" not in written:
        return written
    try:
        dataset.row(written)
    except KeyError:
        return unquote(written)
    return written
