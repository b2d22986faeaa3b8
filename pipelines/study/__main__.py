"""`python -m pipelines.study`: materials, then cell after cell into the journal, and the table after each seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import tyro

from components.shared import log
from components.shared.durable.journal import Journal
from pipelines.study.cells import Cells
from pipelines.study.conditions import BM25_NAME, UNTRAINED_NAME, chosen_blocks
from pipelines.study.config import StudyConfig
from pipelines.study.materials import make_materials
from pipelines.study.table import EVERY, Finished, Part, Step, write_table


@dataclass(frozen=True)
class Planned:
    """A cell to be made; collection `EVERY` and seed 0 are those of systems which are not trained."""

    key: str
    part: Part
    name: str
    collection: str
    make: Callable[[], dict[str, Any]]


def study(config: StudyConfig) -> None:
    """Makes the cells that the journal lacks, block by block and seed by seed, and writes the table after each seed."""
    if not config.table_only:
        make_materials(config)
    planned = plan(config)
    steps = [Step(cell.part, cell.name, cell.collection) for cell in planned]
    finished: list[Finished] = []
    with Journal(config.workdir / "cells") as journal:
        if config.table_only:
            records = [journal.get(cell.key) for cell in planned if cell.key in journal]
            write_table(config, list(map(Finished.of, records)), planned=steps)
            return
        for part, cells in groupby(planned, key=lambda cell: cell.part):
            finished += fill(journal, list(cells))
            log.event("part of the study", block=part.block, seed=part.seed, cells=len(finished))
            write_table(config, finished, planned=steps)


def plan(config: StudyConfig) -> list[Planned]:
    """Baselines, then every chosen block: with the first seed all its conditions on all collections, then the next.

    Raises:
        ValueError: Naming a chosen condition that is none.
    """
    chosen, cells = chosen_blocks(config), Cells(config)
    planned = [
        Planned(cells.key(name, EVERY, 0), Part("baselines", 0), name, EVERY, partial(cells.baseline, name))
        for name in (BM25_NAME, UNTRAINED_NAME)
    ]
    for block in chosen:
        for seed in range(1, config.num_seeds + 1):
            for collection in config.collections:
                planned += [
                    Planned(
                        cells.key(condition.name, collection, seed, condition),
                        Part(block.name, seed),
                        condition.name,
                        collection,
                        partial(cells.train, condition, collection, seed),
                    )
                    for condition in block.conditions
                ]
    return planned


def fill(journal: Journal, planned: Sequence[Planned]) -> list[Finished]:
    """The cells in order; one that the journal holds is not made again, and each is durable before the next begins."""
    finished = []
    for number, cell in enumerate(planned, start=1):
        if cell.key not in journal:
            record = {"name": cell.name, "collection": cell.collection, "seed": cell.part.seed, **cell.make()}
            journal.append(cell.key, record)
            journal.sync()
            log.event(
                f"cell {number}/{len(planned)}",
                condition=cell.name,
                collection=cell.collection,
                seed=cell.part.seed,
                seconds=record["seconds"],
            )
        finished.append(Finished.of(journal.get(cell.key)))
    return finished


if __name__ == "__main__":
    study(tyro.cli(StudyConfig, prog="python -m pipelines.study", use_underscores=False))
