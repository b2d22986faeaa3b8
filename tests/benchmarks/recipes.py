"""Which recipe trains best, like for like: `python tests/benchmarks/recipes.py --data DATA --work /tmp/recipes`.

For each collection one base encoder, one set of pools; then every recipe from the same start, at the same lengths. The
recipe is chosen on dev (mean gain of dense and hybrid search over all collections, seed 1); then it, its variant
without human labels, and human labels alone are trained with three seeds and measured once on test. Search is exact;
hybrid is min-max over the whole corpus with the weight that dev chose. Uses a GPU where there is one.
"""

import argparse
import json
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from components.annotate.config import AnnotateConfig
from components.annotate.job import annotate
from components.export.config import ExportConfig
from components.export.job import export
from components.index.config import IndexConfig
from components.index.job import build_index
from components.mine.config import MineConfig
from components.mine.job import mine
from components.prepare.config import PrepareConfig
from components.prepare.job import prepare
from components.shared import checkpoint
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.own_passage import is_own_passage
from components.train.config import TrainConfig
from components.train.job import train
from components.train.labels.dev import ndcg
from pipelines.packaged import find_encoder, find_llm

WEIGHTS = [round(0.05 * step, 2) for step in range(21)]
COLLECTIONS = ("scifact", "climate-fever-sent", "wiki-openqa", "squad-mini")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
COMMON: dict[str, Any] = {
    "batch_queries": 32,
    "group_size": 4,
    "loss_temperature": 0.05,
    "encode_rows": 128 if DEVICE == "cuda" else 16,
    "precision": "bf16" if DEVICE == "cuda" else "fp32",
    "dropout": "off",
    "train_passage_tokens": 96,
    "dev_queries": 150,
    "dev_passages": 1000,
}
STAGE: dict[str, Any] = {
    "name": "distil",
    "labels": "teacher",
    "loss": "distillation",
    "human_share": 0.2,
    "utility_temperature": 0.1,
    "llm_share": 0,
    "epochs": 3,
    "learning_rate": 5e-5,
}
HUMAN = {
    "name": "human",
    "labels": "human",
    "human_share": 0.2,
    "loss": "disj_infonce",
    "positives": "one",
    "epochs": 2,
    "learning_rate": 3e-5,
}
# What differs from COMMON, and from STAGE.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "teacher": ({}, {}),
    "learning rate 2e-5": ({}, {"learning_rate": 2e-5}),
    "learning rate 1e-4": ({}, {"learning_rate": 1e-4}),
    "6 epochs": ({}, {"epochs": 6}),
    "teacher temperature .05": ({}, {"utility_temperature": 0.05}),
    "teacher temperature .2": ({}, {"utility_temperature": 0.2}),
    "groups of 8": ({"group_size": 8}, {}),
    "whole passages, dropout": ({"train_passage_tokens": 0, "dropout": "model"}, {}),
}


@dataclass
class Collection:
    """One collection's artifacts, and how a checkpoint is measured on it."""

    name: str
    data: Path
    work: Path

    def make(self, num_annotated: int) -> None:
        """Dataset, base encoder, index, pools without human labels, and the LLM's scores of a few of them."""
        at = {name: str(self.work / name) for name in ("dataset", "encoder", "index", "pools", "annotations")}
        places = {"dataset_uri": at["dataset"], "encoder_uri": at["encoder"]}
        steps = [
            (prepare, PrepareConfig(collection_uri=str(self.data / self.name), output_uri=at["dataset"])),
            (
                export,
                ExportConfig(
                    dataset_uri=at["dataset"],
                    checkpoint_uri=str(find_encoder()),
                    query_tokens=64,
                    passage_tokens=160,
                    output_uri=at["encoder"],
                ),
            ),
            (build_index, IndexConfig(**places, output_uri=at["index"])),
            (
                mine,
                MineConfig(
                    **places,
                    index_uri=at["index"],
                    output_uri=at["pools"],
                    num_bm25=4,
                    num_dense=4,
                    depth=50,
                    num_evaluation_queries=0,
                    human_positive="as_retrieved",
                ),
            ),
            (
                annotate,
                AnnotateConfig(
                    dataset_uri=at["dataset"],
                    pools_uri=at["pools"],
                    output_uri=at["annotations"],
                    llm_uri=str(find_llm()),
                    engine="transformers",
                    method="query_likelihood",
                    passage_words=60,
                    calibration_queries=0,
                    num_queries=num_annotated,
                ),
            ),
        ]
        for job, config in steps:
            job(config)  # type: ignore[operator]

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that `make` wrote."""
        return Dataset(self.work / "dataset")

    @cached_property
    def passage_ids(self) -> list[str]:
        """Ids by row."""
        return [self.dataset.passage_id_at(row) for row in range(self.dataset.num_passages)]

    @cached_property
    def bm25(self) -> BM25:
        """The dataset's own index."""
        return BM25(self.dataset)

    def judged(self, split: str) -> dict[str, dict[str, int]]:
        """Grades of the queries that have a positive."""
        return {
            query_id: grades
            for query_id, grades in sorted(self.dataset.qrels(split).items())
            if any(grade > 0 for grade in grades.values())
        }

    def words(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """BM25's scores from 0 to 1, and which passages are the query itself."""
        judged = self.judged(split)
        rows = np.arange(len(self.passage_ids))
        texts = [self.dataset.query(query_id).text for query_id in judged]
        scores = np.stack(self.bm25.scores_of(texts, [rows] * len(texts)))
        is_own = np.zeros(scores.shape, dtype=bool)
        for number, (query_id, grades) in enumerate(judged.items()):
            for row in np.argsort(-scores[number])[:10]:
                passage = self.dataset.passage_at(int(row))
                is_own[number, row] = passage.passage_id not in grades and is_own_passage(
                    self.dataset.query(query_id), passage
                )
        scores[is_own] = 0
        return scores / np.maximum(scores.max(1, keepdims=True), 1e-6), is_own

    def train(self, name: str, seed: int, settings: dict[str, Any], stage: dict[str, Any]) -> Path:
        """The checkpoint of a recipe."""
        folder = self.work / f"{name}-{seed}".replace(" ", "-")
        train(
            TrainConfig(
                dataset_uri=str(self.work / "dataset"),
                annotations_uri=str(self.work / "annotations"),
                pools_uri=str(self.work / "pools"),
                checkpoint_uri=str(find_encoder()),
                query_tokens=64,
                passage_tokens=160,
                output_uri=str(folder),
                curriculum=yaml.safe_dump([stage]),
                seed=seed,
                **{**COMMON, **settings},
            )
        )
        return folder

    def measured(self, folder: Path, splits: tuple[str, ...]) -> dict[str, dict[str, list[float]]]:
        """NDCG@10 of each query of the splits (dev first): dense, hybrid and BM25."""
        model = checkpoint.load(str(folder), query_tokens=64, passage_tokens=160, attention="fused").to(DEVICE).eval()
        texts = [passage.full_text for passage in self.dataset.iter_passages()]
        passages = _vectors(model, model.tokenize_passages(texts))
        values, weight = {}, 0.0
        for split in splits:
            judged, (words, is_own) = self.judged(split), self.words(split)
            queries = _vectors(model, model.tokenize_queries([self.dataset.query(q).text for q in judged]))
            dense = (queries @ passages.T).cpu().numpy()
            low, high = dense.min(1, keepdims=True), dense.max(1, keepdims=True)
            scaled = np.where(is_own, 0, (dense - low) / (high - low))
            if split == "dev":
                curve = {w: self._gains(w * words + (1 - w) * scaled, judged).mean() for w in WEIGHTS}
                weight = max(curve, key=lambda w: (curve[w], -w))
            systems = {"dense": scaled, "hybrid": weight * words + (1 - weight) * scaled, "bm25": words}
            values[split] = {system: self._gains(scores, judged).tolist() for system, scores in systems.items()}
        return values

    def _gains(self, scores: np.ndarray, judged: dict[str, dict[str, int]]) -> np.ndarray:
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return np.array(
            [
                ndcg([self.passage_ids[row] for row in rows], grades)
                for rows, grades in zip(best, judged.values(), strict=True)
            ]
        )


@torch.inference_mode()
def _vectors(model: checkpoint.DualEncoder, token_ids: list[list[int]]) -> torch.Tensor:
    vectors = torch.empty(len(token_ids), model.dimension, device=DEVICE)
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows])).float()
    return vectors


def interval(difference: np.ndarray) -> str:
    """The mean with its 95 % bootstrap interval over queries."""
    draws = np.random.default_rng(1).integers(0, len(difference), (5000, len(difference)))
    low, high = np.percentile(difference[draws].mean(1), [2.5, 97.5])
    return f"{difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def chosen(collections: list[Collection], base: dict[str, Any]) -> str:
    """The variant with the largest gain on dev, dense and hybrid together, over all collections; prints all."""
    gains: dict[str, list[tuple[float, float]]] = {}
    for collection in collections:
        before = base[collection.name]["dev"]
        for name, (settings, stage) in VARIANTS.items():
            after = collection.measured(collection.train(name, 1, settings, {**STAGE, **stage}), ("dev",))["dev"]
            dense, hybrid = (float(np.mean(after[s]) - np.mean(before[s])) for s in ("dense", "hybrid"))
            gains.setdefault(name, []).append((dense, hybrid))
            print(f"dev  {collection.name:20} {name:26} dense {dense:+.4f} hybrid {hybrid:+.4f}", flush=True)
    best = max(gains, key=lambda name: float(np.mean(gains[name])))
    print(f"chosen on dev: {best} ({np.mean(gains[best], axis=0).round(4).tolist()})")
    return best


def report(collection: Collection, name: str, runs: list[dict[str, Any]], base: dict[str, Any]) -> None:
    """One line of the table on test, the mean over the seeds query by query."""
    dense, hybrid = (np.mean([run["test"][system] for run in runs], axis=0) for system in ("dense", "hybrid"))
    before = {system: np.array(values) for system, values in base["test"].items()}
    print(
        f"test {collection.name:20} {name:26} dense {before['dense'].mean():.4f} -> {dense.mean():.4f} "
        f"{interval(dense - before['dense'])}  hybrid {before['hybrid'].mean():.4f} -> {hybrid.mean():.4f} "
        f"{interval(hybrid - before['hybrid'])}  hybrid - BM25 {interval(hybrid - before['bm25'])}",
        flush=True,
    )


def main() -> None:
    """Makes, chooses, measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS)
    parser.add_argument("--num-annotated", type=int, default=10)
    given = parser.parse_args()
    collections = [Collection(name, given.data, given.work / name) for name in given.collections]
    base = {}
    for collection in collections:
        collection.make(given.num_annotated)
        base[collection.name] = collection.measured(find_encoder(), ("dev", "test"))
    settings, stage = VARIANTS[chosen(collections, base)]
    stage = {**STAGE, **stage}
    without = {**deepcopy(stage), "human_share": 0}
    for collection in collections:
        for name, own_settings, own_stage in (
            ("teacher, 20 % human", settings, stage),
            ("teacher, no human", settings, without),
            ("20 % human alone", {"batch_queries": 16, "dropout": "model", "train_passage_tokens": 0}, HUMAN),
        ):
            runs = []
            for seed in (1, 2, 3):
                folder = collection.train(name.replace(",", "").replace("%", "percent"), seed, own_settings, own_stage)
                runs.append(collection.measured(folder, ("dev", "test")))
            report(collection, name, runs, base[collection.name])
            (collection.work / f"{name}.json").write_text(json.dumps(runs))


if __name__ == "__main__":
    main()
