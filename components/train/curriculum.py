"""The curriculum: stages read from YAML, in order, each with its own labels, loss and learning rate."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args

import yaml

from components.shared.contract.yaml_text import load_yaml
from components.train.loss_records import LOSSES, LossRecord

Labels = Literal["llm", "human", "mixed", "teacher", "clicks", "clicks_and_llm"]
Propensities = Literal["estimated", "none"]
Dwell = Literal["ignore", "weigh"]
Blend = Literal["interleave", "frequency"]
IgnoreBand = Literal["mask", "negative"]
PositiveStrategy = Literal["one", "avg", "all"]


@dataclass(frozen=True)
class Stage:
    """One curriculum stage.

    `labels`: mixed interleaves the LLM's groups with the human share's, in one random order. teacher takes every train
    query with a pool: what is learnt is a score fused from BM25, the untrained encoder and the LLM.
    `human_share` (human, mixed and teacher labels) takes that share of the labelled queries, nested: 0.2 is part of
    0.5. The largest share of all stages is all that a run knows of the human labels, also in the denominators of LLM
    stages and in the choice of the best weights.
    `positives`: one a query and epoch, rotating, with all other places of the group for negatives; as many as the
    average group has; or all that leave room for a negative.
    `ignore`: what the LLM found relevant but not useful is kept out of the denominator (mask), or a negative as in the
    paper.
    `utility_temperature` divides the LLM's or the teacher's scores before the softmax (losses that learn from scores
    only).
    `bm25_share` and `llm_share` (teacher labels): weight of BM25 against the untrained encoder, and of the LLM's scores
    against both; a negative one is tuned on labels that the run knows.
    `labels: clicks` learns from what people clicked of what they were shown (loss click_listwise). `propensities`:
    a click weighs one over the chance that its rank is looked at, as estimated on the train split, or none. `dwell`:
    weigh counts a click of less than 30 seconds in part.
    `labels: clicks_and_llm` learns from both; `loss` is that of the LLM's labels. `blend`: interleave has the groups of
    both side by side; frequency gives each query lambda x (loss of its clicks) + (1 - lambda) x (loss of the LLM's
    labels), with lambda = f / (f + kappa), where f sessions of the train split ask for the query's topic. A negative
    `kappa` is chosen by dev nDCG@10. `click_share` sets lambda itself; a negative one leaves it to the frequency.

    Source: [ufa] section 4 for the strategies and the two-stage curriculum.
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
    bm25_share: float = -1.0
    llm_share: float = -1.0
    propensities: Propensities = "estimated"
    dwell: Dwell = "ignore"
    blend: Blend = "interleave"
    kappa: float = -1.0
    click_share: float = -1.0

    @property
    def uses_teacher(self) -> bool:
        """Whether the stage learns from a fused score of every train query."""
        return self.labels == "teacher"

    @property
    def uses_llm(self) -> bool:
        """Whether the stage learns from the LLM's labels."""
        return self.labels in ("llm", "mixed", "clicks_and_llm")

    @property
    def uses_clicks(self) -> bool:
        """Whether the stage learns from clicks."""
        return self.labels in ("clicks", "clicks_and_llm")

    @property
    def tunes_kappa(self) -> bool:
        """Whether dev has to say from which frequency on clicks weigh more than the LLM."""
        by_frequency = self.labels == "clicks_and_llm" and self.blend == "frequency"
        return by_frequency and self.kappa < 0 and self.click_share < 0

    @property
    def uses_human(self) -> bool:
        """Whether the stage learns from human labels."""
        return self.labels in ("human", "mixed") or (self.uses_teacher and self.human_share > 0)

    @property
    def loss_record(self) -> LossRecord:
        """What the stage's loss is and needs."""
        return LOSSES[self.loss]


def known_human_share(stages: Sequence[Stage]) -> float:
    """Share of the human-labelled queries whose labels a run may know: its stages' largest, 0 where none uses any."""
    return max((stage.human_share for stage in stages if stage.uses_human), default=0.0)


@dataclass(frozen=True)
class _Range:
    """Which numbers a field may be, and how that is said."""

    low: float
    high: float
    takes_low: bool
    is_whole: bool
    words: str

    def holds(self, value: float) -> bool:
        """Whether the value is one of them."""
        is_above = value >= self.low if self.takes_low else value > self.low
        return math.isfinite(value) and is_above and value <= self.high and (not self.is_whole or value == int(value))


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "labels": get_args(Labels),
    "loss": tuple(LOSSES),
    "positives": get_args(PositiveStrategy),
    "ignore": get_args(IgnoreBand),
    "propensities": get_args(Propensities),
    "dwell": get_args(Dwell),
    "blend": get_args(Blend),
}
_RANGES: Mapping[str, _Range] = {
    "epochs": _Range(1.0, math.inf, True, True, "whole and at least 1"),
    "learning_rate": _Range(0.0, math.inf, False, False, "above 0"),
    "human_share": _Range(0.0, 1.0, True, False, "from 0 to 1"),
    "utility_temperature": _Range(0.0, math.inf, False, False, "above 0"),
    "bm25_share": _Range(-1.0, 1.0, True, False, "from 0 to 1, or -1 to tune it"),
    "llm_share": _Range(-1.0, 1.0, True, False, "from 0 to 1, or -1 to tune it"),
    "kappa": _Range(-1.0, math.inf, True, False, "at least 0, or -1 to choose it on dev"),
    "click_share": _Range(-1.0, 1.0, True, False, "from 0 to 1, or -1 to leave it to the frequency"),
}
_DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in fields(Stage)}


def parse_curriculum(text: str) -> list[Stage]:
    """Stages of a YAML (or JSON) list.

    Raises:
        ValueError: With one line for each problem of each stage: which stage, which field, what it is, what it may be.
    """
    try:
        rows = load_yaml(text)
    except yaml.YAMLError as error:
        raise ValueError(f"curriculum: not YAML ({error}); give a list of stages") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError("curriculum: no stages; give a list such as [{name: llm, labels: llm, epochs: 2}]")
    problems = [
        f"curriculum stage {number}: {problem}"
        for number, row in enumerate(rows, start=1)
        for problem in _problems(row)
    ]
    if problems := problems + _repeated_names(rows):
        raise ValueError("\n".join(problems))
    return [_stage(row) for row in rows]


def _stage(row: Mapping[str, Any]) -> Stage:
    numbers = {name: float(value) for name, value in row.items() if name in _RANGES}
    if "epochs" in numbers:
        numbers["epochs"] = int(numbers["epochs"])
    return Stage(**{**row, **numbers})


def _problems(row: Any) -> list[str]:  # noqa: ANN401
    """Everything that is wrong with one stage."""
    if not isinstance(row, dict):
        return [f"{row!r} is not a mapping; give name, labels, and what differs from the defaults"]
    problems = [
        f"unknown field {str(name)!r}{_nearest(str(name), _DEFAULTS)}; known are {', '.join(_DEFAULTS)}"
        for name in row
        if name not in _DEFAULTS
    ]
    problems += [f"{name} is missing; give it" for name in ("name", "labels") if name not in row]
    if "name" in row and (not isinstance(row["name"], str) or not row["name"].strip()):
        problems.append(f"name {row['name']!r} is not a word; give the stage a name")
    for field, known in _CHOICES.items():
        if field in row and row[field] not in known:
            problems.append(f"{field} {row[field]!r}{_nearest(str(row[field]), known)}; known are {', '.join(known)}")
    for field, allowed in _RANGES.items():
        if field in row:
            problems += _number_problems(field, row[field], allowed)
    return problems or _misfits(_stage(row), row)


def _number_problems(field: str, value: Any, allowed: _Range) -> list[str]:  # noqa: ANN401
    # YAML reads 3e-5 (without a point) as text, and `yes` as a number that Python would take.
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        return [f"{field} {value!r} is not a number; it must be {allowed.words}"]
    return [] if allowed.holds(number) else [f"{field} {value!r} must be {allowed.words}"]


def _misfits(stage: Stage, row: Mapping[str, Any]) -> list[str]:
    """Values that are right alone and cannot work together."""
    record = stage.loss_record
    problems = _teacher_misfits(stage, row) + _click_misfits(stage, row)
    if record.needs_utilities and stage.uses_human:
        losses = ", ".join(name for name, other in LOSSES.items() if not other.needs_utilities)
        problems.append(
            f"the loss {stage.loss} learns from the LLM's scores, which labels {stage.labels!r} do not have; "
            f"use labels: llm, or one of the losses {losses}"
        )
    if (record.is_of_sets or record.needs_clicks) and stage.utility_temperature != _DEFAULTS["utility_temperature"]:
        problems.append(f"utility_temperature has no effect on the loss {stage.loss}; leave it out")
    if record.one_positive and stage.positives == "avg":
        problems.append(f"the loss {stage.loss} takes one positive a query, not positives: avg; use positives: one")
    if stage.labels in ("llm", "clicks", "clicks_and_llm") and stage.human_share != _DEFAULTS["human_share"]:
        problems.append(
            f"human_share has no effect on labels {stage.labels!r}; leave it out, or use labels: human or mixed"
        )
    if stage.labels in ("human", "mixed") and stage.human_share == 0:
        problems.append(f"human_share 0 leaves labels {stage.labels!r} nothing; it must be above 0 and at most 1")
    return problems


def _teacher_misfits(stage: Stage, row: Mapping[str, Any]) -> list[str]:
    needs, problems = stage.loss_record.needs_teacher, []
    if needs != stage.uses_teacher:
        losses = ", ".join(name for name, other in LOSSES.items() if other.needs_teacher)
        problems.append(
            f"the loss {stage.loss} and labels {stage.labels!r} do not go together: labels: teacher learn by the loss "
            f"{losses}, and only they do"
        )
    if stage.uses_teacher and "human_share" not in row:
        problems.append("human_share is missing; say what share of the human labels joins the teacher, 0 for none")
    if not stage.uses_teacher:
        problems += [
            f"{name} has no effect on labels {stage.labels!r}; leave it out, or use labels: teacher"
            for name in ("bm25_share", "llm_share")
            if name in row
        ]
    return problems


def _click_misfits(stage: Stage, row: Mapping[str, Any]) -> list[str]:
    problems, of_sets = [], ", ".join(name for name, other in LOSSES.items() if other.is_of_sets)
    if stage.loss_record.needs_clicks != (stage.labels == "clicks"):
        problems.append(
            f"the loss {stage.loss} and labels {stage.labels!r} do not go together: labels: clicks learn by the loss "
            "click_listwise, and only they do"
        )
    if stage.labels == "clicks_and_llm" and not stage.loss_record.is_of_sets:
        problems.append(f"the loss {stage.loss} is none of labels {stage.labels!r}; use one of {of_sets}")
    effects = {
        "propensities": stage.uses_clicks,
        "dwell": stage.uses_clicks,
        "blend": stage.labels == "clicks_and_llm",
        "kappa": stage.blend == "frequency" and stage.click_share < 0,
        "click_share": stage.blend == "frequency",
    }
    return problems + [
        f"{name} has no effect on this stage (labels {stage.labels!r}, blend {stage.blend!r}); leave it out"
        for name, has_effect in effects.items()
        if name in row and not has_effect
    ]


def _repeated_names(rows: Sequence[Any]) -> list[str]:
    """The order of a stage's queries is drawn by its name, and its numbers are reported under it."""
    names = [str(row["name"]) for row in rows if isinstance(row, dict) and "name" in row]
    return [
        f"curriculum: {names.count(name)} stages have the name {name!r}; give each its own"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]


def _nearest(value: str, known: Collection[str]) -> str:
    nearest = get_close_matches(value, list(known), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""
