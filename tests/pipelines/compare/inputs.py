"""Cells whose evaluations are written by hand, and the content of a page of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from components.evaluate.config import EvaluateConfig
from components.shared.manifest import artifact_writer
from pipelines.compare.content import Split
from pipelines.compare.planning import Cell
from pipelines.local import LocalStep

METRICS: dict[str, Any] = {
    "headline_measure": "nDCG@10",
    "num_resamples": 500,
    "confidence": 0.95,
    "num_passages": 30,
    "judge": {"kind": "human"},
}


def evaluation(folder: Path, values: Mapping[str, Sequence[float]], **changes: object) -> LocalStep:
    """An evaluation's artifact: the values of each system, query by query."""
    config = EvaluateConfig(
        dataset_uri="",
        base_encoder_uri="",
        base_index_uri="",
        encoder_uri="",
        index_uri="",
        output_uri=str(folder),
        split=folder.name,
    )
    num_queries = len(next(iter(values.values())))
    with artifact_writer("evaluate", config) as artifact:
        lines = ["query_id,system,nDCG@10"]
        lines += [f"q{number},{name},{row[number]}" for number in range(num_queries) for name, row in values.items()]
        (artifact.path / "per_query.csv").write_text("\n".join(lines) + "\n")
        metrics = METRICS | {"num_queries": num_queries} | changes
        (artifact.path / "metrics.json").write_bytes(orjson.dumps(metrics))
    return LocalStep("evaluate", "components.evaluate", config)


def split_of(
    folder: Path,
    untrained: Mapping[str, Sequence[float]],
    trained: Mapping[tuple[str, int], Mapping[str, Sequence[float]]],
    *,
    wanted_seeds: int = 0,
    **changes: object,
) -> Split:
    """A split with the untrained systems' values, and those of each arm and seed (`trained`, `hybrid_trained`)."""
    reference = evaluation(folder / "base", untrained, **changes)
    cells: list[Cell] = []
    for (arm, seed), values in trained.items():
        step = evaluation(folder / f"cell-{len(cells)}", values)
        # Nothing was trained for it, so it costs nothing.
        cells.append(Cell(arm, seed, folder.name, step, [step]))
    return Split(Cell("base", 0, folder.name, reference, [reference]), wanted_seeds, cells)
