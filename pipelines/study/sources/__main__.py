"""`python -m pipelines.study.sources --which clicks`: materials, cells into the journal, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson
import tyro

from components.shared.durable import storage
from pipelines.study.sources.budget import BudgetStudy
from pipelines.study.sources.clicks import ClicksStudy, frequency_of
from pipelines.study.sources.config import SourcesConfig
from pipelines.study.sources.table import budget_table, clicks_table, what_ran
from pipelines.study.sources.training import fill


def study(config: SourcesConfig) -> None:
    """Makes the cells that the journal lacks and writes study.json and study.md."""
    config.folder.mkdir(parents=True, exist_ok=True)
    if config.which == "clicks":
        clicks = ClicksStudy(config)
        planned = clicks.cells()
        records = fill(config, planned)
        topics = {query.query_id: query.topic or query.query_id for query in clicks.dataset.queries()}
        lines = clicks_table(config, records, topics=topics, frequency=frequency_of(clicks.dataset))
    else:
        planned = BudgetStudy(config).cells()
        records = fill(config, planned)
        lines = budget_table(config, records)
    _write(config, records, [what_ran(records, len(planned)), "", *lines])


def _write(config: SourcesConfig, records: Sequence[dict[str, Any]], lines: Sequence[str]) -> None:
    content = {"settings": {name: str(value) for name, value in asdict(config).items()}, "cells": records}
    storage.write_bytes(str(config.folder / "study.json"), orjson.dumps(content, option=orjson.OPT_INDENT_2))
    storage.write_bytes(str(config.folder / "study.md"), "\n".join([*lines, ""]).encode())


if __name__ == "__main__":
    study(tyro.cli(SourcesConfig, prog="python -m pipelines.study.sources", use_underscores=False))
