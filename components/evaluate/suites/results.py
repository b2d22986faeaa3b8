"""What the systems are worth on one collection: values of each query, first hits, and what the search cost."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ir_measures import Measure
from jaxtyping import Int64

from components.evaluate.judgements import Judgements
from components.evaluate.measures import JUDGED, Values, curve_measures, parse_measures, per_query
from components.evaluate.suites.foreign import iter_own
from components.evaluate.suites.suite import Collection, Suite
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.measuring.statistics import Topics, number_topics

# Hits of each query that the page can show.
SHOWN_HITS = 5
Frequencies = Int64[np.ndarray, " query"]
_BLOCK_QUERIES = 1024
_COUNT = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Measured:
    """One system on one collection.

    Attributes:
        values: A row for each judged query, a column for each measure, then the recall curve's, then the share judged.
        top: First hits of each judged query.
        num_without_hits: Judged queries for which nothing was retrieved.
        num_self_matches: Hits left out because they are the query itself.
        latency: Milliseconds of single queries; empty for a run that was made elsewhere.
    """

    values: Values
    top: Mapping[str, tuple[str, ...]]
    num_without_hits: int
    num_self_matches: int
    latency: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """All systems on one collection; the rows of all values are `query_ids`."""

    collection: Collection
    dataset: Dataset
    judgements: Judgements
    query_ids: tuple[str, ...]
    topics: Topics | None
    frequencies: Frequencies | None
    measures: tuple[Measure, ...]
    curve: tuple[Measure, ...]
    num_unjudged: int
    systems: dict[str, Measured] = field(default_factory=dict)

    def primary(self, system: str) -> np.ndarray:
        """Values of the first measure."""
        return self.systems[system].values[:, 0]


def open_results(
    suite: Suite, collection: Collection, dataset: Dataset, judgements: Judgements, *, num_queries: int
) -> Results:
    """The results of a collection before any system is measured.

    Raises:
        ValueError: Where the file of topics or of frequencies does not cover the judged queries.
    """
    query_ids = tuple(query.query_id for query in dataset.queries() if query.query_id in judgements.grades)
    return Results(
        collection=collection,
        dataset=dataset,
        judgements=judgements,
        query_ids=query_ids,
        topics=_read_topics(collection.topics, query_ids) if collection.topics else None,
        frequencies=_read_frequencies(collection.frequencies, query_ids) if collection.frequencies else None,
        measures=tuple(parse_measures(suite.measures, min_grade=collection.min_grade)),
        curve=tuple(curve_measures(depth=min(suite.depth, dataset.num_passages), min_grade=collection.min_grade)),
        num_unjudged=num_queries - len(query_ids),
    )


def measure_run(
    results: Results, path: Path, *, num_self_matches: int = 0, latency: Mapping[str, Any] | None = None
) -> Measured:
    """The values of a run that was written here; a judged query that is not in it scores 0."""
    columns = [*results.measures, *results.curve, JUDGED]
    rows = {query_id: row for row, query_id in enumerate(results.query_ids)}
    values = np.zeros((len(rows), len(columns)))
    top: dict[str, tuple[str, ...]] = {}
    judged = ((query_id, run) for query_id, run in iter_own(path, results.dataset) if query_id in rows)
    while block := dict(itertools.islice(judged, _BLOCK_QUERIES)):
        measured = per_query(block, grades=results.judgements.grades, measures=columns)
        values[[rows[query_id] for query_id in block]] = measured
        top.update({query_id: tuple(run)[:SHOWN_HITS] for query_id, run in block.items()})
    return Measured(values, top, len(rows) - len(top), num_self_matches, latency or {})


def _read_topics(uri: str, query_ids: Sequence[str]) -> Topics | None:
    return number_topics(_read_column(uri, query_ids, "topic"))


def _read_frequencies(uri: str, query_ids: Sequence[str]) -> Frequencies:
    values = _read_column(uri, query_ids, "frequency")
    for query_id, value in zip(query_ids, values, strict=True):
        if not _COUNT.fullmatch(value):
            raise ValueError(f"{uri}: query {query_id!r} has the frequency {value!r}; write a whole number from 0 on")
    return np.array(values, dtype=np.int64)


def _read_column(uri: str, query_ids: Sequence[str], what: str) -> list[str]:
    """What a file of query ids and values says of each judged query."""
    values: dict[str, str] = {}
    for number, line in enumerate(storage.read_bytes(uri).decode().splitlines(), start=1):
        query_id, tab, value = line.partition("\t")
        if not tab:
            raise ValueError(f"{uri}:{number}: not a query id and a {what} with a tab between them")
        values[query_id] = value.strip()
    if missing := [query_id for query_id in query_ids if query_id not in values]:
        raise ValueError(f"{uri}: {len(missing)} judged queries have no {what}, such as {missing[0]!r}; give each one")
    return [values[query_id] for query_id in query_ids]
