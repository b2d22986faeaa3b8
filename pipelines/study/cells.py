"""One cell: a condition, a collection and a seed -> a trained retriever -> nDCG@10 of all collections' test queries."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from components.annotate.config import AnnotateConfig
from components.shared import checkpoint
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.hashing import content_key
from components.shared.identity import code_digest
from components.shared.manifest import artifact_writer
from components.shared.records import Annotation, Pool, read_records, write_records
from components.train.config import TrainConfig
from components.train.job import train
from pipelines.study.annotators import Collection, agreement, human_annotations, simulated_annotations
from pipelines.study.conditions import BM25_NAME, UNTRAINED_NAME, Condition
from pipelines.study.config import StudyConfig
from pipelines.study.materials import BACKBONE_NAME, USEFUL_NAME, read_grades
from pipelines.study.measuring import TestSet

# Not part of what a cell measures.
_PLACES = ("data", "workdir", "num_seeds", "only", "table_only", "num_resamples")
# Errors of the kind bm25 are at most this far down.
_DEPTH = 40

Values = dict[str, dict[str, float]]


class Cells:
    """Makes cells over one set of materials."""

    def __init__(self, config: StudyConfig) -> None:
        """Opens the materials that `make_materials` left in the work folder."""
        self._config, self._workdir = config, config.workdir
        self._code = code_digest("train")
        datasets = {name: Dataset(config.workdir / name / "dataset") for name in config.collections}
        self.tests = {name: TestSet(dataset, config.num_test_passages) for name, dataset in datasets.items()}
        self._collections = {name: _collection(config.workdir / name, dataset) for name, dataset in datasets.items()}
        self._useful = {
            name: {
                q: list(grades) for q, grades in read_grades(config.workdir / name / "collection" / USEFUL_NAME).items()
            }
            for name in config.collections
        }

    def key(self, name: str, collection: str, seed: int, condition: Condition | None = None) -> str:
        """Journal key of a cell: the condition, the collection, the seed, the settings and the code that trains."""
        settings = {name: value for name, value in dataclasses.asdict(self._config).items() if name not in _PLACES}
        described = dataclasses.asdict(condition) if condition else None
        return content_key(name, collection, seed, described, settings, self._code)

    def baseline(self, name: str) -> dict[str, Any]:
        """The cell of a system that is not trained."""
        start = time.monotonic()
        if name == BM25_NAME:
            values = {collection: test.measure_bm25() for collection, test in self.tests.items()}
        else:
            assert name == UNTRAINED_NAME
            values = self._measure(self._workdir / BACKBONE_NAME)
        return {"values": values, "seconds": round(time.monotonic() - start, 1)}

    def train(self, condition: Condition, collection: str, seed: int) -> dict[str, Any]:
        """Trains a condition with a seed and measures it; the checkpoint is thrown away."""
        start, cpu = time.monotonic(), time.process_time()
        annotations = self._annotations(condition, collection, seed)
        labels = agreement(annotations, self._collections[collection].labelled)
        useful = agreement(annotations, self._useful[collection])
        folder = self._written(annotations, collection, seed)
        output = self._workdir / "checkpoint"
        train(self._train_config(condition, collection, folder, output, seed))
        trained = time.monotonic()
        values = self._measure(output)
        shutil.rmtree(output)
        return {
            "values": values,
            "seconds": round(time.monotonic() - start, 1),
            "training_seconds": round(trained - start, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "label_precision": round(labels.precision, 4),
            "label_recall": round(labels.recall, 4),
            "useful_precision": round(useful.precision, 4),
        }

    def _annotations(self, condition: Condition, collection: str, seed: int) -> list[Annotation]:
        material = self._collections[collection]
        if condition.level == "human":
            return human_annotations(material)
        return simulated_annotations(material, level=condition.level, kind=condition.errors, seed=seed)

    def _train_config(
        self, condition: Condition, collection: str, annotations: Path, output: Path, seed: int
    ) -> TrainConfig:
        config = self._config
        return TrainConfig(
            dataset_uri=str(self._workdir / collection / "dataset"),
            annotations_uri=str(annotations),
            checkpoint_uri=str(self._workdir / BACKBONE_NAME),
            output_uri=str(output),
            curriculum=yaml.safe_dump(list(condition.stages)),
            query_tokens=config.query_tokens,
            passage_tokens=config.passage_tokens,
            batch_queries=config.batch_queries,
            group_size=config.group_size,
            loss_temperature=config.loss_temperature,
            # So that seeds differ by labels, order and negatives alone.
            dropout="off",
            # A stage knows its own labels only: else the human positives would mend the LLM's denominators.
            denominators="own_labels",
            # The last weights count: choosing the best ones would hide what bad labels do.
            dev_queries=0,
            checkpoint_steps=1_000_000,
            seed=seed,
        )

    def _written(self, annotations: list[Annotation], collection: str, seed: int) -> Path:
        folder = self._workdir / "annotations"
        config = AnnotateConfig(
            dataset_uri=str(self._workdir / collection / "dataset"),
            pools_uri=str(self._workdir / collection / "pools"),
            output_uri=str(folder),
            llm_uri=annotations[0].model,
            seed=seed,
        )
        with artifact_writer("annotate", config) as artifact:
            write_records(artifact.path / "annotations.jsonl", annotations)
        return folder

    def _measure(self, folder: Path) -> Values:
        model = checkpoint.load(str(folder))
        return {collection: test.measure(model) for collection, test in self.tests.items()}


def _collection(folder: Path, dataset: Dataset) -> Collection:
    pools = list(read_records(folder / "pools" / "pools.jsonl", Pool))
    labelled = {query_id: tuple(passage_ids) for query_id, passage_ids in dataset.positives("train").items()}
    texts = [dataset.query(pool.query_id).text for pool in pools]
    hits = BM25(dataset).search(texts, _DEPTH)
    ranked = {pool.query_id: [hit.passage_id for hit in of_query] for pool, of_query in zip(pools, hits, strict=True)}
    passage_ids = [dataset.passage_id_at(row) for row in range(dataset.num_passages)]
    return Collection(pools, labelled, passage_ids, ranked)
