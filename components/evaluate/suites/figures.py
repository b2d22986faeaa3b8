"""The content of a suite's metrics.json: means, claims, averages over collections, power, and queries that moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from components.evaluate.measures import signature
from components.evaluate.suites.results import Results
from components.evaluate.suites.suite import Collection, Suite
from components.shared.measuring.power import power_of
from components.shared.measuring.statistics import Comparison, bootstrap_means, compare, corrected, interval_of

_MOVED = 5
# Words of a query, as people would group them: keywords, a phrase, a sentence, more.
_LENGTHS = ((1, 3, "1-3"), (4, 6, "4-6"), (7, 10, "7-10"), (11, 15, "11-15"), (16, 10**9, "16+"))
# Times that a query was asked: few are asked often and many once, so the groups grow.
_FREQUENCIES = (
    *((0, 0, "0"), (1, 1, "1"), (2, 3, "2-3"), (4, 9, "4-9")),
    *((10, 99, "10-99"), (100, 999, "100-999"), (1000, 10**18, "1000+")),
)


def compute_figures(suite: Suite, results: Sequence[Results]) -> dict[str, Any]:
    """Everything that is measured of a suite."""
    names = [str(measure) for measure in results[0].measures]
    by_collection, claims = {}, []
    for of_collection in results:
        figures, comparisons = _figures_of(suite, of_collection)
        by_collection[of_collection.collection.name] = figures
        claims += comparisons
    # One family: the declared comparisons of the primary measure on all collections.
    family = corrected([claim for _, claim in claims], primary=claims[0][1].measure if claims else "")
    for (name, _), claim in zip(claims, family, strict=True):
        by_collection[name]["comparisons"].append(asdict(claim))
    _add_power(suite, results, by_collection, num_claims=sum(claim.p_holm is not None for claim in family))
    return {
        "title": suite.title,
        "measures": suite.measures.split(),
        "primary_measure": suite.measures.split()[0],
        "columns": names,
        "labels": suite.labels,
        "claims": [list(pair) for pair in suite.comparisons],
        "num_claims": sum(claim.p_holm is not None for claim in family),
        "confidence": suite.confidence,
        "num_resamples": suite.num_resamples,
        "depth": suite.depth,
        "collections": by_collection,
        "averages": averages(suite, results),
        "curves": _curves(suite, results),
    }


def _curves(suite: Suite, results: Sequence[Results]) -> dict[str, list[dict[str, Any]]]:
    """For each axis its systems in order, with their means of the primary measure on each collection."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for system in sorted(suite.systems, key=lambda system: system.position):
        if system.axis:
            means = {
                of_collection.collection.name: float(of_collection.primary(system.name).mean())
                for of_collection in results
                if system.name in of_collection.systems
            }
            point = {"position": system.position, "system": system.name, "means": means}
            curves.setdefault(system.axis, []).append(point)
    return {axis: points for axis, points in curves.items() if len(points) > 1}


def _figures_of(suite: Suite, results: Results) -> tuple[dict[str, Any], list[tuple[str, Comparison]]]:
    collection, judgements, systems = results.collection, results.judgements, results.systems
    # The names that the suite file uses, also where a grade makes it RR(rel=2)@10.
    names = suite.measures.split()
    pairs = [pair for pair in suite.comparisons if set(pair) <= set(systems)]
    intervals, comparisons = compare(
        {name: measured.values[:, : len(names)] for name, measured in systems.items()},
        measures=names,
        pairs=pairs,
        num_resamples=suite.num_resamples,
        confidence=suite.confidence,
        seed=suite.seed,
        primary=names[0],
        topics=results.topics,
    )
    curve = slice(len(names), len(names) + len(results.curve))
    figures = {
        "split": collection.split,
        "domain": collection.domain,
        "group": collection.group,
        "min_grade": collection.min_grade,
        "judge": {"kind": judgements.kind, "models": list(judgements.models)},
        "num_queries": len(results.query_ids),
        "num_topics": len(results.query_ids) if results.topics is None else int(results.topics.max()) + 1,
        "num_passages": results.dataset.num_passages,
        "num_judgements": judgements.num_judgements,
        "num_unjudged": results.num_unjudged,
        "num_dropped": judgements.num_dropped,
        "num_without_relevant": len(judgements.without_relevant(min_grade=collection.min_grade)),
        "num_self_matches": {name: measured.num_self_matches for name, measured in systems.items()},
        "num_without_hits": {name: measured.num_without_hits for name, measured in systems.items()},
        "signatures": {
            name: _signature(suite, collection, measure) for name, measure in zip(names, results.measures, strict=True)
        },
        "systems": {
            name: {measure: asdict(interval) for measure, interval in of_system.items()}
            for name, of_system in intervals.items()
        },
        "judged_at_10": {name: float(measured.values[:, -1].mean()) for name, measured in systems.items()},
        "recall_curve": {
            "cutoffs": [measure["cutoff"] for measure in results.curve],
            "systems": {name: measured.values[:, curve].mean(axis=0).tolist() for name, measured in systems.items()},
        },
        "by_length": _by_group(results, _num_words(results), _LENGTHS),
        "by_frequency": [] if results.frequencies is None else _by_group(results, results.frequencies, _FREQUENCIES),
        "comparisons": [],
        "moved": {f"{system} minus {against}": _moved(results, system, against) for system, against in pairs},
    }
    return figures, [(collection.name, comparison) for comparison in comparisons]


def _signature(suite: Suite, collection: Collection, measure: Any) -> str:  # noqa: ANN401 ir-measures ships no types
    return signature(
        measure,
        split=collection.split,
        depth=suite.depth,
        min_grade=collection.min_grade,
        drops_self=collection.self_matches == "drop",
    )


def _add_power(
    suite: Suite, results: Sequence[Results], by_collection: Mapping[str, dict[str, Any]], *, num_claims: int
) -> None:
    """For each claim what its test set could have shown, at the level of Holm's first and hardest step."""
    level = (1 - suite.confidence) / max(1, num_claims)
    for of_collection in results:
        figures = by_collection[of_collection.collection.name]
        for comparison in figures["comparisons"]:
            if comparison["p_holm"] is None:
                continue
            differences = of_collection.primary(comparison["system"]) - of_collection.primary(comparison["against"])
            comparison["power"] = asdict(power_of(differences, level=level, topics=of_collection.topics))


def _moved(results: Results, system: str, against: str) -> dict[str, list[dict[str, Any]]]:
    """The queries with the largest differences in the primary measure, either way."""
    differences = results.primary(system) - results.primary(against)
    order = np.argsort(-differences, kind="stable")
    sides = {"gained": order[:_MOVED], "lost": order[::-1][:_MOVED]}
    return {
        side: [
            {"query_id": results.query_ids[row], "difference": float(differences[row])}
            for row in rows
            if (differences[row] > 0) == (side == "gained") and differences[row] != 0
        ]
        for side, rows in sides.items()
    }


def _num_words(results: Results) -> np.ndarray:
    return np.array([len(results.dataset.query(query_id).text.split()) for query_id in results.query_ids])


def _by_group(results: Results, values: np.ndarray, groups: Sequence[tuple[int, int, str]]) -> list[dict[str, Any]]:
    """Means of the primary measure for the queries whose value lies in each group; groups without queries are left out.

    Args:
        results: Of one collection.
        values: One of each judged query.
        groups: Smallest and largest value of each, both in it, and its label.
    """
    rows = []
    for low, high, label in groups:
        here = (values >= low) & (values <= high)
        if here.any():
            means = {name: float(results.primary(name)[here].mean()) for name in results.systems}
            rows.append({"group": label, "num_queries": int(here.sum()), "systems": means})
    return rows


def averages(suite: Suite, results: Sequence[Results]) -> dict[str, dict[str, Any]]:
    """Means of the primary measure over collections, each counting alike whatever its number of queries.

    Collections of one group count as one, by the mean of their values: so BEIR counts CQADupStack's twelve forums. A
    system that did not meet every collection of an average has none. Averages describe: no claim is made of them.

    Source: Thakur et al. 2021, BEIR.
    """
    made: dict[str, dict[str, Any]] = {}
    for domain, wanted in (("in", ("in",)), ("out", ("out",)), ("all", ("in", "out"))):
        chosen = [of_collection for of_collection in results if of_collection.collection.domain in wanted]
        if len(chosen) < 2 or (domain == "all" and made and len(chosen) in _sizes(made)):
            continue
        made[domain] = _average(suite, chosen)
    return made


def _sizes(made: Mapping[str, Mapping[str, Any]]) -> set[int]:
    return {len(average["collections"]) for average in made.values()}


def _average(suite: Suite, chosen: Sequence[Results]) -> dict[str, Any]:
    weights = collection_weights([of_collection.collection for of_collection in chosen])
    complete = [name for name in suite.labels if all(name in of_collection.systems for of_collection in chosen)]
    if not complete:
        return {"collections": [], "num_units": 0, "systems": {}, "differences": []}
    means = np.zeros(len(complete))
    resampled = np.zeros((suite.num_resamples, len(complete)))
    for number, (weight, of_collection) in enumerate(zip(weights, chosen, strict=True)):
        values = np.stack([of_collection.primary(name) for name in complete], axis=1)
        means += weight * values.mean(axis=0)
        # Collections are drawn independently of each other.
        resampled += weight * bootstrap_means(
            values, num_resamples=suite.num_resamples, seed=suite.seed + number, topics=of_collection.topics
        )
    place = {name: column for column, name in enumerate(complete)}
    spread = {
        name: asdict(interval_of(means[column : column + 1], resampled[:, column], suite.confidence))
        for name, column in place.items()
    }
    differences = [
        {"system": one, "against": other}
        | asdict(
            interval_of(
                means[[place[one]]] - means[[place[other]]],
                resampled[:, place[one]] - resampled[:, place[other]],
                suite.confidence,
            )
        )
        for one, other in suite.comparisons
        if {one, other} <= set(complete)
    ]
    return {
        "collections": [of_collection.collection.name for of_collection in chosen],
        "num_units": len({of_collection.collection.group or of_collection.collection.name for of_collection in chosen}),
        "systems": spread,
        "differences": differences,
    }


def collection_weights(collections: Iterable[Collection]) -> list[float]:
    """What each collection counts in an average: alike, those of one group together as much as any other one."""
    units = [(collection.group and f"group {collection.group}") or collection.name for collection in collections]
    return [1 / len(set(units)) / units.count(unit) for unit in units]
