"""Finished cells -> means with intervals, paired tests of the paper's orderings, and the table that people read.

A test compares two conditions on the same queries: per-query values are averaged over seeds, then a two-sided paired
t-test, with Holm's correction over all orderings. The intervals are of a bootstrap that draws seeds and queries, so
they are wider than the tests suggest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float64

from components.shared.durable import storage
from components.shared.measuring.statistics import Interval, holm, paired_t_test
from pipelines.study.conditions import CLAIMS, DOMAINS, Claim
from pipelines.study.config import StudyConfig

_LEVEL = 0.05
_CONFIDENCE = 0.95

# Rows of one condition: its seeds.
Cube = Float64[np.ndarray, "seed query"]


@dataclass(frozen=True)
class Finished:
    """A cell as the journal keeps it: nDCG@10 by domain and query id."""

    name: str
    seed: int
    values: Mapping[str, Mapping[str, float]]
    seconds: float
    label_precision: float | None = None
    label_recall: float | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> Finished:
        """From a journal record."""
        assert record is not None, "a cell is read after it was written"
        names = set(cls.__dataclass_fields__)
        return cls(**{name: value for name, value in record.items() if name in names})


@dataclass(frozen=True)
class Row:
    """A condition: what its labels agree with people, and its nDCG@10 by domain."""

    name: str
    num_seeds: int
    label_precision: float | None
    label_recall: float | None
    means: dict[str, Interval]
    deviation_of_seeds: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A claim and what was found: the difference better minus worse; p values two-sided, `p_holm` over the table."""

    claim: Claim
    difference: Interval
    p_value: float
    p_holm: float
    num_queries: int

    @property
    def verdict(self) -> str:
        """Holds or reversed where it is more than chance, else the side on which it came out.

        The test is over queries only, the interval over seeds too: a difference that other seeds may undo is not shown.
        """
        if self.p_holm < _LEVEL and self.difference.low * self.difference.high > 0:
            return "holds" if self.difference.mean > 0 else "reversed"
        return "not shown (same sign)" if self.difference.mean > 0 else "not shown (other sign)"


def write_table(config: StudyConfig, finished: Sequence[Finished]) -> None:
    """Writes study.json and study.md into the work folder."""
    rows = summarise(finished, num_resamples=config.num_resamples)
    outcomes = judge_claims(CLAIMS, finished, num_resamples=config.num_resamples)
    seconds = sum(cell.seconds for cell in finished)
    content = {
        "settings": {name: str(value) for name, value in asdict(config).items()},
        "seconds": round(seconds, 1),
        "conditions": [asdict(row) for row in rows],
        "claims": [{**asdict(outcome), "verdict": outcome.verdict} for outcome in outcomes],
    }
    storage.write_bytes(str(config.workdir / "study.json"), orjson.dumps(content, option=orjson.OPT_INDENT_2))
    storage.write_bytes(str(config.workdir / "study.md"), to_markdown(rows, outcomes, seconds=seconds).encode())


def summarise(finished: Sequence[Finished], *, num_resamples: int) -> list[Row]:
    """One row a condition, in the order of first appearance."""
    rows = []
    for name in dict.fromkeys(cell.name for cell in finished):
        cells = [cell for cell in finished if cell.name == name]
        cubes = {domain: _cube(cells, domain) for domain in DOMAINS}
        rows.append(
            Row(
                name,
                len(cells),
                _mean([cell.label_precision for cell in cells]),
                _mean([cell.label_recall for cell in cells]),
                {domain: _interval(cube, num_resamples) for domain, cube in cubes.items()},
                {domain: float(cube.mean(1).std(ddof=1)) if len(cube) > 1 else 0.0 for domain, cube in cubes.items()},
            )
        )
    return rows


def judge_claims(claims: Sequence[Claim], finished: Sequence[Finished], *, num_resamples: int) -> list[Outcome]:
    """Every claim whose two conditions are finished; one without seeds is compared with each seed of the other."""
    outcomes = []
    for claim in claims:
        sides = _same_seeds(*([cell for cell in finished if cell.name == name] for name in (claim.better, claim.worse)))
        if not all(sides):
            continue
        better, worse = (_cube(side, claim.domain) for side in sides)
        difference = better - worse
        p_value, _, _ = paired_t_test(difference.mean(0))
        outcomes.append(Outcome(claim, _interval(difference, num_resamples), p_value, p_value, difference.shape[1]))
    corrected = holm([outcome.p_value for outcome in outcomes]) if outcomes else []
    return [replace(outcome, p_holm=p_holm) for outcome, p_holm in zip(outcomes, corrected, strict=True)]


def _same_seeds(better: list[Finished], worse: list[Finished]) -> tuple[list[Finished], list[Finished]]:
    """The cells of the seeds that both have: a seed is one draw of label noise and order for all conditions."""
    common = {cell.seed for cell in better} & {cell.seed for cell in worse}
    if common:
        return [cell for cell in better if cell.seed in common], [cell for cell in worse if cell.seed in common]
    # Only a system that is not trained has no seed in common with the others.
    untrained = all(cell.seed == 0 for cell in better) or all(cell.seed == 0 for cell in worse)
    return (better, worse) if untrained else ([], [])


def to_markdown(rows: Sequence[Row], outcomes: Sequence[Outcome], *, seconds: float) -> str:
    """Two tables: the conditions, and the claims beside the published figures."""
    lines = [
        f"nDCG@10 x 100, mean [95 % interval] (standard deviation of the seeds); {seconds / 60:.0f} minutes of cells.",
        "",
        "| condition | seeds | label precision / recall | " + " | ".join(DOMAINS) + " |",
        "|---|---|---|" + "---|" * len(DOMAINS),
    ]
    for row in rows:
        labels = "" if row.label_precision is None else f"{row.label_precision:.2f} / {row.label_recall:.2f}"
        cells = " | ".join(_cell(row.means[domain], row.deviation_of_seeds[domain]) for domain in DOMAINS)
        lines.append(f"| {row.name} | {row.num_seeds} | {labels} | {cells} |")
    lines += [
        "",
        "| ordering expected | about | domain | published | difference here | p (Holm) | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        claim = outcome.claim
        published = f"{claim.published[0]} > {claim.published[1]}" if claim.published else ""
        lines.append(
            f"| {claim.better} > {claim.worse} | {claim.about} | {claim.domain} | {published} | "
            f"{_cell(outcome.difference)} "
            f"| {outcome.p_value:.2g} ({outcome.p_holm:.2g}) | {outcome.verdict} |"
        )
    return "\n".join(lines) + "\n"


def _cell(interval: Interval, deviation: float | None = None) -> str:
    shown = f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return shown if deviation is None else f"{shown} ({100 * deviation:.1f})"


def _cube(finished: Sequence[Finished], domain: str) -> Cube:
    query_ids = list(finished[0].values[domain])
    ordered = sorted(finished, key=lambda cell: cell.seed)
    return np.array([[cell.values[domain][query_id] for query_id in query_ids] for cell in ordered])


def _interval(values: Cube, num_resamples: int) -> Interval:
    """Mean, and the interval over draws of seeds and of queries, each with replacement."""
    generator = np.random.default_rng(0)
    num_seeds, num_queries = values.shape
    means = np.empty(num_resamples)
    for number in range(num_resamples):
        over_seeds = values[generator.integers(0, num_seeds, num_seeds)].mean(0)
        means[number] = over_seeds[generator.integers(0, num_queries, num_queries)].mean()
    low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Interval(float(values.mean()), float(low), float(high))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
