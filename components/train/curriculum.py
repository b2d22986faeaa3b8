"""The curriculum: stages read from YAML, in order, each with its own labels, loss and learning rate."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import yaml

LossName = Literal["disj_infonce", "conj_infonce", "infonce", "lsepair", "kl_replug"]
Labels = Literal["llm", "human", "mixed"]
IgnoreBand = Literal["mask", "negative"]
PositiveStrategy = Literal["one", "avg", "all"]


@dataclass(frozen=True)
class Stage:
    """One curriculum stage.

    `labels`: mixed interleaves the LLM's groups with the human share's, in one random order.
    `human_share` (human and mixed labels) takes that share of the labelled queries, nested: 0.2 is part of 0.5.
    `positives`: one a query and epoch, rotating; as many as the average group has; or all that leave room for a
    negative.
    `ignore`: what the LLM found relevant but not useful is kept out of the denominator (mask), or a negative as in the
    paper.
    `utility_temperature` divides the LLM's scores before the softmax (loss kl_replug only).
    """

    name: str
    labels: Labels
    loss: str = "disj_infonce"
    positives: PositiveStrategy = "all"
    epochs: int = 1
    learning_rate: float = 3e-5
    human_share: float = 1.0
    ignore: IgnoreBand = "mask"
    utility_temperature: float = 1.0


_CHOICES: dict[str, tuple[str, ...]] = {
    "labels": get_args(Labels),
    "loss": get_args(LossName),
    "positives": get_args(PositiveStrategy),
    "ignore": get_args(IgnoreBand),
}
_NUMBERS = ("epochs", "learning_rate", "human_share", "utility_temperature")


def parse_curriculum(text: str) -> list[Stage]:
    """Stages of a YAML (or JSON) list.

    Raises:
        ValueError: Naming the stage, the field and what it may be.
    """
    try:
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"curriculum: not YAML ({error}); give a list of stages") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError("curriculum: no stages; give a list such as [{name: llm, labels: llm, epochs: 2}]")
    return [_stage(row, number) for number, row in enumerate(rows, start=1)]


def _stage(row: Any, number: int) -> Stage:  # noqa: ANN401
    where = f"curriculum stage {number}"
    names = {field.name for field in fields(Stage)}
    if not isinstance(row, dict):
        raise ValueError(f"{where}: {row!r} is not a mapping; give name, labels, and what differs from the defaults")
    if unknown := set(row) - names:
        raise ValueError(f"{where}: unknown fields {sorted(unknown)}; known are {sorted(names)}")
    if missing := {"name", "labels"} - set(row):
        raise ValueError(f"{where}: {sorted(missing)} missing")
    for field, known in _CHOICES.items():
        if field in row and row[field] not in known:
            raise ValueError(f"{where}: {field} {row[field]!r}; known are {', '.join(known)}")
    numbers = {field: _number(where, field, row[field]) for field in _NUMBERS if field in row}
    if (epochs := numbers.get("epochs", 1)) < 1 or epochs != int(epochs):
        raise ValueError(f"{where}: epochs must be whole and at least 1")
    stage = Stage(**{**row, **numbers, "epochs": int(epochs)})
    if stage.learning_rate <= 0 or stage.utility_temperature <= 0 or not 0 < stage.human_share <= 1:
        raise ValueError(
            f"{where}: learning_rate and utility_temperature must be above 0, human_share above 0 and at most 1"
        )
    return stage


def _number(where: str, field: str, value: Any) -> float:  # noqa: ANN401
    # YAML reads 3e-5 (without a point) as text.
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {field} {value!r} is not a number") from error
