"""The curriculum: stages read from YAML, in order, each with its own labels, loss and learning rate."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import yaml

from components.train.loss import LOSSES

Labels = Literal["llm", "human"]
PositiveStrategy = Literal["one", "avg", "all"]


@dataclass(frozen=True)
class Stage:
    """One curriculum stage.

    `human_share` (human labels only) takes that share of the labelled queries, nested: 0.2 is part of 0.5.
    `positives`: one a query and epoch, rotating; as many as the average group has; or all that leave room for a negative.
    """

    name: str
    labels: Labels
    loss: str = "disj_infonce"
    positives: PositiveStrategy = "all"
    epochs: int = 1
    learning_rate: float = 3e-5
    human_share: float = 1.0


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
    _one_of(where, "labels", row["labels"], get_args(Labels))
    _one_of(where, "loss", row.get("loss", "disj_infonce"), tuple(LOSSES))
    _one_of(where, "positives", row.get("positives", "all"), get_args(PositiveStrategy))
    numbers = {"epochs": int(row.get("epochs", 1)), "learning_rate": float(row.get("learning_rate", 3e-5))}
    share = float(row.get("human_share", 1.0))
    if numbers["epochs"] < 1 or numbers["learning_rate"] <= 0 or not 0 < share <= 1:
        raise ValueError(f"{where}: epochs must be at least 1, learning_rate above 0, human_share above 0 and at most 1")
    return Stage(**{**row, **numbers, "human_share": share})


def _one_of(where: str, name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{where}: {name} {value!r}; known are {', '.join(known)}")
