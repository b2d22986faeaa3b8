"""suites: searches what was not searched yet, measures, compares what was declared, decides, and writes it down."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from components.evaluate import likeness
from components.evaluate.gate.decision import Decision, Evidence, decide
from components.evaluate.gate.policy import Policy, read_policy
from components.evaluate.runs import write_qrels
from components.evaluate.suites import wording
from components.evaluate.suites.cells import RUN_NAME, CellConfig, open_collection, read_latency, search_cell
from components.evaluate.suites.config import SuiteConfig
from components.evaluate.suites.figures import compute_figures
from components.evaluate.suites.report import write_suite_report
from components.evaluate.suites.results import Results, measure_run, open_results
from components.evaluate.suites.suite import Collection, Suite, System, addresses, read_suite
from components.shared import log
from components.shared.contract.verdict import write_decision
from components.shared.encoding.encoder import Encoder
from components.shared.fusion.tuned import read_fusion
from components.shared.index import open_index
from components.shared.manifest import artifact_writer, open_artifact, read_manifest


def evaluate_suite(config: SuiteConfig) -> None:
    """Makes every cell that is missing, then the figures, the gate and the reports of all.

    Raises:
        ValueError: Where the suite or the policy file is wrong, an artifact is damaged or does not fit another, or
            encoders that are compared are not like for like.
    """
    suite = read_suite(config.suite_uri)
    policy = read_policy(config.policy_uri) if config.policy_uri else None
    _check_inputs(config, suite, policy)
    differences = find_unlike(suite)
    if differences and not suite.allow_unlike:
        raise ValueError(
            f"{config.suite_uri}: not like for like: {'; '.join(differences)}. What the encoders are worth cannot be "
            "told apart from these settings: export and index both with the same ones, or write allow_unlike = true, "
            "and the page says first how they differ"
        )
    results = [_measure(suite, collection, config.cells_uri) for collection in suite.collections]
    with artifact_writer("evaluate.suites", config) as artifact:
        figures = compute_figures(suite, results) | {"unlike": differences, "gate": None}
        if policy is not None:
            decision = _decide(policy, suite, results)
            write_decision(artifact.path, decision.as_json())
            figures["gate"] = decision.as_json()
        figures |= {
            "headline": wording.headline(figures),
            "evidence": wording.evidence(figures),
            "notes": wording.notes(figures),
        }
        for of_collection in results:
            _write_runs(artifact.path, config.cells_uri, of_collection)
        _write_per_query(artifact.path / "per_query.csv", suite, results)
        (artifact.path / "metrics.json").write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
        (artifact.path / "report.md").write_text(wording.markdown(figures), encoding="utf-8")
        write_suite_report(artifact.path / "report.html", suite, results, figures)
        artifact.metrics.update(wording.flat(figures))
    log.event(figures["headline"])
    if figures["gate"] is not None:
        log.event(f"gate: {figures['gate']['verdict']}", reasons=figures["gate"]["reasons"])


def cell_config(suite: Suite, collection: Collection, system: System, cells_uri: str) -> CellConfig:
    """How a system is searched on a collection."""
    return CellConfig(
        dataset_uri=collection.dataset,
        output_uri=f"{cells_uri.rstrip('/')}/{collection.name}/{system.name}",
        encoder_uri=system.address("encoder", collection.name),
        index_uri=system.address("index", collection.name),
        run_uri=system.address("run", collection.name),
        annotations_uri=collection.annotations,
        system=system.name,
        kind=system.kind,
        split=collection.split,
        depth=suite.depth,
        min_grade=collection.min_grade,
        self_matches=collection.self_matches,
    )


def _check_inputs(config: SuiteConfig, suite: Suite, policy: Policy | None) -> None:
    named, given = addresses(suite), [uri for uri in config.artifacts_uri.split(",") if uri]
    if sorted(named) != sorted(given):
        raise ValueError(
            f"--artifacts-uri does not name what {config.suite_uri} names: {sorted(set(named) ^ set(given))} differ; "
            f"`retriever evaluate` fills it, or write --artifacts-uri {','.join(named)}"
        )
    for system in (policy.candidate, policy.production) if policy is not None else ():
        if system not in suite.labels:
            raise ValueError(f"{config.policy_uri}: {config.suite_uri} has no system {system!r}; name one of it")


def find_unlike(suite: Suite) -> list[str]:
    """How encoders that are compared differ in what training may not change; nothing where they are like for like."""
    systems = {system.name: system for system in suite.systems}
    lines = []
    for one, other in suite.comparisons:
        both = systems[one], systems[other]
        shared = [row.name for row in suite.collections if all(system.meets(row.name) for system in both)]
        if shared and all(system.encoder for system in both):
            known = [_properties(system, shared[0]) for system in both]
            lines += [f"{difference} ({other} against {one})" for difference in likeness.find_differences(*known[::-1])]
    return list(dict.fromkeys(lines))


def _properties(system: System, collection: str) -> dict[str, Any]:
    folder, index_folder = (open_artifact(system.address(name, collection)) for name in ("encoder", "index"))
    encoder = Encoder(folder)
    index = open_index(index_folder, encoder_digest=encoder.digest)
    return likeness.properties(encoder, folder, index.settings, read_fusion(index_folder))


def _measure(suite: Suite, collection: Collection, cells_uri: str) -> Results:
    systems = [system for system in suite.systems if system.meets(collection.name)]
    configs = {system.name: cell_config(suite, collection, system, cells_uri) for system in systems}
    folders = {name: search_cell(config) for name, config in configs.items()}
    dataset, judgements, queries = open_collection(next(iter(configs.values())))
    results = open_results(suite, collection, dataset, judgements, num_queries=len(queries))
    for name, folder in folders.items():
        num_self_matches = int(read_manifest(configs[name].output_uri).metrics["num_self_matches"])
        results.systems[name] = measure_run(
            results, folder / RUN_NAME, num_self_matches=num_self_matches, latency=read_latency(folder)
        )
    return results


def _decide(policy: Policy, suite: Suite, results: Sequence[Results]) -> Decision:
    systems = {system.name: system for system in suite.systems}
    candidate = systems[policy.candidate]
    evidence = [
        Evidence(
            collection=of_collection.collection.name,
            measure=str(of_collection.measures[0]),
            candidate=of_collection.primary(policy.candidate),
            production=of_collection.primary(policy.production),
            topics=of_collection.topics,
            is_human=of_collection.judgements.kind == "human",
            index_recall=_index_recall(candidate, of_collection.collection.name),
            p95_ms=of_collection.systems[policy.candidate].latency.get("p95_ms"),
        )
        for of_collection in results
        if {policy.candidate, policy.production} <= set(of_collection.systems)
    ]
    return decide(policy, evidence)


def _index_recall(system: System, collection: str) -> float | None:
    """What index measured of it against exact search; BM25 loses nothing, of a foreign run nobody knows."""
    if system.kind in ("bm25", "run"):
        return 1.0 if system.kind == "bm25" else None
    recall = read_manifest(system.address("index", collection)).metrics.get("recall_10")
    return None if recall is None else float(recall)


def _write_runs(folder: Path, cells_uri: str, results: Results) -> None:
    target = folder / "runs" / results.collection.name
    target.mkdir(parents=True, exist_ok=True)
    for name in results.systems:
        cell = open_artifact(f"{cells_uri.rstrip('/')}/{results.collection.name}/{name}")
        shutil.copyfile(cell / RUN_NAME, target / f"{name}.trec")
    write_qrels(target / "qrels.trec", results.judgements.grades)


def _write_per_query(path: Path, suite: Suite, results: Sequence[Results]) -> None:
    names = suite.measures.split()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["collection", "query_id", "system", *names])
        for of_collection in results:
            for row, query_id in enumerate(of_collection.query_ids):
                for name, measured in of_collection.systems.items():
                    values = (repr(float(value)) for value in measured.values[row, : len(names)])
                    writer.writerow([of_collection.collection.name, query_id, name, *values])
