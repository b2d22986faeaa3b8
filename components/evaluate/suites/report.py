"""report.html of a suite: the verdict, all collections side by side, and where every number comes from.

As every page: no network, no script, and everything that was written by others is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from components.evaluate.suites.pictures import Pictures
from components.evaluate.suites.results import Results
from components.evaluate.suites.suite import Suite, addresses
from components.evaluate.suites.wording import DOMAINS, claim_sentence, claims_of, power_sentence
from components.evaluate.summary import p_number, verdict
from components.shared.durable import storage
from components.shared.manifest import LOGS, read_manifest
from components.shared.pages.page import open_environment

_TEMPLATE = "suite.html"
# Examples of each side of the first comparison, over all collections.
_SHOWN_EXAMPLES, _SHOWN_CHARACTERS = 3, 240
# What an annotation's quality.json and manifest say that stands beside an encoder's figures.
_COSTS = ("num_annotated", "model", "method", "calls_made", "prompt_tokens", "completion_tokens", "seconds")


def write_suite_report(path: Path, suite: Suite, results: Sequence[Results], figures: Mapping[str, Any]) -> None:
    """Renders the page."""
    environment = open_environment(Path(__file__).parent)
    environment.filters["p_number"] = p_number
    pictures = Pictures(suite.labels)
    system, against = suite.comparisons[0]
    page = environment.get_template(_TEMPLATE).render(
        figures=figures,
        domains=DOMAINS,
        numbers=pictures.numbers,
        claims=_claims(figures),
        sentences=[claim_sentence(figures, *pair) for pair in suite.comparisons],
        plots=_plots(pictures, suite, results, figures),
        pair=f"{suite.labels[system]} minus {suite.labels[against]}",
        examples={side: list(_examples(suite, results, side)) for side in ("gained", "lost")},
        latencies=_latencies(results),
        costs=list(_costs(suite)),
        inputs=[_input(uri) for uri in addresses(suite)],
    )
    path.write_text(page, encoding="utf-8")


def _claims(figures: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    labels = figures["labels"]
    return {
        f"{labels[system]} minus {labels[against]}": [
            row
            | {
                "collection": name,
                "verdict": verdict(row, confidence=figures["confidence"]),
                "power_text": power_sentence(row),
            }
            for name, row in claims_of(figures, system, against)
        ]
        for system, against in figures["claims"]
    }


def _plots(
    pictures: Pictures, suite: Suite, results: Sequence[Results], figures: Mapping[str, Any]
) -> dict[str, Markup | list[Markup]]:
    measure, labels = figures["primary_measure"], figures["labels"]
    groups = {
        name: {system: intervals[measure] for system, intervals in of_collection["systems"].items()}
        for name, of_collection in figures["collections"].items()
    }
    claims = {
        f"{labels[one]} minus {labels[other]}": rows
        for one, other in suite.comparisons
        if (rows := list(claims_of(figures, one, other)))
    }
    system, against = suite.comparisons[0]
    met = [of_collection for of_collection in results if {system, against} <= set(of_collection.systems)]
    curves = [(name, of_collection["recall_curve"]) for name, of_collection in figures["collections"].items()]
    return {
        "bars": pictures.bars(groups, measure),
        "forest": pictures.forest(claims) if claims else Markup(""),
        "recalls": [pictures.recall(curve["cutoffs"], curve["systems"], name) for name, curve in curves],
        "lengths": [
            pictures.by_group(of_collection["by_length"], f"{measure} on {name}", "words in the query")
            for name, of_collection in figures["collections"].items()
        ],
        "frequencies": [
            pictures.by_group(of_collection["by_frequency"], f"{measure} on {name}", "times the query was asked")
            if of_collection["by_frequency"]
            else Markup("")
            for name, of_collection in figures["collections"].items()
        ],
        "curves": [pictures.curve(axis, points, measure) for axis, points in figures["curves"].items()],
        "differences": [
            pictures.differences(
                (of_collection.primary(system) - of_collection.primary(against)).tolist(),
                system,
                against,
                of_collection.collection.name,
            )
            for of_collection in met
        ],
    }


def _examples(suite: Suite, results: Sequence[Results], side: str) -> Iterator[dict[str, Any]]:
    """The queries that moved most in the first comparison, a few of each collection, with what each system returned."""
    system, against = suite.comparisons[0]
    for of_collection in results:
        if not {system, against} <= set(of_collection.systems):
            continue
        differences = of_collection.primary(system) - of_collection.primary(against)
        order = (-differences if side == "gained" else differences).argsort(kind="stable")[:_SHOWN_EXAMPLES]
        for row in map(int, order):
            if (differences[row] > 0) if side == "gained" else (differences[row] < 0):
                yield _example(of_collection, row, float(differences[row]))


def _example(results: Results, row: int, difference: float) -> dict[str, Any]:
    query_id = results.query_ids[row]
    return {
        "collection": results.collection.name,
        "text": results.dataset.query(query_id).text,
        "difference": difference,
        "systems": [
            {"name": name, "value": float(measured.values[row, 0]), "hits": _hits(results, query_id, name)}
            for name, measured in results.systems.items()
        ],
    }


def _hits(results: Results, query_id: str, system: str) -> list[dict[str, Any]]:
    grades = results.judgements.grades[query_id]
    hits = []
    for passage_id in results.systems[system].top.get(query_id, ()):
        grade = grades.get(passage_id)
        relevant = grade is not None and grade >= results.collection.min_grade
        judgement = "not judged" if grade is None else f"relevant (grade {grade})" if relevant else "not relevant"
        hits.append(
            {"passage_id": passage_id, "judgement": judgement, "relevant": relevant} | _text(results, passage_id)
        )
    return hits


def _text(results: Results, passage_id: str) -> dict[str, str]:
    """Title and beginning of a passage; a run that was made elsewhere may name one that the corpus does not hold."""
    try:
        passage = results.dataset.passage(passage_id)
    except KeyError:
        return {"title": "", "text": "(not in this corpus)"}
    text = " ".join(passage.text.split())
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS].rsplit(" ", 1)[0] + " ..."
    return {"title": passage.title, "text": cut}


def _latencies(results: Sequence[Results]) -> list[dict[str, Any]]:
    return [
        {"collection": of_collection.collection.name, "system": name, **measured.latency}
        for of_collection in results
        for name, measured in of_collection.systems.items()
        if measured.latency
    ]


def _costs(suite: Suite) -> Iterator[dict[str, Any]]:
    """Quality and cost of the labels that an encoder learned from, where the suite names them."""
    for collection, system in suite.cells():
        for uri in filter(None, system.address("annotations", collection.name).split(",")):
            metrics = read_manifest(uri).metrics
            facts = {name: metrics[name] for name in _COSTS if name in metrics}
            yield {"system": system.name, "uri": uri, "facts": facts | _agreement(uri)}


def _agreement(uri: str) -> dict[str, Any]:
    """What the annotations' own report says: agreement with people, and dollars for a thousand queries."""
    path = f"{uri.rstrip('/')}/{LOGS}quality.json"
    if not storage.exists(path):
        return {}
    (annotator, *_) = orjson.loads(storage.read_bytes(path))["annotators"]
    facts: dict[str, Any] = {}
    for people, agreed in annotator["levels"].get("useful", {}).get("against", {}).items():
        shares = {f"{name} ({people})": agreed[name]["value"] for name in ("precision", "recall")}
        facts |= {name: round(share, 3) for name, share in shares.items() if share is not None}
    dollars = annotator["ledger"].get("total", {}).get("dollars_per_thousand_queries")
    return facts | ({"dollars per 1,000 queries": round(dollars, 2)} if dollars else {})


def _input(uri: str) -> dict[str, Any]:
    """What an input's manifest says of it; a plain file has its digest only."""
    if not storage.exists(f"{uri.rstrip('/')}/{storage.MANIFEST_NAME}"):
        return {"uri": uri, "component": "a file", "created": "", "digest": storage.content_digest(uri), "inputs": {}}
    manifest = read_manifest(uri)
    return {
        "uri": uri,
        "component": manifest.component,
        "created": manifest.created,
        "digest": manifest.digest,
        "inputs": manifest.inputs,
    }
