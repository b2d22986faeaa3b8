"""What an arm costs: LLM calls and tokens, human labels, seconds; read from the manifests of its steps.

An arm is charged all that it needs, also where another arm has paid for it already, so that the order of arms changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from components.annotate.quality.report import LEDGER_NAME
from components.shared.manifest import Manifest, read_manifest
from pipelines.compare.planning import Cell
from pipelines.local import LocalStep


@dataclass(frozen=True)
class Cost:
    """Of one arm, a mean over its seeds.

    `train_seconds`: of all trainings that it needs; of one that was killed, of the attempt that finished. `kept`: how
    many of its seeds ended with which weights (base, trained, mixed), and `reasons` why. `precisions`: those that its
    trainings ran in.
    """

    llm_calls: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    llm_seconds: float = 0.0
    human_labels: float = 0.0
    dev_labels: float = 0.0
    train_seconds: float = 0.0
    num_steps: float = 0.0
    kept: Mapping[str, int] = field(default_factory=dict)
    reasons: Sequence[str] = ()
    precisions: Sequence[str] = ()


_SUMS = ("llm_calls", "prompt_tokens", "completion_tokens", "llm_seconds", "human_labels", "dev_labels")
_OF_TRAINING = ("train_seconds", "num_steps")


def cost_of(cells: Sequence[Cell]) -> Cost:
    """The cost of an arm's cells, one a seed."""
    of_seeds = [_of_cell(cell) for cell in cells]
    means = {
        name: round(sum(values[name] for values in of_seeds) / len(of_seeds), 3) for name in (*_SUMS, *_OF_TRAINING)
    }
    kept = [values["kept"] for values in of_seeds if values["kept"]]
    reasons = [f"seed {cell.seed}: {values['reason']}" for cell, values in zip(cells, of_seeds, strict=True)]
    return Cost(
        **means,
        kept={name: kept.count(name) for name in dict.fromkeys(kept)},
        reasons=tuple(reasons) if kept else (),
        precisions=sorted(set().union(*(values["precisions"] for values in of_seeds))),
    )


def _of_cell(cell: Cell) -> dict[str, Any]:
    trainings = [_manifest(step) for step in cell.steps if step.component == "train"]
    last = trainings[-1].metrics if trainings else {}
    return {
        **_of_llm(cell.steps),
        # A round of mining by another arm's encoder has learnt from that arm's labels, which are the same people's.
        "human_labels": max(map(_num_positives, trainings), default=0),
        "dev_labels": last["human_labels"]["dev"] if last else 0,
        "train_seconds": sum(manifest.seconds for manifest in trainings),
        "num_steps": sum(manifest.metrics["num_steps"] for manifest in trainings),
        "kept": last.get("kept", ""),
        "reason": last.get("kept_reason", ""),
        "precisions": {manifest.metrics["training_precision"] for manifest in trainings},
    }


def _num_positives(manifest: Manifest) -> int:
    return sum(manifest.metrics["human_labels"]["positives"].values())


def _manifest(step: LocalStep) -> Manifest:
    return read_manifest(str(step.config.output_uri))


def _of_llm(steps: Sequence[LocalStep]) -> dict[str, float]:
    tallies = list(_tallies(steps))
    names = {"llm_calls": "calls", "llm_seconds": "engine_seconds"}
    return {
        name: sum(float(tally[names.get(name, name)]) for tally in tallies)
        for name in ("llm_calls", "prompt_tokens", "completion_tokens", "llm_seconds")
    }


def _tallies(steps: Sequence[LocalStep]) -> Iterator[Mapping[str, Any]]:
    """Asking; the first round's labels whoever paid for their calls; of later rounds what they paid beside."""
    for step in steps:
        if step.component == "ask":
            yield from _manifest(step).metrics["paid"].values()
    annotations = [step for step in steps if step.component == "annotate"]
    first_round = {step.config.pools_uri for step in annotations[:1]}
    for step in annotations:
        ledger = orjson.loads((Path(step.config.output_uri) / LEDGER_NAME).read_bytes())
        yield ledger["used" if step.config.pools_uri in first_round else "total"]
