"""Settings of the study; those that decide what a cell measures are part of its identity."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Trains small retrievers under the paper's conditions and compares them, in and out of domain."""

    data: Path = Path(os.environ.get("RETRIEVER_DATA", "../shared/data"))
    """Folder of the collections; RETRIEVER_DATA names it too."""
    workdir: Path = Path(".retriever/study")
    """Where everything goes; a second run continues there."""
    collection: str = "climate-fever-sent"
    """Trained on and measured on: its judged grade-0 passages are on the topic but not useful, which the simulated
    annotators need."""
    other_collection: str = "scifact-mini"
    """Measured on only: out of domain."""
    num_seeds: int = 3
    """Repetitions of every condition: other label noise, other order, other negatives, other dropout."""
    only: tuple[str, ...] = ()
    """Names of the conditions to train; empty: all."""
    num_train_queries: int = 320
    """Train queries of the collection that are kept (seeded draw)."""
    num_passages: int = 2600
    """Passages of the collection that are kept: judged ones first, then a seeded draw."""
    num_few_queries: int = 100
    """Queries that the packaged LLM really annotates, and its counterparts learn from."""
    few_epochs: int = 4
    """Epochs over those few queries."""
    num_layers: int = 1
    """Layers of the packaged encoder that are kept: few enough that training matters."""
    query_tokens: int = 32
    """Longest query."""
    passage_tokens: int = 48
    """Longest passage."""
    pool_negatives: int = 28
    """Hard negatives in a pool, half from BM25 and half dense."""
    batch_queries: int = 16
    """Training groups in one step."""
    group_size: int = 10
    """Passages in a training group."""
    epochs: int = 2
    """Epochs of an LLM or human-only stage; the second stage of a curriculum has one, as in the paper."""
    learning_rate: float = 3e-4
    """Chosen on the dev split with human labels; small models take larger ones than the paper's 3e-5."""
    loss_temperature: float = 0.05
    """For unit vectors."""
    num_resamples: int = 5000
    """Of the bootstrap intervals."""
    data_seed: int = 7
    """Of the draws of queries and passages, the same for all seeds."""
