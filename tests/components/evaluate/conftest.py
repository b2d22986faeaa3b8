"""Everything evaluate reads, made for real over the tiny corpus: dataset, two encoders, two indexes."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from components.annotate.config import AnnotateConfig
from components.evaluate.config import EvaluateConfig
from components.prepare.config import PrepareConfig
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer
from components.shared.records import Annotation, Passage, Qrel, Query, write_records
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index

Qrels = Mapping[str, Mapping[str, int]]


def write_dataset(
    folder: Path, passages: list[Passage], queries: Mapping[str, list[Query]], qrels: Mapping[str, Qrels]
) -> Path:
    """A dataset artifact; queries and qrels by split."""
    with artifact_writer("prepare", PrepareConfig(collection_uri="tiny", output_uri=str(folder))) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage in passages:
            writer.add_passage(passage)
        rows = [
            (Qrel(q, p, grade), split)
            for split, its in qrels.items()
            for q, grades in its.items()
            for p, grade in grades.items()
        ]
        writer.finish([(query, split) for split, its in queries.items() for query in its], rows)
    return folder


def read_collection(folder: Path) -> tuple[list[Passage], dict[str, list[Query]], dict[str, Qrels]]:
    """The tiny BEIR folder as records."""
    passages = [Passage(row["_id"], row["title"], row["text"]) for row in _rows(folder / "corpus.jsonl")]
    texts = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    for split in ("train", "dev", "test"):
        for line in (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]:
            query_id, passage_id, grade = line.split("\t")
            qrels.setdefault(split, {}).setdefault(query_id, {})[passage_id] = int(grade)
    queries = {split: [Query(query_id, texts[query_id]) for query_id in its] for split, its in qrels.items()}
    return passages, queries, qrels


def _rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def build_inputs(folder: Path, dataset: Path) -> EvaluateConfig:
    """Two encoders and their indexes over a dataset, and the config that evaluates them."""
    words = words_of([passage.full_text for passage in Dataset(dataset).iter_passages()])
    for seed, name in enumerate(("base", "trained")):
        # The base encoder has too few dimensions to tell so many words apart.
        encoder = write_tiny_encoder(folder / f"{name}-encoder", seed, words, dimension=2 if name == "base" else 32)
        write_tiny_index(folder / f"{name}-index", dataset=dataset, encoder=encoder)
    return EvaluateConfig(
        dataset_uri=str(dataset),
        base_encoder_uri=str(folder / "base-encoder"),
        base_index_uri=str(folder / "base-index"),
        encoder_uri=str(folder / "trained-encoder"),
        index_uri=str(folder / "trained-index"),
        output_uri=str(folder / "evaluation"),
        num_resamples=200,
    )


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., EvaluateConfig]:
    """Builds all inputs over given passages, queries by split and qrels by split."""

    def make(passages: list[Passage], queries: Mapping[str, list[Query]], qrels: Mapping[str, Qrels]) -> EvaluateConfig:
        return build_inputs(tmp_path, write_dataset(tmp_path / "dataset", passages, queries, qrels))

    return make


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Writes a dataset of given passages, queries by split and qrels by split."""

    def make(passages: list[Passage], queries: Mapping[str, list[Query]], qrels: Mapping[str, Qrels]) -> Dataset:
        return Dataset(write_dataset(tmp_path / "dataset", passages, queries, qrels))

    return make


@pytest.fixture
def config(make_config: Callable[..., EvaluateConfig], tiny_collection: Path) -> EvaluateConfig:
    return make_config(*read_collection(tiny_collection))


@pytest.fixture
def unjudged_config(make_config: Callable[..., EvaluateConfig], tiny_collection: Path) -> EvaluateConfig:
    """The same without any human judgement."""
    passages, queries, _ = read_collection(tiny_collection)
    return make_config(passages, queries, {})


@pytest.fixture
def write_annotations(tmp_path: Path) -> Callable[..., str]:
    """Writes an annotations artifact of one shard and returns its URI."""

    def write(*annotations: Annotation, name: str = "annotations") -> str:
        uri = str(tmp_path / name)
        config = AnnotateConfig(dataset_uri="none", pools_uri="none", llm_uri="tiny-llm", output_uri=uri)
        with artifact_writer("annotate", config) as artifact:
            write_records(artifact.path / "annotations.jsonl", annotations)
        return uri

    return write
