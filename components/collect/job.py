"""The recipe of collect: pools of several runs; or, once they are judged, the collection and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from components.collect.agreement import (
    HUMAN,
    LLM,
    MERGED,
    Grades,
    compare_rankings,
    llm_grades,
    means,
    merge,
    passage_agreement,
    per_query,
)
from components.collect.config import CollectConfig
from components.collect.pooling import Rankings, draw_queries, make_pools, read_rankings
from components.collect.report import write_report
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.manifest import ArtifactWriter, artifact_writer, open_artifact, read_manifest
from components.shared.records import Annotation, read_records, write_records
from components.shared.roles import hint

POOLS_NAME, METRICS_NAME = "pools.jsonl", "metrics.json"
_ANNOTATIONS_NAME = "annotations.jsonl"
# Hits of a run that are measured, also where fewer of them are judged.
_MEASURED_DEPTH = 100


def collect(config: CollectConfig) -> None:
    """Writes the pools of the chosen queries, or the collection that the judgements of these pools give.

    Raises:
        ValueError: Where there are no runs or queries, or the judgements are of other pools.
    """
    if not config.num_queries:
        raise ValueError(f"num_queries is 0, so there is nothing to judge; say how many ({hint('num_queries', 50)})")
    dataset = Dataset(open_artifact(config.dataset_uri))
    query_ids = draw_queries(dataset, config)
    rankings = read_rankings(dataset, query_ids, config, depth=max(config.pool_depth, _MEASURED_DEPTH))
    with artifact_writer("collect", config) as artifact:
        if config.product == "pools":
            pools = make_pools(dataset, query_ids, rankings, config)
            num_passages = sum(len(pool.passage_ids) for pool in pools)
            write_records(artifact.path / POOLS_NAME, pools)
            artifact.metrics.update(num_pools=len(pools), num_passages=num_passages, num_systems=len(rankings))
            log.event("pools to judge", queries=len(pools), passages=num_passages, systems=len(rankings))
        else:
            _write_collection(artifact, config, dataset, rankings)


def _write_collection(artifact: ArtifactWriter, config: CollectConfig, dataset: Dataset, rankings: Rankings) -> None:
    annotations = list(_judgements(config))
    of_llm, of_people = llm_grades(annotations), dataset.human_qrels(config.split)
    # Under people alone, the LLM alone and both together, over the same queries.
    both: dict[str, Grades] = {LLM: of_llm, MERGED: merge(of_llm, of_people)}
    shared = [query_id for query_id in of_llm if query_id in of_people]
    named: dict[str, Grades] = {HUMAN: of_people, **both} if shared else both
    query_ids = shared or list(of_llm)
    values = {name: per_query(rankings, grades, query_ids, config.measure) for name, grades in named.items()}
    sure = {"num_resamples": config.num_resamples, "confidence": config.confidence, "seed": config.seed}
    metrics: dict[str, Any] = {
        "split": config.split,
        "measure": config.measure,
        "confidence": config.confidence,
        "pool_depth": config.pool_depth,
        "num_queries": len(query_ids),
        "num_without_labels": sum(_num_quarantined(uri) for uri in config.judgements_uri.split(",")),
        "num_judgements": sum(map(len, of_llm.values())),
        "num_useful": sum(sum(grades.values()) for grades in of_llm.values()),
        "judges": sorted({annotation.model for annotation in annotations}),
        "methods": sorted({annotation.method for annotation in annotations}),
        "systems": {
            name: {system: asdict(of) for system, of in zip(rankings, means(table, **sure), strict=True)}  # type: ignore[arg-type]
            for name, table in values.items()
        },
        "taus": [asdict(tau) for tau in compare_rankings(values, **sure)] if shared else [],  # type: ignore[arg-type]
        "agreement": passage_agreement(of_llm, of_people),
    }
    metrics["notes"] = list(_notes(config, metrics))
    _write_qrels(artifact.path, config.split, both)
    (artifact.path / METRICS_NAME).write_bytes(orjson.dumps(metrics, option=orjson.OPT_INDENT_2))
    write_report(artifact.path, metrics)
    taus = {f"tau_{tau['against']}": tau["tau"] for tau in metrics["taus"] if tau["tau"] is not None}
    artifact.metrics.update(num_queries=len(query_ids), num_judgements=metrics["num_judgements"], **taus)
    for note in metrics["notes"]:
        log.warning(note)


def _judgements(config: CollectConfig) -> Iterator[Annotation]:
    """The judged pools of all shards.

    Raises:
        ValueError: Where there are none, or one is of another split.
    """
    splits, seen = Dataset(open_artifact(config.dataset_uri)).splits, set[str]()
    for uri in config.judgements_uri.split(","):
        for annotation in read_records(open_artifact(uri) / _ANNOTATIONS_NAME, Annotation):
            if splits.get(annotation.query_id) != config.split or annotation.query_id in seen:
                raise ValueError(
                    f"{uri}: query {annotation.query_id!r} is not of split {config.split!r}, or is judged twice; name "
                    "the judgements of this collection's pools, each shard once"
                )
            seen.add(annotation.query_id)
            yield annotation
    if not seen:
        raise ValueError(f"{config.judgements_uri}: no pool could be judged, so there is no collection")


def _num_quarantined(uri: str) -> int:
    return int(read_manifest(uri).metrics.get("num_quarantined", 0))


def _notes(config: CollectConfig, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before believing the numbers."""
    judges = set(metrics["judges"])
    if same := sorted(judges & _models(config.annotations_uri)):
        yield (
            f"The LLM that judges, {same[0]}, also made the labels that the retriever was trained on: it agrees with "
            "itself, and systems that learned from it look better than they are. Judge with another model."
        )
    if same := sorted(judges & _models(config.answers_uri)):
        yield (
            f"The LLM that judges, {same[0]}, also wrote the answers: passages that this model likes look better in "
            "both measurements, so that one is no evidence for the other. Judge or answer with another model."
        )
    if not metrics["taus"]:
        yield "People judged none of these queries, or there is one system: nothing says if the LLM ranks as they do."


def _models(uris: str) -> set[str]:
    """The LLMs behind these artifacts."""
    return {str(read_manifest(uri).metrics.get("model", "")) for uri in uris.split(",") if uri}


def _write_qrels(folder: Path, split: str, named: Mapping[str, Grades]) -> None:
    """Both collections in TREC form, and the merged one as a split of a folder in BEIR layout."""
    (folder / "qrels").mkdir(exist_ok=True)
    for name, grades in named.items():
        lines = [f"{query_id} 0 {passage_id} {grade}\n" for query_id, passage_id, grade in _rows(grades)]
        (folder / f"qrels-{name}.trec").write_text("".join(lines), "utf-8")
    rows = [f"{query_id}\t{passage_id}\t{grade}\n" for query_id, passage_id, grade in _rows(named[MERGED])]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), "utf-8")


def _rows(grades: Grades) -> Sequence[tuple[str, str, int]]:
    return [(query_id, passage_id, grade) for query_id, row in grades.items() for passage_id, grade in row.items()]
