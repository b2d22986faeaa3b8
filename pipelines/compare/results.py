"""What the evaluations left -> rows of a table, paired differences with intervals, and the row that dev chooses.

Everything is paired by query. A row's value of a query is the mean over its seeds; intervals are bootstrap intervals
over queries, and the deviation over seeds is given beside them.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float64

from components.evaluate.summary import verdict
from components.shared.manifest import open_artifact
from components.shared.measuring.statistics import compare
from pipelines.compare.arms import Arm
from pipelines.compare.planning import Cell

BM25, BASE, HYBRID = "BM25", "base", "hybrid(base)"
# Rows of the untrained systems, by their name in an evaluation.
_REFERENCES = {"bm25": BM25, "base": BASE, "hybrid_base": HYBRID}
_TRAINED = {"trained": "{}", "hybrid_trained": "hybrid({})"}


@dataclass(frozen=True)
class Row:
    """A system: what an arm has made, alone or fused with BM25. `values`: one row a seed, one column a query."""

    name: str
    arm: str
    is_fused: bool
    values: Float64[np.ndarray, "seed query"]

    @property
    def mean(self) -> float:
        """Over queries and seeds."""
        return float(self.values.mean())

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the seeds' means; None of one seed."""
        return float(self.values.mean(axis=1).std(ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Measured:
    """All rows of one split, and what its evaluation says of itself (metrics.json of the untrained arm)."""

    rows: Mapping[str, Row]
    metrics: Mapping[str, Any]


def read_rows(reference: Cell, cells: Sequence[Cell]) -> Measured:
    """The rows of one split: the untrained systems first, then two of each arm that trains.

    Raises:
        ValueError: Where an evaluation is not of the same queries.
    """
    metrics = orjson.loads((_folder(reference) / "metrics.json").read_bytes())
    measure = metrics["headline_measure"]
    untrained = _values(reference, measure)
    query_ids = list(untrained["base"])
    rows = {
        name: Row(name, name, system.startswith("hybrid"), _matrix([untrained[system]], query_ids, reference))
        for system, name in _REFERENCES.items()
    }
    for arm in dict.fromkeys(cell.arm for cell in cells):
        own = [cell for cell in cells if cell.arm == arm]
        tables = [_values(cell, measure) for cell in own]
        for system, pattern in _TRAINED.items():
            name = pattern.format(arm)
            matrix = _matrix([table[system] for table in tables], query_ids, *own)
            rows[name] = Row(name, arm, system.startswith("hybrid"), matrix)
    return Measured(rows, metrics)


def _folder(cell: Cell) -> Path:
    return open_artifact(str(cell.evaluation.config.output_uri))


def _values(cell: Cell, measure: str) -> dict[str, dict[str, float]]:
    """System -> query id -> value."""
    table: dict[str, dict[str, float]] = {}
    with (_folder(cell) / "per_query.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            table.setdefault(line["system"], {})[line["query_id"]] = float(line[measure])
    return table


def _matrix(
    columns: Sequence[Mapping[str, float]], query_ids: Sequence[str], *cells: Cell
) -> Float64[np.ndarray, "seed query"]:
    for cell, column in zip(cells, columns, strict=True):
        if column.keys() != set(query_ids):
            raise ValueError(
                f"{cell.evaluation.config.output_uri}: measures other queries than the untrained encoder's "
                "evaluation; arms are compared on the same queries only"
            )
    return np.array([[column[query_id] for query_id in query_ids] for column in columns])


def choose(measured: Measured) -> Row:
    """The row with the highest mean; of equal ones the first, which is the cheaper."""
    return max(measured.rows.values(), key=lambda row: row.mean)


def compared(measured: Measured, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The paired differences of pairs of rows, corrected for their number, with a verdict in a word."""
    metrics = measured.metrics
    wanted = [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1] and set(pair) <= measured.rows.keys()]
    if not wanted:
        return []
    _, comparisons = compare(
        {name: row.values.mean(axis=0)[:, None] for name, row in measured.rows.items()},
        measures=[metrics["headline_measure"]],
        pairs=wanted,
        num_resamples=metrics["num_resamples"],
        confidence=metrics["confidence"],
        seed=0,
    )
    rows = [asdict(comparison) for comparison in comparisons]
    return [row | {"verdict": verdict(row, confidence=metrics["confidence"])} for row in rows]


def against_references(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each row against the untrained encoder and against its fusion with BM25."""
    return [(name, reference) for name in names for reference in (BASE, HYBRID) if name != reference]


def ingredients(arms: Sequence[Arm]) -> list[tuple[str, str, str]]:
    """Ingredient, the row that has it and the row that lacks it: alone and fused, of every pair that arms declare."""
    present = {arm.name: arm for arm in arms}
    pairs = [(what, arm, present[other]) for arm in arms for other, what in arm.adds.items() if other in present]
    return [
        (what, row_of(arm, is_fused=is_fused), row_of(other, is_fused=is_fused))
        for what, arm, other in pairs
        for is_fused in ((False, True) if arm.trains and other.trains else (False,))
    ]


def row_of(arm: Arm, *, is_fused: bool) -> str:
    """Name of an arm's row."""
    if not arm.trains:
        return _REFERENCES[arm.system]
    return _TRAINED["hybrid_trained" if is_fused else "trained"].format(arm.name)
