"""Queries for a collection that has none: when a run has an LLM write them."""

from __future__ import annotations

from pathlib import Path

from components.shared import log
from pipelines.flow import Settings

# Queries for a corpus on a laptop: 2.3 CPU seconds a call with a model of 135 million parameters.
NUM_QUERIES = 300
_QUERY_FILES = ("queries*", "topics*", "questions*")


def with_queries(settings: Settings, data: Path) -> Settings:
    """The settings, with ask switched on where the collection has no queries and nobody has said how many to ask."""
    if settings["ask"]["num_queries"] or not data.is_dir() or any(any(data.glob(name)) for name in _QUERY_FILES):
        return settings
    log.event(
        "the collection has no queries: an LLM will write them, and everything measured with them is synthetic",
        num_queries=NUM_QUERIES,
        llm=settings["ask"]["llm_uri"],
        remedy="for another number set ask.num_queries",
    )
    return {**settings, "ask": {**settings["ask"], "num_queries": NUM_QUERIES}}
