"""Records of cells -> the two tables: means, paired differences with intervals, and what could have been shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from components.shared.measuring.power import power_of
from components.shared.measuring.statistics import Comparison, Interval, Topics, compare, number_topics
from pipelines.study.sources.budget import ARMS, LABELS, name_of
from pipelines.study.sources.clicks import CLAIMS, TERCILES
from pipelines.study.sources.config import SourcesConfig

Record = Mapping[str, Any]
Column = Float64[np.ndarray, " query"]
_LEVEL, _CONFIDENCE, _MEASURE = 0.05, 0.95, "nDCG@10"


def what_ran(records: Sequence[Record], num_planned: int) -> str:
    """Which part of the plan is in the table."""
    minutes = sum(record["cpu_seconds"] for record in records) / 60
    seeds = sorted({record["seed"] for record in records} - {0})
    return f"Ran: {len(records)} of {num_planned} cells, {minutes:.0f} minutes of CPU, seeds {seeds or 'none'}."


def clicks_table(
    config: SourcesConfig, records: Sequence[Record], *, topics: Mapping[str, str], frequency: Mapping[str, int]
) -> list[str]:
    """All arms, in all and by frequency of the topic; then the expected orderings. Averages are over the seeds."""
    by_name = _means(records, config.clicks_collection)
    query_ids = list(next(iter(records))["values"][config.clicks_collection])
    groups = _groups(query_ids, frequency)
    lines = ["| arm | seeds | all | " + " | ".join(f"{name} ({rows.sum()})" for name, rows in groups.items()) + " |"]
    lines.append("|---|---|" + "---|" * (1 + len(groups)))
    everyone = np.ones(len(query_ids), dtype=bool)
    columns = [
        _intervals(by_name, rows, _topics(query_ids, rows, topics), config.num_resamples)
        for rows in (everyone, *groups.values())
    ]
    for name in by_name:
        num_seeds = len({record["seed"] for record in records if record["name"] == name} - {0})
        lines.append(f"| {name} | {num_seeds or ''} | " + " | ".join(_shown(column[name]) for column in columns) + " |")
    pairs = [pair for pair in CLAIMS if set(pair) <= set(by_name)]
    compared = _compared(by_name, pairs, _topics(query_ids, everyone, topics), config.num_resamples)
    return [*lines, "", *_claims(by_name, compared, _topics(query_ids, everyone, topics))]


def budget_table(config: SourcesConfig, records: Sequence[Record]) -> list[str]:
    """Per collection and labels: nDCG@10 by budget, and the area under the curve paired against the random arm."""
    lines = [
        "| labels | bought on | measured on | arm | seeds | " + " | ".join(map(str, config.budgets)) + " | tokens |"
    ]
    lines.append("|---|---|---|---|---|" + "---|" * (len(config.budgets) + 1))
    areas: dict[str, Column] = {}
    pairs = []
    for labels in LABELS:
        for collection in config.budget_collections:
            those = [record for record in records if record["collection"] == collection]
            for measured in (collection, config.other_collection):
                curves = _curves(config, those, labels, measured)
                for arm, (seeds, curve, tokens) in curves.items():
                    means = (f"{100 * curve[size].mean():.1f}" if size in curve else "" for size in config.budgets)
                    cells = [labels, collection, measured, arm, str(len(seeds)), *means, tokens]
                    lines.append(f"| {' | '.join(cells)} |")
                    areas[f"{labels}, {collection}, {measured}, {arm}"] = area(curve)
                of_view = f"{labels}, {collection}, {measured}, "
                pairs += [(of_view + arm, of_view + "random") for arm in curves if arm != "random"]
    claims = []
    for pair in pairs:
        values = {name: areas[name] for name in pair}
        claims += _compared(values, [pair], None, config.num_resamples, num_claims=len(pairs))
    return [*lines, "", *_claims(areas, claims, None)]


def area(curve: Mapping[int, Column]) -> Column:
    """Mean height of the curve over the logarithm of the budget, by the trapezoidal rule; of one point its height."""
    budgets = sorted(curve)
    places, heights = np.log2(budgets), np.stack([curve[budget] for budget in budgets])
    if len(budgets) == 1:
        return curve[budgets[0]]
    mean: Column = np.trapezoid(heights, places, axis=0) / (places[-1] - places[0])
    return mean


def _curves(
    config: SourcesConfig, records: Sequence[Record], labels: str, measured: str
) -> dict[str, tuple[list[int], dict[int, Column], str]]:
    """Arm -> its seeds, its curve and the tokens of its largest budget, over what every arm has."""
    by_key = {(record["name"], record["seed"]): record for record in records}
    able: dict[int, list[int]] = {}
    for budget in config.budgets:
        names = [name_of(arm, labels, budget) for arm in ARMS]
        seeds = [s for s in range(1, config.num_seeds + 1) if all((name, s) in by_key for name in names)]
        if seeds:
            able[budget] = seeds
    if not able:
        return {}
    common = sorted(set.intersection(*map(set, able.values())))
    curves = {}
    for arm in ARMS:
        curve, tokens = {}, ""
        for budget in able:
            cells = [by_key[name_of(arm, labels, budget), seed] for seed in common]
            curve[budget] = np.mean([list(cell["values"][measured].values()) for cell in cells], axis=0)
            tokens = f"{np.mean([cell['tokens'] for cell in cells]):,.0f}"
        curves[arm] = (common, curve, tokens)
    return curves


def _means(records: Sequence[Record], collection: str) -> dict[str, Column]:
    """Name -> value of each query, over the seeds."""
    names = dict.fromkeys(record["name"] for record in records)
    return {
        name: np.mean([list(r["values"][collection].values()) for r in records if r["name"] == name], axis=0)
        for name in names
    }


def _groups(query_ids: Sequence[str], frequency: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Terciles of the queries by the sessions of their topic; equal numbers stay together."""
    counts = np.array([frequency[query_id] for query_id in query_ids])
    low, high = np.quantile(counts, [1 / 3, 2 / 3], method="lower")
    return dict(zip(TERCILES, (counts <= low, (counts > low) & (counts <= high), counts > high), strict=True))


def _topics(query_ids: Sequence[str], rows: np.ndarray, topics: Mapping[str, str]) -> Topics | None:
    return number_topics([topics[query_ids[row]] for row in np.flatnonzero(rows).tolist()])


def _intervals(
    by_name: Mapping[str, Column], rows: np.ndarray, topics: Topics | None, num_resamples: int
) -> dict[str, Interval]:
    if not rows.any():
        return {name: Interval(float("nan"), float("nan"), float("nan")) for name in by_name}
    values = {name: column[rows][:, None] for name, column in by_name.items()}
    settings: dict[str, Any] = {"num_resamples": num_resamples, "confidence": _CONFIDENCE, "seed": 0}
    systems, _ = compare(values, measures=[_MEASURE], pairs=[], topics=topics, **settings)
    return {name: systems[name][_MEASURE] for name in by_name}


def _compared(
    by_name: Mapping[str, Column],
    pairs: Sequence[tuple[str, str]],
    topics: Topics | None,
    num_resamples: int,
    *,
    num_claims: int = 0,
) -> list[tuple[Comparison, int]]:
    """Each pair with the number of all that are corrected together."""
    if not pairs:
        return []
    values = {name: column[:, None] for name, column in by_name.items()}
    settings: dict[str, Any] = {"num_resamples": num_resamples, "confidence": _CONFIDENCE, "seed": 0}
    _, compared = compare(values, measures=[_MEASURE], pairs=pairs, topics=topics, **settings)
    return [(comparison, num_claims or len(pairs)) for comparison in compared]


def _claims(
    by_name: Mapping[str, Column], compared: Sequence[tuple[Comparison, int]], topics: Topics | None
) -> list[str]:
    lines = [
        "| ordering expected | difference x 100 | p | at level | could have been shown |",
        "|---|---|---|---|---|",
    ]
    for comparison, number in compared:
        differences = by_name[comparison.system] - by_name[comparison.against]
        power = power_of(differences, level=_LEVEL / number, topics=topics)
        smallest = "" if power.smallest is None else f"{100 * power.smallest:.1f}"
        interval = Interval(comparison.difference, comparison.low, comparison.high)
        lines.append(
            f"| {comparison.system} > {comparison.against} | {_shown(interval)} | {comparison.p_value:.2g} | "
            f"{_LEVEL / number:.2g} | {smallest} |"
        )
    return lines


def _shown(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
