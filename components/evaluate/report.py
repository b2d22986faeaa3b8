"""report.html: the whole evaluation on one page that opens anywhere, without network or script.

Queries and passages are untrusted text: everything is escaped by the template, and a content security policy forbids
scripts and requests besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from components.evaluate import plots
from components.evaluate.config import EvaluateConfig
from components.evaluate.judgements import Judgements
from components.evaluate.runs import SystemRun
from components.evaluate.summary import SYSTEM_NAMES, cut, fusions, p_number, unlike, verdict
from components.shared.dataset import Dataset
from components.shared.identity import settings
from components.shared.manifest import Manifest, input_digests, read_manifest
from components.shared.pages.page import open_environment

_TEMPLATE = "report.html"
_SHOWN_EXAMPLES = 5
_SHOWN_RELEVANT = 2
_SHOWN_CHARACTERS = 240
_PACKAGES = ("bm25s", "faiss-cpu", "ir-measures", "numpy", "onnxruntime", "pytrec-eval-terrier", "scipy", "tokenizers")
_STEPS = {
    "dataset": "collection",
    "annotations": "annotations",
    "base_encoder": "base encoder",
    "base_index": "index of the base encoder",
    "encoder": "trained encoder",
    "index": "index of the trained encoder",
}


@dataclass(frozen=True)
class Report:
    """What the page is made of."""

    config: EvaluateConfig
    dataset: Dataset
    judgements: Judgements
    runs: Mapping[str, SystemRun]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class ShownPassage:
    """A passage in an example, with what the judge said of it."""

    passage_id: str
    title: str
    text: str
    judgement: str
    relevant: bool


@dataclass(frozen=True)
class Example:
    """A query with its values, and the first hits of each system."""

    query_id: str
    text: str
    difference: float
    systems: list[dict[str, Any]]
    relevant: list[ShownPassage]


def write_report(path: Path, report: Report) -> None:
    """Renders the page."""
    environment = open_environment(Path(__file__).parent)
    environment.filters["p_number"] = p_number
    differences = _headline(report, "trained") - _headline(report, "base")
    page = environment.get_template(_TEMPLATE).render(
        metrics=report.metrics,
        unlike=unlike(report.metrics),
        cut=_cut_line(report.metrics),
        fusions=fusions(report.metrics),
        names=SYSTEM_NAMES,
        colours=plots.COLOURS,
        comparisons=_comparisons(report),
        plots=_plots(report, differences),
        wins=_examples(report, differences, best=True),
        losses=_examples(report, differences, best=False),
        steps=_steps(report.config),
        settings=settings(report.config),
        versions={name: _version(name) for name in _PACKAGES},
    )
    path.write_text(page, encoding="utf-8")


def _cut_line(metrics: dict[str, Any]) -> str:
    """How many texts are cut; empty where a note says it already."""
    line = cut(metrics)
    return "" if any(note.startswith(line) for note in metrics["notes"]) else line


def _comparisons(report: Report) -> dict[str, list[dict[str, Any]]]:
    """Comparisons with their verdict, by the pair they compare."""
    by_pair: dict[str, list[dict[str, Any]]] = {}
    for comparison in report.metrics["comparisons"]:
        pair = f"{SYSTEM_NAMES[comparison['system']]} minus {SYSTEM_NAMES[comparison['against']]}"
        by_pair.setdefault(pair, []).append(
            comparison | {"verdict": verdict(comparison, confidence=report.config.confidence)}
        )
    return by_pair


def _headline(report: Report, system: str) -> np.ndarray:
    return report.runs[system].values[:, 0]


def _plots(report: Report, differences: np.ndarray) -> dict[str, Markup]:
    metrics = report.metrics
    shown = [
        comparison
        for measure in metrics["measures"]
        for comparison in metrics["comparisons"]
        if comparison["system"] == "trained" and comparison["measure"] == measure
    ]
    ranks = {name: list(run.first_relevant.values()) for name, run in report.runs.items()}
    return {
        "bars": plots.bars(metrics["systems"], metrics["measures"]),
        "forest": plots.forest(shown),
        "recall": plots.recall_curve(metrics["recall_curve"]["cutoffs"], metrics["recall_curve"]["systems"]),
        "differences": plots.differences(differences.tolist()),
        "scatter": plots.scatter(_headline(report, "base").tolist(), _headline(report, "trained").tolist()),
        "ranks": plots.ranks(ranks),
    }


def _examples(report: Report, differences: np.ndarray, *, best: bool) -> list[Example]:
    order = np.argsort(-differences if best else differences, kind="stable")[:_SHOWN_EXAMPLES]
    rows = [int(row) for row in order if (differences[row] > 0 if best else differences[row] < 0)]
    return [_example(report, row, float(differences[row])) for row in rows]


def _example(report: Report, row: int, difference: float) -> Example:
    query_id = report.runs["trained"].query_ids[row]
    grades = report.judgements.grades[query_id]
    relevant = [passage_id for passage_id, grade in grades.items() if grade >= report.config.min_grade]
    systems = [
        {
            "name": name,
            "value": float(run.values[row, 0]),
            "rank": run.first_relevant[query_id],
            "hits": _shown(report, query_id, run.top[query_id]),
        }
        for name, run in report.runs.items()
    ]
    shown = [passage_id for passage_id in relevant if _is_in_corpus(report.dataset, passage_id)][:_SHOWN_RELEVANT]
    return Example(query_id, report.dataset.query(query_id).text, difference, systems, _shown(report, query_id, shown))


def _shown(report: Report, query_id: str, passage_ids: Sequence[str]) -> list[ShownPassage]:
    grades = report.judgements.grades[query_id]
    shown = []
    for passage_id in passage_ids:
        passage = report.dataset.passage(passage_id)
        grade = grades.get(passage_id)
        relevant = grade is not None and grade >= report.config.min_grade
        judgement = "not judged" if grade is None else f"relevant (grade {grade})" if relevant else "not relevant"
        shown.append(ShownPassage(passage_id, passage.title, _cut(passage.text), judgement, relevant))
    return shown


def _is_in_corpus(dataset: Dataset, passage_id: str) -> bool:
    try:
        dataset.row(passage_id)
    except KeyError:
        return False
    return True


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS].rsplit(" ", 1)[0] + " ..."


def _steps(config: EvaluateConfig) -> list[dict[str, Any]]:
    """What the manifests of the inputs say: the way from the collection to this page."""
    digests = input_digests(config)
    steps = []
    for name, text in _STEPS.items():
        uris = [uri for uri in getattr(config, f"{name}_uri").split(",") if uri]
        for uri, digest in zip(uris, digests[name].split(",") if uris else [], strict=True):
            steps.append({"text": text, "digest": digest} | _facts(read_manifest(uri)))
    return steps


def _facts(manifest: Manifest) -> dict[str, Any]:
    kept = {
        name: value for name, value in manifest.config.items() if not name.endswith("_uri") and value not in ("", None)
    }
    numbers = {name: value for name, value in manifest.metrics.items() if isinstance(value, int | float | str)}
    return {
        "component": manifest.component,
        "seconds": manifest.seconds,
        "created": manifest.created,
        "settings": kept,
        "metrics": numbers,
        "versions": manifest.versions,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
