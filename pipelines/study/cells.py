"""One cell: a condition and a seed -> a trained retriever -> nDCG@10 of every test query, in and out of domain."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from ir_measures import nDCG

from components.annotate.config import AnnotateConfig
from components.evaluate.judgements import find_judgements
from components.evaluate.measures import per_query
from components.evaluate.runs import strictly_decreasing
from components.shared import checkpoint
from components.shared.bm25 import BM25
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.encoding.batches import length_sorted_batches
from components.shared.hashing import content_key
from components.shared.identity import code_digest
from components.shared.manifest import artifact_writer
from components.shared.records import Annotation, Hit, Pool, read_records, write_records
from components.train.config import TrainConfig
from components.train.job import train
from pipelines.study.annotators import agreement, human_annotations, simulated_annotations, with_judged
from pipelines.study.conditions import BM25_NAME, IN_DOMAIN, OUT_OF_DOMAIN, UNTRAINED_NAME, Condition
from pipelines.study.config import StudyConfig
from pipelines.study.materials import annotate_few

_CUTOFF = 10
# Not part of what a cell measures.
_PLACES = ("data", "workdir", "num_seeds", "only", "num_resamples")

Values = dict[str, dict[str, float]]


@dataclass
class TestSet:
    """The test split of a dataset, tokenised once for all cells: every model of the study has the same tokenizer."""

    __test__ = False

    dataset: Dataset
    grades: Mapping[str, Mapping[str, int]] = field(init=False)
    passage_ids: list[str] = field(init=False)
    _tokens: tuple[list[list[int]], list[list[int]]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        judgements = find_judgements(self.dataset, split="test", annotation_folders=[], min_grade=1)
        useless = set(judgements.without_relevant(min_grade=1))
        self.grades = {query_id: judged for query_id, judged in judgements.grades.items() if query_id not in useless}
        self.passage_ids = [self.dataset.passage_id_at(row) for row in range(self.dataset.num_passages)]

    def measure_bm25(self) -> dict[str, float]:
        """nDCG@10 of BM25 by query id."""
        hits = BM25(self.dataset).search([self.dataset.query(query_id).text for query_id in self.grades], _CUTOFF)
        return self._measure(hits)

    @torch.inference_mode()
    def measure(self, model: DualEncoder) -> dict[str, float]:
        """nDCG@10 of exact search by query id."""
        model.eval()
        if self._tokens is None:
            asked = model.tokenize_queries([self.dataset.query(query_id).text for query_id in self.grades])
            self._tokens = (
                asked,
                model.tokenize_passages([passage.full_text for passage in self.dataset.iter_passages()]),
            )
        queries, passages = (_vectors(model, tokens) for tokens in self._tokens)
        scores, rows = (queries @ passages.T).topk(_CUTOFF)
        pairs = zip(rows.tolist(), scores.tolist(), strict=True)
        return self._measure(
            [[Hit(self.passage_ids[row], score) for row, score in zip(*pair, strict=True)] for pair in pairs]
        )

    def _measure(self, hits: Sequence[Sequence[Hit]]) -> dict[str, float]:
        runs = {query_id: strictly_decreasing(ranking) for query_id, ranking in zip(self.grades, hits, strict=True)}
        values = per_query(runs, grades=self.grades, measures=[nDCG @ _CUTOFF])[:, 0]
        return dict(zip(self.grades, values.tolist(), strict=True))


class Cells:
    """Makes cells over one set of materials."""

    def __init__(self, config: StudyConfig) -> None:
        """Opens the materials that `make_materials` left in the work folder."""
        self._config, self._workdir = config, config.workdir
        dataset = Dataset(config.workdir / "dataset")
        self.tests = {IN_DOMAIN: TestSet(dataset), OUT_OF_DOMAIN: TestSet(Dataset(config.workdir / "other-dataset"))}
        self._grades = dataset.qrels("train")
        pools = {
            name: list(read_records(config.workdir / name / "pools.jsonl", Pool)) for name in ("pools", "pools-few")
        }
        self._pools = {"": with_judged(pools["pools"], self._grades), "few": pools["pools-few"]}

    def key(self, name: str, seed: int, condition: Condition | None = None) -> str:
        """Journal key of a cell: the condition, the seed, the settings and the code that trains."""
        settings = {name: value for name, value in dataclasses.asdict(self._config).items() if name not in _PLACES}
        return content_key(
            name, seed, dataclasses.asdict(condition) if condition else None, settings, code_digest("train")
        )

    def baseline(self, name: str) -> dict[str, Any]:
        """The cell of a system that is not trained."""
        start = time.monotonic()
        if name == BM25_NAME:
            values = {domain: test.measure_bm25() for domain, test in self.tests.items()}
        else:
            assert name == UNTRAINED_NAME
            values = self._measure(self._workdir / "backbone")
        return {"values": values, "seconds": round(time.monotonic() - start, 1)}

    def train(self, condition: Condition, seed: int) -> dict[str, Any]:
        """Trains a condition with a seed and measures it; the checkpoint is thrown away."""
        start = time.monotonic()
        annotations, quality = self._annotations(condition.labels, seed)
        output = self._workdir / "checkpoint"
        train(self._train_config(condition, annotations, output, seed))
        trained = time.monotonic()
        values = self._measure(output)
        shutil.rmtree(output)
        seconds = {"seconds": round(time.monotonic() - start, 1), "training_seconds": round(trained - start, 1)}
        return {"values": values, **seconds, "label_precision": quality[0], "label_recall": quality[1]}

    def _train_config(self, condition: Condition, annotations: Path, output: Path, seed: int) -> TrainConfig:
        config = self._config
        return TrainConfig(
            dataset_uri=str(self._workdir / "dataset"),
            annotations_uri=str(annotations),
            checkpoint_uri=str(self._workdir / "backbone"),
            output_uri=str(output),
            curriculum=yaml.safe_dump(list(condition.stages)),
            query_tokens=config.query_tokens,
            passage_tokens=config.passage_tokens,
            batch_queries=config.batch_queries,
            group_size=config.group_size,
            loss_temperature=config.loss_temperature,
            # Each call makes a gradient of all embeddings, so few calls of many rows.
            encode_rows=48,
            # A stage knows its own labels only: else the human positives would mend the LLM's denominators.
            denominators="own_labels",
            # The last weights count: choosing the best ones would hide what bad labels do.
            dev_queries=0,
            checkpoint_steps=1_000_000,
            seed=seed,
        )

    def _annotations(self, labels: str, seed: int) -> tuple[Path, tuple[float, float]]:
        """Folder of the annotations, and their precision and recall."""
        level, _, part = labels.partition("_")
        if level == "llm":
            folder = annotate_few(self._config)
            annotations = list(read_records(folder / "annotations.jsonl", Annotation))
        else:
            pools = self._pools[part]
            human = human_annotations(pools, self._grades)
            annotations = (
                human if level == "human" else simulated_annotations(pools, self._grades, level=level, seed=seed)
            )
            folder = self._written(labels, annotations, seed)
        quality = agreement(annotations, self._grades)
        return folder, (round(quality.precision, 4), round(quality.recall, 4))

    def _written(self, labels: str, annotations: list[Annotation], seed: int) -> Path:
        folder = self._workdir / f"annotations-{labels}"
        config = AnnotateConfig(
            dataset_uri=str(self._workdir / "dataset"),
            pools_uri=str(self._workdir / "pools"),
            output_uri=str(folder),
            llm_uri=f"simulated-{labels}",
            seed=seed,
        )
        with artifact_writer("annotate", config) as artifact:
            write_records(artifact.path / "annotations.jsonl", annotations)
        return folder

    def _measure(self, folder: Path) -> Values:
        model = checkpoint.load(str(folder))
        return {domain: test.measure(model) for domain, test in self.tests.items()}


def _vectors(model: DualEncoder, token_ids: list[list[int]]) -> torch.Tensor:
    vectors = torch.empty(len(token_ids), model.dimension)
    for rows in length_sorted_batches([len(ids) for ids in token_ids], batch_tokens=512):
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows]))
    return vectors
