"""Finished cells -> means with intervals, paired tests of the paper's orderings, and the table that people read.

A view is a pair of collections: trained on, measured on. A test compares two conditions on the same queries, of all
views of a domain together: per-query values are averaged over seeds, then a two-sided paired t-test, with Holm's
correction over all orderings. The intervals are of a bootstrap that draws seeds and queries, so they are wider than the
tests suggest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import orjson
from jaxtyping import Float64

from components.shared.durable import storage
from components.shared.measuring.statistics import Interval, holm, paired_t_test
from pipelines.study.conditions import CLAIMS, IN_DOMAIN, Claim, Domain
from pipelines.study.config import StudyConfig

_LEVEL = 0.05
_CONFIDENCE = 0.95
# Where a system that is not trained was trained.
EVERY = ""

# Rows of one condition: its seeds.
Cube = Float64[np.ndarray, "seed query"]


class Part(NamedTuple):
    """A block of conditions with one seed: what runs together."""

    block: str
    seed: int


class Step(NamedTuple):
    """A cell of the plan."""

    part: Part
    name: str
    collection: str


class View(NamedTuple):
    """Trained on one collection, measured on one."""

    trained: str
    measured: str

    @property
    def title(self) -> str:
        """What stands above a column."""
        return self.trained if self.trained == self.measured else f"{self.trained} -> {self.measured}"


@dataclass(frozen=True)
class Finished:
    """A cell as the journal keeps it: nDCG@10 by collection measured on and query id; `collection` is trained on."""

    name: str
    collection: str
    seed: int
    values: Mapping[str, Mapping[str, float]]
    seconds: float
    cpu_seconds: float = 0.0
    label_precision: float | None = None
    label_recall: float | None = None
    useful_precision: float | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> Finished:
        """From a journal record."""
        assert record is not None, "a cell is read after it was written"
        names = set(cls.__dataclass_fields__)
        return cls(**{name: value for name, value in record.items() if name in names})


@dataclass(frozen=True)
class Row:
    """A condition: what its labels agree with people, and its nDCG@10 by view; `num_seeds` by collection trained on."""

    name: str
    num_seeds: dict[str, int]
    label_precision: float | None
    label_recall: float | None
    useful_precision: float | None
    means: dict[str, Interval]
    deviation_of_seeds: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A claim and what came out: better minus worse over all views of the domain, and in each view by its title.

    P values are two-sided, `p_holm` over the table.
    """

    claim: Claim
    difference: Interval
    by_view: dict[str, Interval]
    p_value: float
    p_holm: float
    num_seeds: int
    num_queries: int

    @property
    def verdict(self) -> str:
        """Holds or reversed where it is more than chance, else the side on which it came out.

        The test is over queries only, the interval over seeds too: a difference that other seeds may undo is not shown.
        """
        if self.p_holm < _LEVEL and self.difference.low * self.difference.high > 0:
            return "holds" if self.difference.mean > 0 else "reversed"
        return "not shown (same sign)" if self.difference.mean > 0 else "not shown (other sign)"


def write_table(config: StudyConfig, finished: Sequence[Finished], *, planned: Sequence[Step]) -> None:
    """Writes study.json and study.md into the work folder."""
    rows = summarise(finished, config.collections, num_resamples=config.num_resamples)
    outcomes = judge_claims(CLAIMS, finished, config.collections, num_resamples=config.num_resamples)
    ran = what_ran(finished, planned)
    content = {
        "settings": {name: str(value) for name, value in asdict(config).items()},
        "ran": ran,
        "conditions": [asdict(row) for row in rows],
        "claims": [{**asdict(outcome), "verdict": outcome.verdict} for outcome in outcomes],
    }
    storage.write_bytes(str(config.workdir / "study.json"), orjson.dumps(content, option=orjson.OPT_INDENT_2))
    text = to_markdown(rows, outcomes, config.collections, ran=ran)
    storage.write_bytes(str(config.workdir / "study.md"), text.encode())


def what_ran(finished: Sequence[Finished], planned: Sequence[Step]) -> list[str]:
    """Sentences that say which part of the plan is in the table."""
    done = {(cell.name, cell.collection, cell.seed) for cell in finished}
    ran = [step for step in planned if (step.name, step.collection, step.part.seed) in done]
    minutes = sum(cell.seconds for cell in finished) / 60, sum(cell.cpu_seconds for cell in finished) / 60
    total, of_part = Counter(step.part for step in planned), Counter(step.part for step in ran)
    lines = [f"Ran: {len(ran)} of {len(planned)} cells, {minutes[0]:.0f} minutes ({minutes[1]:.0f} of CPU)."]
    for block in dict.fromkeys(step.part.block for step in planned):
        seeds = [part for part in total if part.block == block]
        whole = [part.seed for part in seeds if of_part[part] == total[part]]
        rest = [f"{of_part[part]}/{total[part]} of seed {part.seed}" for part in seeds if part.seed not in whole]
        shown = [f"seeds {', '.join(map(str, whole))}" if whole else "no seed as a whole", *rest]
        lines.append(f"{block}: {'; '.join(shown) if any(of_part[part] for part in seeds) else 'did not run'}.")
    return lines


def views(collections: Sequence[str], domain: Domain | None = None) -> list[View]:
    """All views, in domain first; or those of a domain."""
    every = [View(trained, measured) for trained in collections for measured in collections]
    every.sort(key=lambda view: view.trained != view.measured)
    return [view for view in every if domain is None or (view.trained == view.measured) == (domain == IN_DOMAIN)]


def summarise(finished: Sequence[Finished], collections: Sequence[str], *, num_resamples: int) -> list[Row]:
    """One row a condition, in the order of first appearance."""
    rows = []
    for name in dict.fromkeys(cell.name for cell in finished):
        cells = [cell for cell in finished if cell.name == name]
        cubes = {view.title: _cube(_seen(cells, view), view) for view in views(collections) if _seen(cells, view)}
        rows.append(
            Row(
                name,
                dict(Counter(cell.collection for cell in cells)),
                _mean([cell.label_precision for cell in cells]),
                _mean([cell.label_recall for cell in cells]),
                _mean([cell.useful_precision for cell in cells]),
                {title: _interval(cube, num_resamples) for title, cube in cubes.items()},
                {title: float(cube.mean(1).std(ddof=1)) if len(cube) > 1 else 0.0 for title, cube in cubes.items()},
            )
        )
    return rows


def judge_claims(
    claims: Sequence[Claim], finished: Sequence[Finished], collections: Sequence[str], *, num_resamples: int
) -> list[Outcome]:
    """Every claim whose two conditions are finished; one without seeds is compared with each seed of the other."""
    outcomes = [_judge(claim, finished, views(collections, claim.domain), num_resamples) for claim in claims]
    judged = [outcome for outcome in outcomes if outcome is not None]
    corrected = holm([outcome.p_value for outcome in judged]) if judged else []
    return [replace(outcome, p_holm=p_holm) for outcome, p_holm in zip(judged, corrected, strict=True)]


def _judge(claim: Claim, finished: Sequence[Finished], those: Sequence[View], num_resamples: int) -> Outcome | None:
    """A claim over the seeds that both conditions have in every view that they have at all."""
    sides = [[cell for cell in finished if cell.name == name] for name in (claim.better, claim.worse)]
    able = {view: _common(*(_seen(side, view) for side in sides)) for view in those}
    able = {view: seeds for view, seeds in able.items() if seeds}
    if not able or not (seeds := set.intersection(*able.values())):
        return None
    differences = {}
    for view in able:
        better, worse = (_cube([c for c in _seen(side, view) if c.seed in {0, *seeds}], view) for side in sides)
        differences[view.title] = better - worse
    together = np.concatenate(list(differences.values()), axis=1)
    p_value, _, _ = paired_t_test(together.mean(0))
    by_view = {title: _interval(cube, num_resamples) for title, cube in differences.items()}
    overall = _interval(together, num_resamples)
    return Outcome(claim, overall, by_view, p_value, p_value, len(together), together.shape[1])


def _seen(cells: Sequence[Finished], view: View) -> list[Finished]:
    """The cells that a view is of; systems that are not trained are in all."""
    return [cell for cell in cells if cell.collection in (view.trained, EVERY)]


def _common(better: Sequence[Finished], worse: Sequence[Finished]) -> set[int]:
    """The seeds that both have: a seed is one draw of label errors and order for all conditions.

    Seed 0, of a system that is not trained, goes with every seed.
    """
    seeds = [{cell.seed for cell in side} for side in (better, worse)]
    if all(seeds) and {0} in seeds:
        return (seeds[0] | seeds[1]) - {0}
    return seeds[0] & seeds[1]


def to_markdown(
    rows: Sequence[Row], outcomes: Sequence[Outcome], collections: Sequence[str], *, ran: Sequence[str]
) -> str:
    """What ran, and two tables: the conditions, and the claims beside the published figures."""
    titles = [view.title for view in views(collections)]
    lines = [
        *ran,
        "",
        "nDCG@10 x 100, mean [95 % interval] (standard deviation of the seeds). Labels: precision and recall as the "
        "paper counts them, and the share of the selected passages that people found useful.",
        "",
        "| condition | seeds | precision / recall / useful | " + " | ".join(titles) + " |",
        "|---|---|---|" + "---|" * len(titles),
    ]
    lines += [_row(row, titles) for row in rows]
    lines += [
        "",
        "| ordering expected | about | domain | published | seeds | difference here | "
        + " | ".join(collections)
        + " | "
        "p (Holm) | verdict |",
        "|---|---|---|---|---|---|" + "---|" * len(collections) + "---|---|",
    ]
    lines += [_line(outcome, collections) for outcome in outcomes]
    return "\n".join(lines) + "\n"


def _row(row: Row, titles: Sequence[str]) -> str:
    labels = (
        ""
        if row.label_precision is None
        else f"{row.label_precision:.2f} / {row.label_recall:.2f} / {row.useful_precision:.2f}"
    )
    seeds = "" if EVERY in row.num_seeds else "/".join(str(number) for number in row.num_seeds.values())
    shown = [_cell(row.means[t], row.deviation_of_seeds[t]) if t in row.means else "" for t in titles]
    return f"| {row.name} | {seeds} | {labels} | {' | '.join(shown)} |"


def _line(outcome: Outcome, collections: Sequence[str]) -> str:
    claim = outcome.claim
    published = f"{claim.published[0]} > {claim.published[1]}" if claim.published else ""
    by_trained = {
        view.trained: _cell(outcome.by_view[view.title])
        for view in views(collections, claim.domain)
        if view.title in outcome.by_view
    }
    return (
        f"| {claim.better} > {claim.worse} | {claim.about} | {claim.domain} | {published} | {outcome.num_seeds} | "
        f"{_cell(outcome.difference)} | {' | '.join(by_trained.get(name, '') for name in collections)} "
        f"| {outcome.p_value:.2g} ({outcome.p_holm:.2g}) | {outcome.verdict} |"
    )


def _cell(interval: Interval, deviation: float | None = None) -> str:
    shown = f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return shown if deviation is None else f"{shown} ({100 * deviation:.1f})"


def _cube(finished: Sequence[Finished], view: View) -> Cube:
    query_ids = list(finished[0].values[view.measured])
    ordered = sorted(finished, key=lambda cell: cell.seed)
    return np.array([[cell.values[view.measured][query_id] for query_id in query_ids] for cell in ordered])


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
