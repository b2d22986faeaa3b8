"""The content of compare.json, which both pages show: rows, differences, ingredients, costs, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.compare.arms import Arm
from pipelines.compare.costs import Cost, cost_of
from pipelines.compare.planning import Cell, Given
from pipelines.compare.results import (
    BASE,
    BM25,
    HYBRID,
    Measured,
    against_references,
    choose,
    compared,
    ingredients,
    read_rows,
)

# Below this many queries an interval is rough.
_FEW_QUERIES = 50
_WORDS = {"better": "better", "worse": "worse", "unclear": "no reliable difference"}


@dataclass
class Split:
    """What is measured on a split so far: the untrained encoder's cell, and those of the arms that train.

    `wanted_seeds`: how many seeds there are to be in the end; 0 where nothing that is trained is measured.
    """

    reference: Cell
    wanted_seeds: int = 0
    cells: list[Cell] = field(default_factory=list)

    def measured(self) -> Measured:
        """All rows."""
        return read_rows(self.reference, self.cells)


def content_of(given: Given, splits: Mapping[str, Split], *, reads: Mapping[str, int]) -> dict[str, Any]:
    """Everything that the pages show.

    Args:
        given: What was asked for.
        splits: By name, dev first; test where it has been read.
        reads: Versions of each arm that test was read with.
    """
    measured = {name: split.measured() for name, split in splits.items()}
    metrics, chosen = measured["dev"].metrics, choose(measured["dev"])
    costs = {arm: cost_of(cells) for arm, cells in _by_arm(splits["dev"].cells).items()}
    content: dict[str, Any] = {
        "collection": given.data.resolve().name,
        "params": given.params.name,
        "assignments": list(given.assignments),
        "measure": metrics["headline_measure"],
        "confidence": metrics["confidence"],
        "num_passages": metrics["num_passages"],
        "chosen": chosen.name,
        "arms": [
            {"name": arm.name, "sentence": arm.sentence, "settings": arm.settings, "mined_by": arm.mined_by}
            for arm in given.arms
        ],
        "splits": {
            name: {**_seeds(splits[name]), **_of_split(of_split, given.arms, chosen.name)}
            for name, of_split in measured.items()
        },
        # What dev chose was said before test was read, so these alone are corrected for no others.
        "claims": compared(measured["test"], against_references([chosen.name])) if "test" in measured else [],
        "costs": {arm: asdict(cost) for arm, cost in costs.items()},
        "reads": dict(reads),
    }
    return content | {"lead": lead(content), "notes": list(_notes(content, costs))}


def _seeds(split: Split) -> dict[str, int]:
    return {"num_seeds": len({cell.seed for cell in split.cells}), "wanted_seeds": split.wanted_seeds}


def _by_arm(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {name: [cell for cell in cells if cell.arm == name] for name in dict.fromkeys(cell.arm for cell in cells)}


def _of_split(measured: Measured, arms: Sequence[Arm], chosen: str) -> dict[str, Any]:
    present = [arm for arm in arms if not arm.trains or arm.name in measured.rows]
    asked = ingredients(present)
    systems = [name for name in measured.rows if name != BM25]
    pairs = [*against_references(systems), *((having, lacking) for _, having, lacking in asked)]
    comparisons = {(row["system"], row["against"]): row for row in compared(measured, pairs)}
    return {
        "num_queries": measured.metrics["num_queries"],
        "judge": measured.metrics["judge"],
        "num_comparisons": len(comparisons),
        "rows": [
            {
                "name": row.name,
                "arm": row.arm,
                "mean": row.mean,
                "deviation": row.deviation,
                "is_chosen": row.name == chosen,
                "against": {name: comparisons.get((row.name, name)) for name in (BASE, HYBRID)},
            }
            for row in measured.rows.values()
        ],
        "ingredients": [
            {"ingredient": what, "having": having, "lacking": lacking, **comparisons[having, lacking]}
            for what, having, lacking in asked
        ],
    }


def lead(content: Mapping[str, Any]) -> str:
    """What was chosen on dev, and what test says of it."""
    chosen, measure = content["chosen"], content["measure"]
    dev = next(row for row in content["splits"]["dev"]["rows"] if row["name"] == chosen)
    first = f"Chosen on dev: {chosen} ({measure} {dev['mean']:.3f})."
    if chosen in (BM25, BASE, HYBRID):
        first = f"On dev no trained arm is better than {chosen} ({measure} {dev['mean']:.3f}), which takes no training."
    if "test" not in content["splits"]:
        return f"{first} Test has not been read for it."
    mean = next(row["mean"] for row in content["splits"]["test"]["rows"] if row["name"] == chosen)
    said = [
        f"{_WORDS[claim['verdict']]} against {claim['against']} ({difference(claim)})" for claim in content["claims"]
    ]
    return f"{first} On test it has {mean:.3f}: {'; '.join(said)}."


def difference(comparison: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    return f"{comparison['difference']:+.3f}, {comparison['low']:+.3f} to {comparison['high']:+.3f}"


def _notes(content: Mapping[str, Any], costs: Mapping[str, Cost]) -> Iterator[str]:
    """What a reader must know before believing the numbers."""
    for name, split in content["splits"].items():
        yield from _notes_on_split(name, split)
        if split["num_seeds"] < split["wanted_seeds"]:
            yield (
                f"{split['num_seeds']} of {split['wanted_seeds']} seeds are finished on {name}; this page is not the "
                "last one."
            )
    if any(split["num_seeds"] == 1 for split in content["splits"].values()):
        yield "One seed only: a difference between two arms may be that of their order and draws."
    for arm, versions in content["reads"].items():
        if versions > 1:
            yield (
                f"Test was read with {versions} versions of {arm}: what was changed after the first has seen test, so "
                "its figures there are no proof."
            )
    precisions = sorted({name for cost in costs.values() for name in cost.precisions})
    if len(precisions) > 1:
        yield (
            f"Trainings ran in {' and '.join(precisions)}, because train.precision is auto: arms are like for like in "
            "one of them only."
        )
    for arm, cost in costs.items():
        if num_kept := cost.kept.get("base", 0):
            total = sum(cost.kept.values())
            yield f"{arm}: {num_kept} of {total} seeds kept the untrained weights, because dev did not rise."


def _notes_on_split(name: str, split: Mapping[str, Any]) -> Iterator[str]:
    judge = split["judge"]
    if judge["kind"] == "asked":
        yield f"The queries and judgements of {name} are synthetic: an LLM wrote each query for a passage."
    if judge["kind"] == "llm":
        yield f"The judge of {name} is the LLM {judge['model']} and not people."
    if split["num_queries"] < _FEW_QUERIES:
        yield f"Only {split['num_queries']} queries of {name} are judged: intervals and p values are rough."
