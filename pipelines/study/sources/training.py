"""What both studies share: the small base encoder, datasets, pools, one training, and the journal of cells."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from components.prepare.config import PrepareConfig
from components.shared import checkpoint, log
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.durable.journal import Journal
from components.shared.hashing import content_key
from components.shared.identity import code_digest
from components.shared.manifest import read_manifest
from components.shared.records import Annotation
from components.train.config import TrainConfig
from components.train.job import train
from pipelines.local import LocalStep, run_steps
from pipelines.packaged import find_encoder
from pipelines.study.sources.config import SourcesConfig
from pipelines.study.sources.labelling import written

BACKBONE, UNTRAINED = "backbone", "untrained"


@dataclass(frozen=True)
class Cell:
    """One line of the table to be: what it is called, whence its labels are, and how it is made."""

    name: str
    collection: str
    seed: int
    make: Callable[[], dict[str, Any]]


def fill(config: SourcesConfig, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The records of the cells that are wanted; each is durable before the next one begins, and none is made twice."""
    finished = []
    with Journal(config.folder / "cells") as journal:
        for number, cell in enumerate(cells, start=1):
            key = content_key(cell.name, cell.collection, cell.seed, config.identity(), code_digest("train"))
            is_wanted = not config.only or cell.name.startswith(config.only)
            if key not in journal and is_wanted and not config.table_only:
                start, cpu = time.monotonic(), time.process_time()
                record = {"name": cell.name, "collection": cell.collection, "seed": cell.seed, **cell.make()}
                spent: dict[str, Any] = {"seconds": time.monotonic() - start, "cpu_seconds": time.process_time() - cpu}
                journal.append(key, {**record, **{name: round(value, 1) for name, value in spent.items()}})
                journal.sync()
                log.event(f"cell {number}/{len(cells)}", condition=cell.name, seed=cell.seed, **spent)
            if key in journal:
                finished.append(dict(journal.get(key) or {}))
    return finished


def make_backbone(config: SourcesConfig) -> Path:
    """The first layers of the packaged encoder, as a checkpoint."""
    target = config.folder / BACKBONE
    if not target.is_dir():
        model = checkpoint.load(
            str(find_encoder()), query_tokens=config.query_tokens, passage_tokens=config.passage_tokens
        )
        model.transformer.encoder.layer = nn.ModuleList(list(model.transformer.encoder.layer)[: config.num_layers])
        model.transformer.config.num_hidden_layers = config.num_layers
        partial = target.with_name(f"{target.name}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        model.save(partial)
        partial.rename(target)
    return target


def make_dataset(config: SourcesConfig, collection: Path) -> Dataset:
    """The dataset of a collection; not made again where it is unchanged."""
    target = config.folder / "datasets" / collection.name
    config_of = PrepareConfig(collection_uri=str(collection), output_uri=str(target))
    run_steps([LocalStep(f"prepare ({collection.name})", "components.prepare", config_of)])
    return Dataset(target)


def make_pools(dataset: Dataset, query_ids: Sequence[str], *, num_hits: int) -> dict[str, tuple[str, ...]]:
    """For each query its positives and BM25's first hits."""
    hits = BM25(dataset).search([dataset.query(query_id).text for query_id in query_ids], num_hits)
    positives = dataset.positives("train")
    return {
        query_id: tuple(dict.fromkeys([*positives.get(query_id, ()), *(hit.passage_id for hit in of_query)]))
        for query_id, of_query in zip(query_ids, hits, strict=True)
    }


def fit(
    config: SourcesConfig,
    dataset: Dataset,
    annotations: Sequence[Annotation],
    stages: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    **settings: Any,  # noqa: ANN401 settings of train
) -> tuple[checkpoint.DualEncoder, dict[str, Any]]:
    """The encoder that a curriculum makes of the backbone, and the manifest's metrics; its folder is thrown away."""
    output = config.folder / "checkpoint"
    shutil.rmtree(output, ignore_errors=True)
    folder = written(config.folder / "annotations", dataset.folder, annotations)
    chosen = {
        "dataset_uri": str(dataset.folder),
        "annotations_uri": str(folder),
        "checkpoint_uri": str(config.folder / BACKBONE),
        "output_uri": str(output),
        "curriculum": yaml.safe_dump([dict(stage) for stage in stages]),
        "query_tokens": config.query_tokens,
        "passage_tokens": config.passage_tokens,
        "batch_queries": config.batch_queries,
        "group_size": config.group_size,
        "loss_temperature": config.loss_temperature,
        # So that seeds differ by labels, order and negatives alone.
        "dropout": "off",
        # The last weights count: choosing the best ones would hide what bad labels do.
        "dev_queries": 0,
        "checkpoint_steps": 1_000_000,
        "seed": seed,
        **settings,
    }
    train(TrainConfig(**chosen))
    model = checkpoint.load(str(output))
    metrics = read_manifest(str(output)).metrics
    shutil.rmtree(output)
    return model, metrics


def stage(config: SourcesConfig, labels: str, **settings: object) -> dict[str, Any]:
    """A stage of a curriculum."""
    loss = "click_listwise" if labels == "clicks" else "disj_infonce"
    base = {"name": labels, "labels": labels, "loss": loss, "epochs": config.epochs}
    return {**base, "learning_rate": config.learning_rate, **settings}
