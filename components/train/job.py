"""The recipe of train."""

from __future__ import annotations

import math
from pathlib import Path

import orjson

from components.shared import checkpoint, log, storage
from components.shared.dataset import Dataset
from components.shared.fan_in import check_shards
from components.shared.manifest import LOGS, artifact_writer, open_artifact
from components.shared.records import Annotation, read_records
from components.shared.telemetry import MetricLines
from components.train.config import TrainConfig
from components.train.curriculum import Stage, parse_curriculum
from components.train.dev import dev_set
from components.train.groups import TrainingGroup, stage_groups
from components.train.trainer import Trainer

LINES_NAME = f"{LOGS}training.jsonl"


def train(config: TrainConfig) -> None:
    """Trains the curriculum's stages and writes the checkpoint with the best dev nDCG@10.

    Raises:
        ValueError: Where the curriculum cannot be read, or no stage has a query to learn from.
    """
    stages = parse_curriculum(config.curriculum)
    dataset = Dataset(open_artifact(config.dataset_uri))
    check_shards(config.annotations_uri.split(","), max_quarantine_share=config.max_quarantine_share)
    annotations = read_annotations(config.annotations_uri)
    held_out = {query.query_id for split in ("dev", "test") for query in dataset.queries(split)}
    staged = _staged(stages, dataset, {i: a for i, a in annotations.items() if i not in held_out}, config)
    with artifact_writer("train", config) as artifact:
        lines_path = artifact.path / LINES_NAME
        lines_path.parent.mkdir(exist_ok=True)
        state_uri = f"{config.state_uri.rstrip('/') or artifact.scratch}/{artifact.identity}.pt"
        if not storage.exists(state_uri):
            lines_path.unlink(missing_ok=True)
        lines = MetricLines(lines_path)
        model = _base_model(config)
        dev = dev_set(dataset, annotations, config)
        trainer = Trainer(model, dataset, dev, config, state_uri=state_uri, best_path=artifact.scratch / "best.pt", lines=lines)
        trainer.run(staged)
        lines.close()
        _keep_one_line_a_step(lines_path)
        model.save(artifact.path)
        best = trainer.position.best_ndcg
        artifact.metrics.update(
            num_steps=trainer.position.step,
            best_step=trainer.position.best_step,
            num_groups={stage.name: len(groups) for stage, groups in staged},
            **({"best_dev_ndcg_10": best} if math.isfinite(best) else {}),
        )
    if dev.queries and trainer.position.best_step == 0:
        log.warning("training did not help on the dev queries: the untrained weights were kept", dev_ndcg_10=best)


def read_annotations(uris: str) -> dict[str, Annotation]:
    """Annotations of all shards by query id.

    Raises:
        ValueError: Where two shards annotate the same query.
    """
    found: dict[str, Annotation] = {}
    for uri in uris.split(","):
        for annotation in read_records(open_artifact(uri) / "annotations.jsonl", Annotation):
            if annotation.query_id in found:
                raise ValueError(f"{uri}: query {annotation.query_id!r} is annotated in two shards; pass each shard once")
            found[annotation.query_id] = annotation
    return found


def _staged(
    stages: list[Stage], dataset: Dataset, annotations: dict[str, Annotation], config: TrainConfig
) -> list[tuple[Stage, list[TrainingGroup]]]:
    """Each stage with its groups; a stage without any is left out, loudly."""
    positives = dataset.positives("train")
    staged = []
    for stage in stages:
        own = config.denominators == "own_labels"
        groups = stage_groups(stage, positives, annotations, seed=config.seed, own_labels_only=own)
        if groups:
            staged.append((stage, groups))
            log.event("stage", name=stage.name, labels=stage.labels, queries=len(groups))
        else:
            log.warning("stage left out: no query has such labels", name=stage.name, labels=stage.labels)
    if not staged:
        raise ValueError(
            f"{config.annotations_uri}: no stage of the curriculum has a query with a positive; annotate more, or add human qrels"
        )
    return staged


def _base_model(config: TrainConfig) -> checkpoint.DualEncoder:
    uri = config.base_uri
    if storage.exists(f"{uri.rstrip('/')}/{storage.MANIFEST_NAME}"):
        uri = str(open_artifact(uri))
    elif storage.is_remote(uri):
        uri = str(storage.fetch(uri))
    return checkpoint.load(
        uri,
        pooling=config.pooling,
        normalise=config.normalise,
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
        query_tokens=config.query_tokens,
        passage_tokens=config.passage_tokens,
    )


def _keep_one_line_a_step(path: Path) -> None:
    """A killed attempt wrote steps that its successor repeats; the later line is the one that counts."""
    lines: dict[tuple[int, bool], bytes] = {}
    for line in path.read_bytes().splitlines():
        values = orjson.loads(line)
        lines[values["step"], "dev_ndcg_10" in values] = line
    path.write_bytes(b"".join(line + b"\n" for _, line in sorted(lines.items())))
