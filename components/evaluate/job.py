"""evaluate: runs of three systems over the held-out queries, what they are worth, and a report a person can show to a colleague."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from ir_measures import Measure

from components.evaluate import summary
from components.evaluate.config import EvaluateConfig
from components.evaluate.judgements import Judgements, find_judgements
from components.evaluate.measures import JUDGED, curve_measures, parse_measures
from components.evaluate.report import Report, write_report
from components.evaluate.runs import RunWriter, Search, SystemRun, write_qrels
from components.evaluate.significance import compare
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.encoder import Encoder, encoder_digest, num_cores
from components.shared.index import PassageIndex, set_threads
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Hit, Query

PAIRS = (("trained", "base"), ("trained", "bm25"), ("base", "bm25"))


def evaluate(config: EvaluateConfig) -> None:
    """Searches with BM25, the base and the trained encoder, measures, compares, and writes everything down.

    Raises:
        ValueError: Where nobody judged the split, a measure is unknown, or an index belongs to another encoder or
            dataset.
    """
    _check(config)
    measures = parse_measures(config.measures, min_grade=config.min_grade)
    dataset = Dataset(open_artifact(config.dataset_uri))
    folders = [open_artifact(uri) for uri in config.annotations_uri.split(",") if uri]
    judgements = find_judgements(dataset, split=config.split, annotation_folders=folders, min_grade=config.min_grade)
    queries = _queries(dataset, config.split, judgements)
    extras = [*curve_measures(depth=min(config.depth, dataset.num_passages), min_grade=config.min_grade), JUDGED]
    with artifact_writer("evaluate", config) as artifact:
        writer = RunWriter(dataset, queries, judgements.grades, [*measures, *extras], config.depth, config.min_grade)
        (artifact.path / "runs").mkdir(exist_ok=True)
        runs = {
            name: writer.run(name, search, artifact.path / "runs" / f"{name}.trec")
            for name, search in _systems(config, dataset)
        }
        write_qrels(artifact.path / "qrels.trec", judgements.grades)
        metrics = _metrics(
            config,
            judgements,
            runs,
            measures,
            num_passages=dataset.num_passages,
            num_unjudged=len(queries) - len(judgements.grades),
        )
        _write_per_query(artifact.path / "per_query.csv", runs, measures)
        (artifact.path / "metrics.json").write_bytes(orjson.dumps(metrics, option=orjson.OPT_INDENT_2))
        write_report(artifact.path / "report.html", Report(config, dataset, judgements, runs, metrics))
        artifact.metrics.update(summary.flat(metrics))
    log.event(metrics["headline"])


def _check(config: EvaluateConfig) -> None:
    if not 0 < config.confidence < 1:
        raise ValueError(f"confidence {config.confidence}: must lie between 0 and 1, for example 0.95")
    for name in ("depth", "num_resamples", "min_grade"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} {getattr(config, name)}: must be at least 1")


def _queries(dataset: Dataset, split: str, judgements: Judgements) -> list[Query]:
    """Queries of the split, and judged queries that are listed elsewhere, in the collection's order."""
    in_split = {query.query_id for query in dataset.queries(split)}
    return [query for query in dataset.queries() if query.query_id in in_split or query.query_id in judgements.grades]


def _systems(config: EvaluateConfig, dataset: Dataset) -> Iterator[tuple[str, Search]]:
    """The systems one after another, so that memory holds one index at a time; both indexes are checked before anything is searched."""
    set_threads(num_cores())
    pairs = {
        "base": (config.base_encoder_uri, config.base_index_uri),
        "trained": (config.encoder_uri, config.index_uri),
    }
    paths = {
        name: _open_pair(encoder_uri, index_uri, config.dataset_uri) for name, (encoder_uri, index_uri) in pairs.items()
    }
    yield "bm25", BM25(dataset).search
    for name, (encoder_path, index_path) in paths.items():
        yield name, _dense(encoder_path, index_path)


def _open_pair(encoder_uri: str, index_uri: str, dataset_uri: str) -> tuple[Path, Path]:
    encoder_path, index_path = open_artifact(encoder_uri), open_artifact(index_uri)
    PassageIndex.open(index_path, encoder_digest=encoder_digest(encoder_path))
    found, wanted = read_manifest(index_uri).inputs["dataset"], read_manifest(dataset_uri).digest
    if found != wanted:
        raise ValueError(
            f"{index_uri}: made over dataset {found[:12]}, asked to search dataset {wanted[:12]} ({dataset_uri}); build the index again"
        )
    return encoder_path, index_path


def _dense(encoder_path: Path, index_path: Path) -> Search:
    encoder = Encoder(encoder_path)
    index = PassageIndex.open(index_path, encoder_digest=encoder.digest)

    def search(texts: list[str], depth: int) -> list[list[Hit]]:
        return index.search(encoder.encode_queries(texts), depth)

    return search


def _metrics(
    config: EvaluateConfig,
    judgements: Judgements,
    runs: Mapping[str, SystemRun],
    measures: Sequence[Measure],
    *,
    num_passages: int,
    num_unjudged: int,
) -> dict[str, Any]:
    """The content of metrics.json."""
    names = [str(measure) for measure in measures]
    wanted = {name: run.values[:, : len(names)] for name, run in runs.items()}
    systems, comparisons = compare(
        wanted,
        measures=names,
        pairs=PAIRS,
        num_resamples=config.num_resamples,
        confidence=config.confidence,
        seed=config.seed,
    )
    judge: dict[str, Any] = {"kind": judgements.kind}
    if judgements.kind == "llm":
        judge |= {"model": ", ".join(judgements.models), "taught": judgements.taught}
    curve = {name: run.values[:, len(names) : -1].mean(axis=0) for name, run in runs.items()}
    metrics = {
        "split": config.split,
        "judge": judge,
        "num_queries": len(judgements.grades),
        "num_judgements": judgements.num_judgements,
        "num_without_relevant": len(judgements.without_relevant(min_grade=config.min_grade)),
        "num_unjudged": num_unjudged,
        "num_dropped": judgements.num_dropped,
        "num_self_matches": sum(run.num_self_matches for run in runs.values()),
        "num_passages": num_passages,
        "depth": config.depth,
        "min_grade": config.min_grade,
        "measures": names,
        "headline_measure": names[0],
        "confidence": config.confidence,
        "num_resamples": config.num_resamples,
        "systems": {
            name: {measure: asdict(interval) for measure, interval in its.items()} for name, its in systems.items()
        },
        "comparisons": [asdict(comparison) for comparison in comparisons],
        "recall_curve": {
            "cutoffs": _cutoffs(config, num_passages),
            "systems": {name: its.tolist() for name, its in curve.items()},
        },
        "judged_at_10": {name: float(run.values[:, -1].mean()) for name, run in runs.items()},
    }
    return metrics | {
        "headline": summary.claims(metrics),
        "evidence": summary.evidence(metrics),
        "notes": summary.notes(metrics),
    }


def _cutoffs(config: EvaluateConfig, num_passages: int) -> list[int]:
    return [
        measure["cutoff"]
        for measure in curve_measures(depth=min(config.depth, num_passages), min_grade=config.min_grade)
    ]


def _write_per_query(path: Path, runs: Mapping[str, SystemRun], measures: Sequence[Measure]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query_id", "system", *map(str, measures)])
        for row, query_id in enumerate(next(iter(runs.values())).query_ids):
            for name, run in runs.items():
                writer.writerow([query_id, name, *(repr(float(value)) for value in run.values[row, : len(measures)])])
