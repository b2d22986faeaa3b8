"""evaluate: runs of five systems over the held-out queries, what they are worth, and a report for people."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from ir_measures import Measure

from components.evaluate import likeness, summary
from components.evaluate.config import EvaluateConfig
from components.evaluate.gate.decision import Decision, Evidence, decide
from components.evaluate.gate.policy import Policy, read_policy
from components.evaluate.judgements import Judgements, find_judgements
from components.evaluate.measures import JUDGED, curve_measures, parse_measures
from components.evaluate.metrics import compute_metrics
from components.evaluate.report import Report, write_report
from components.evaluate.runs import RunWriter, Search, SystemRun, write_qrels
from components.evaluate.searches import dense, encoding_once, hybrid, lexical, measure_latency
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.contract.verdict import VERDICT, write_decision
from components.shared.corpus import check_corpus
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import num_cores
from components.shared.fusion.hybrid import Hybrid
from components.shared.fusion.tuned import Fusion, read_fusion
from components.shared.index import set_threads
from components.shared.index.opening import open_pair
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Query


def evaluate(config: EvaluateConfig) -> None:
    """Searches with BM25, both encoders and their hybrids, measures, compares, and writes everything down.

    Raises:
        ValueError: Where nobody judged the split, a measure is unknown, an index belongs to another encoder or
            dataset, or the encoders are not like for like.
    """
    measures = parse_measures(config.measures, min_grade=config.min_grade)
    policy = _read_policy(config)
    dataset = Dataset(open_artifact(config.dataset_uri))
    folders = [open_artifact(uri) for uri in config.annotations_uri.split(",") if uri]
    judgements = find_judgements(dataset, split=config.split, annotation_folders=folders, min_grade=config.min_grade)
    queries = _queries(dataset, config.split, judgements)
    rankers = _open_rankers(config, dataset, queries)
    differences = likeness.find_differences(rankers["base"].properties, rankers["trained"].properties)
    likeness.check(differences, allowed=config.allow_unlike == "yes")
    extras = [*curve_measures(depth=min(config.depth, dataset.num_passages), min_grade=config.min_grade), JUDGED]
    with artifact_writer("evaluate", config) as artifact:
        writer = RunWriter(dataset, queries, judgements.grades, [*measures, *extras], config.depth, config.min_grade)
        (artifact.path / "runs").mkdir(exist_ok=True)
        made, p95_ms = {}, None
        for name, search in _systems(rankers, dataset, config.engine):
            made[name] = writer.run(name, search, artifact.path / "runs" / f"{name}.trec")
            if name == policy.candidate and policy.max_p95_ms is not None:
                p95_ms = float(measure_latency(search, queries)["p95_ms"])
        runs = {name: made[name] for name in summary.SYSTEM_NAMES}
        write_qrels(artifact.path / "qrels.trec", judgements.grades)
        about = {
            "unlike": differences,
            "cut": {name: ranker.cut for name, ranker in rankers.items()},
            "fusion": {name: asdict(ranker.fusion) for name, ranker in rankers.items()},
            "training": _training(config.encoder_uri),
            "num_passages": dataset.num_passages,
            "num_unjudged": len(queries) - len(judgements.grades),
        }
        metrics = compute_metrics(config, judgements, runs, measures, about)
        _write_per_query(artifact.path / "per_query.csv", runs, measures)
        decision = _decide(config, policy, judgements, runs, p95_ms)
        write_decision(artifact.path, decision.as_json())
        metrics["gate"] = decision.as_json()
        (artifact.path / "report.md").write_text(summary.markdown(metrics), encoding="utf-8")
        (artifact.path / "metrics.json").write_bytes(orjson.dumps(metrics, option=orjson.OPT_INDENT_2))
        write_report(artifact.path / "report.html", Report(config, dataset, judgements, runs, metrics))
        artifact.metrics.update({**summary.flat(metrics), VERDICT: decision.verdict})
    log.event(metrics["headline"])


def _read_policy(config: EvaluateConfig) -> Policy:
    policy = read_policy(config.policy_uri)
    for system in (policy.candidate, policy.production):
        if system not in summary.SYSTEM_NAMES:
            raise ValueError(f"{config.policy_uri}: no system {system!r}; known are {', '.join(summary.SYSTEM_NAMES)}")
    return policy


def _decide(
    config: EvaluateConfig, policy: Policy, judgements: Judgements, runs: Mapping[str, SystemRun], p95_ms: float | None
) -> Decision:
    index_uri = {"bm25": "", "base": config.base_index_uri, "hybrid_base": config.base_index_uri}.get(
        policy.candidate, config.index_uri
    )
    # BM25 searches exactly; an index says itself what it loses.
    recall = read_manifest(index_uri).metrics.get("recall_10") if index_uri else 1.0
    evidence = Evidence(
        collection=config.split,
        measure=config.measures.split()[0],
        candidate=runs[policy.candidate].values[:, 0],
        production=runs[policy.production].values[:, 0],
        topics=None,
        is_human=judgements.kind == "human",
        index_recall=None if recall is None else float(recall),
        p95_ms=p95_ms,
    )
    return decide(policy, [evidence])


def _training(encoder_uri: str) -> dict[str, Any]:
    """Which weights train kept and why, as export handed it on; empty for an encoder that no training made."""
    metrics = read_manifest(encoder_uri).metrics
    return {name: metrics[name] for name in ("kept", "kept_reason", "trained_share") if name in metrics}


def _queries(dataset: Dataset, split: str, judgements: Judgements) -> list[Query]:
    """Queries of the split, and judged queries that are listed elsewhere, in the collection's order."""
    in_split = {query.query_id for query in dataset.queries(split)}
    return [query for query in dataset.queries() if query.query_id in in_split or query.query_id in judgements.grades]


@dataclass(frozen=True)
class _Ranker:
    """An encoder with its index: where they lie, what is compared before anything is searched, and what is cut."""

    encoder_uri: str
    index_uri: str
    fusion: Fusion
    properties: dict[str, Any]
    cut: dict[str, Any]


def _open_rankers(config: EvaluateConfig, dataset: Dataset, queries: Sequence[Query]) -> dict[str, _Ranker]:
    """Both encoders with their indexes, checked; none of them stays in memory."""
    set_threads(num_cores())
    uris = {
        "base": (config.base_encoder_uri, config.base_index_uri),
        "trained": (config.encoder_uri, config.index_uri),
    }
    rankers = {}
    for name, (encoder_uri, index_uri) in uris.items():
        encoder, index = open_pair(encoder_uri, index_uri, engine=config.engine)
        check_corpus(index_uri, config.dataset_uri)
        encoder_path, index_path = open_artifact(encoder_uri), open_artifact(index_uri)
        fusion = read_fusion(index_path)
        properties = likeness.properties(encoder, encoder_path, index.settings, fusion)
        cut = likeness.measure_cuts(encoder, dataset, queries, seed=config.seed)
        rankers[name] = _Ranker(encoder_uri, index_uri, fusion, properties, cut)
    return rankers


def _systems(rankers: Mapping[str, _Ranker], dataset: Dataset, engine: str) -> Iterator[tuple[str, Search]]:
    """The systems one after another, so that memory holds one index at a time."""
    bm25 = BM25(dataset)
    yield "bm25", lexical(bm25)
    for name, ranker in rankers.items():
        encoder, index = open_pair(ranker.encoder_uri, ranker.index_uri, engine=engine)
        encode = encoding_once(encoder)
        yield name, dense(encode, index)
        yield f"hybrid_{name}", hybrid(encode, Hybrid(bm25, index, ranker.fusion), dataset)


def _write_per_query(path: Path, runs: Mapping[str, SystemRun], measures: Sequence[Measure]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query_id", "system", *map(str, measures)])
        for row, query_id in enumerate(next(iter(runs.values())).query_ids):
            for name, run in runs.items():
                writer.writerow([query_id, name, *(repr(float(value)) for value in run.values[row, : len(measures)])])
