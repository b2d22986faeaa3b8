"""Settings of both studies; those that decide what a cell measures are part of its identity."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Which = Literal["clicks", "budget"]


@dataclass(frozen=True, kw_only=True)
class SourcesConfig:
    """Trains small retrievers on clicks and LLM labels, or on labels bought under a budget, and compares them."""

    which: Which
    """clicks: both sources, alone, one after the other, mixed, and by frequency. budget: queries selected at random,
    by uncertainty, and by deviation."""
    data: Path = Path(os.environ.get("RETRIEVER_DATA", "../shared/data"))
    """Folder of the collections; RETRIEVER_DATA names it too."""
    workdir: Path = Path(".retriever/study-sources")
    """Where everything goes, in a folder a study; a second run continues there."""
    num_seeds: int = 5
    """Repetitions: other label errors, other order, another warm-up."""
    only: tuple[str, ...] = ()
    """Beginnings of the names of the cells to make; empty: all."""
    table_only: bool = False
    """Write the table of what the journal holds, and make no cell."""
    clicks_collection: str = "trec-session"
    """Collection with a click log."""
    budget_collections: tuple[str, ...] = ("climate-fever-sent", "wiki-openqa")
    """Collections whose labels are bought."""
    other_collection: str = "scifact-mini"
    """What every retriever of the budget is measured on too, out of domain."""
    budgets: tuple[int, ...] = (50, 100, 200, 400)
    """Queries that are paid for, those of the warm-up among them; their cost in tokens is the same for all arms."""
    warmup_queries: int = 25
    """Queries of the warm-up round."""
    num_candidates: int = 600
    """Train queries that may be bought (seeded draw)."""
    num_layers: int = 2
    """Layers of the packaged encoder that are kept: cells of seconds instead of minutes on a CPU."""
    query_tokens: int = 24
    """Longest query."""
    passage_tokens: int = 32
    """Longest passage, in training and in measuring."""
    pool_passages: int = 10
    """BM25's first hits that an annotator sees beside the known positives."""
    num_test_passages: int = 400
    """Passages that the test queries search: all that are judged for them, then BM25's first hits up to so many."""
    batch_queries: int = 16
    """Training groups in one step."""
    group_size: int = 8
    """Passages in a training group."""
    epochs: int = 2
    """Epochs of a source alone or mixed; one each where they follow one another."""
    learning_rate: float = 1e-4
    """As in the other study."""
    loss_temperature: float = 0.05
    """For unit vectors."""
    num_searched: int = 2000
    """Passages of the pools in which the two encoders' scores are compared (seeded draw)."""
    precision: float = 0.295
    """Precision of the simulated LLM: UtilSel's in arXiv 2504.05220."""
    recall: float = 0.848
    """Its recall, from the same place."""
    num_resamples: int = 2000
    """Of the bootstrap intervals."""
    data_seed: int = 7
    """Of the draws of queries, the same for all cells."""

    @property
    def folder(self) -> Path:
        """Work folder of this study."""
        return self.workdir / self.which

    def identity(self) -> dict[str, Any]:
        """The settings that decide what a cell measures."""
        places = ("data", "workdir", "num_seeds", "only", "table_only", "num_resamples", "budgets")
        return {name: value for name, value in asdict(self).items() if name not in places}
