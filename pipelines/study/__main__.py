"""`python -m pipelines.study`: materials, then cell after cell into the journal, then the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import tyro

from components.shared import log
from components.shared.durable.journal import Journal
from pipelines.study.cells import Cells
from pipelines.study.conditions import BM25_NAME, UNTRAINED_NAME, conditions
from pipelines.study.config import StudyConfig
from pipelines.study.materials import make_materials
from pipelines.study.table import Finished, write_table


@dataclass(frozen=True)
class Planned:
    """A cell to be made; seed 0 is that of systems which are not trained."""

    key: str
    name: str
    seed: int
    make: Callable[[], dict[str, Any]]


def study(config: StudyConfig) -> None:
    """Makes the cells that the journal lacks, one seed after the other, and writes the table after each seed."""
    make_materials(config)
    planned = plan(config)
    finished: list[Finished] = []
    with Journal(config.workdir / "cells") as journal:
        for seed in range(config.num_seeds + 1):
            finished += fill(journal, [cell for cell in planned if cell.seed == seed])
            if seed:
                write_table(config, finished)


def plan(config: StudyConfig) -> list[Planned]:
    """Baselines, then every chosen condition with every seed.

    Raises:
        ValueError: Naming a chosen condition that is none.
    """
    known = conditions(config)
    if unknown := set(config.only) - {condition.name for condition in known}:
        raise ValueError(
            f"only: no such conditions {sorted(unknown)}; known are {[condition.name for condition in known]}"
        )
    chosen = [condition for condition in known if not config.only or condition.name in config.only]
    cells = Cells(config)
    baselines = [
        Planned(cells.key(name, 0), name, 0, partial(cells.baseline, name)) for name in (BM25_NAME, UNTRAINED_NAME)
    ]
    seeds = range(1, config.num_seeds + 1)
    return baselines + [
        Planned(cells.key(condition.name, seed, condition), condition.name, seed, partial(cells.train, condition, seed))
        for seed in seeds
        for condition in chosen
    ]


def fill(journal: Journal, planned: Sequence[Planned]) -> list[Finished]:
    """The cells in order; one that the journal holds is not made again, and each is durable before the next begins."""
    finished = []
    for number, cell in enumerate(planned, start=1):
        if cell.key not in journal:
            record = {"name": cell.name, "seed": cell.seed, **cell.make()}
            journal.append(cell.key, record)
            journal.sync()
            log.event(f"cell {number}/{len(planned)}", condition=cell.name, seed=cell.seed, seconds=record["seconds"])
        finished.append(Finished.of(journal.get(cell.key)))
    return finished


if __name__ == "__main__":
    study(tyro.cli(StudyConfig, prog="python -m pipelines.study", use_underscores=False))
