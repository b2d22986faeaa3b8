"""Runs as TREC files: query id, Q0, passage id, rank, score, system.

A ranking is read as trec_eval reads it: by descending score in 32 bits, whatever the ranks say, and equal scores by
descending passage id. White space, which separates fields, is percent-encoded in an id.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from components.shared.dataset import Dataset
from components.shared.records import RecordError

_NUM_FIELDS = 6
_REMEDY = "name a run of this dataset, or the dataset of this run"


def read_top(path: Path, dataset: Dataset, *, query_ids: Collection[str], depth: int) -> dict[str, tuple[str, ...]]:
    """The first passages of a run for these queries, best first; a query that the run does not have is left out.

    Raises:
        RecordError: Where a line is no line of a run, or names a query or one of these passages that the dataset does
            not hold.
        ValueError: Where the run has none of these queries.
    """
    splits = dataset.splits
    hits: dict[str, list[tuple[float, str, int]]] = {}
    for line_number, query_field, passage_field, score in run_lines(path):
        query_id = query_field if query_field in splits else unquote(query_field)
        if query_id not in splits:
            problem = f"query {query_field!r} is not in the dataset ({dataset.folder})"
            raise RecordError(path, line_number, problem, _REMEDY)
        if query_id in query_ids:
            hits.setdefault(query_id, []).append((score, passage_field, line_number))
    if not hits:
        raise ValueError(
            f"{path}: has none of the {len(query_ids)} queries that are asked for, such as {min(query_ids)!r}; "
            f"{_REMEDY}"
        )
    return {query_id: _best(path, dataset, query_id, ranked, depth) for query_id, ranked in hits.items()}


def run_lines(path: Path, *, where: str = "") -> Iterator[tuple[int, str, str, float]]:
    """Number, query, passage and score (of 32 bits) of each line of a run that is not empty, ids as the file has them.

    Raises:
        RecordError: Where a line is none of a run; it names `where` in place of the path where that is given.
    """
    with path.open(encoding="utf-8") as file:
        for line_number, line in enumerate(file, start=1):
            fields = line.split()
            if not fields:
                continue
            try:
                if len(fields) != _NUM_FIELDS:
                    raise ValueError(f"{len(fields)} fields")
                score = float(np.float32(fields[4]))
                if math.isnan(score):
                    raise ValueError("a score that is no number")
            except ValueError as error:
                wanted = "query id, Q0, passage id, rank, score, system"
                problem = f"no line of a TREC run ({error}; wanted are six: {wanted})"
                raise RecordError(where or path, line_number, problem, "write the run again") from error
            yield line_number, fields[0], fields[2], score


def _best(
    path: Path, dataset: Dataset, query_id: str, ranked: list[tuple[float, str, int]], depth: int
) -> tuple[str, ...]:
    ranked.sort(reverse=True)
    passage_ids = []
    for _, passage_field, line_number in ranked[:depth]:
        passage_id = _passage_id(dataset, passage_field)
        if passage_id is None:
            problem = f"passage {passage_field!r} is not in the corpus ({dataset.folder})"
            raise RecordError(path, line_number, problem, _REMEDY)
        passage_ids.append(passage_id)
    if len(set(passage_ids)) != len(passage_ids):
        raise RecordError(path, ranked[0][2], f"query {query_id!r} has a passage twice", "write the run again")
    return tuple(passage_ids)


def _passage_id(dataset: Dataset, passage_field: str) -> str | None:
    """The id of a field; percent-encoded white space is read as what it stands for where the id as it is is none."""
    for name in (passage_field, unquote(passage_field)):
        try:
            dataset.row(name)
        except KeyError:
            continue
        return name
    return None
