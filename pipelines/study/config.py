"""Settings of the study; those that decide what a cell measures are part of its identity."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Trains retrievers under the paper's conditions and compares them, in and out of domain."""

    data: Path = Path(os.environ.get("RETRIEVER_DATA", "../shared/data"))
    """Folder of the collections; RETRIEVER_DATA names it too."""
    workdir: Path = Path(".retriever/study")
    """Where everything goes; a second run continues there."""
    collections: tuple[str, ...] = ("climate-fever-sent", "scifact-mini")
    """Each is trained on; a retriever is in domain on its own collection and out of domain on the others."""
    num_seeds: int = 3
    """Repetitions of every condition: other label errors, other order, other negatives."""
    only: tuple[str, ...] = ()
    """Names of the conditions to train; empty: all."""
    table_only: bool = False
    """Write the table of what the journal holds, and make no cell."""
    num_train_queries: int = 72
    """Train queries of a collection that are kept (seeded draw)."""
    num_test_queries: int = 100
    """Test queries of a collection that are kept (seeded draw)."""
    num_passages: int = 1500
    """Passages of a collection that are kept, to mine in: those judged for a kept query first, then a seeded draw."""
    num_test_passages: int = 350
    """Passages that the test queries search: those judged for them, then the first hits of BM25 for them. Encoding
    them is a fifth of a cell's time."""
    query_tokens: int = 32
    """Longest query."""
    passage_tokens: int = 32
    """Longest passage, the same in training and in measuring; a step's time is proportional to it."""
    pool_negatives: int = 30
    """Hard negatives in a pool, half from BM25 and half dense, as in the paper."""
    batch_queries: int = 6
    """Training groups in one step."""
    group_size: int = 6
    """Passages in a training group."""
    epochs: int = 2
    """Epochs of an LLM or human-only stage; the second stage of a curriculum has one, as in the paper."""
    learning_rate: float = 1e-4
    """As good on dev as 5e-5 (RESULTS.md, Quality), and few steps are taken here; the paper's 3e-5 has thousands."""
    loss_temperature: float = 0.05
    """For unit vectors."""
    num_resamples: int = 5000
    """Of the bootstrap intervals."""
    data_seed: int = 7
    """Of the draws of queries and passages, the same for all seeds."""
