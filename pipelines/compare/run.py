"""Runs the arms: everything on dev first, then what is to be read of test, each with a page as soon as there is one.

Killed at any moment it goes on where it was, because every step does; a second call finds all steps unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import orjson

from components.shared import log
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.manifest import open_artifact, read_manifest
from pipelines.compare.arms import Arm
from pipelines.compare.content import Split, content_of
from pipelines.compare.page import write_pages
from pipelines.compare.planning import Cell, Given, Planner, in_order, plain_name
from pipelines.compare.results import choose
from pipelines.local import LocalStep, Tally, run_steps

Test = Literal["all", "chosen", "none"]
READS_NAME = "test_reads.jsonl"
# Stands for all that is untrained, in every table.
_UNTRAINED = Arm(name="base", sentence="The untrained encoder.", system="base")


@dataclass
class Comparing:
    """One call of the command: what is asked for, who judges, what is measured, and what was done for it."""

    given: Given
    test: Test
    planner: Planner
    judged_by: dict[str, str] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


def compare(given: Given, *, test: Test) -> Comparing:
    """Runs what is not done yet and writes compare.html, compare.md and compare.json into the work folder.

    Raises:
        SettingsError: Naming the arm of every setting that cannot work, before anything runs.
        StepError: With the exit code of the step that failed; what was finished before stays.
    """
    comparing = Comparing(given, test, Planner(given))
    _find_judges(comparing)
    trained = [arm for arm in given.arms if arm.trains]
    _measure(comparing, "dev", trained)
    if test == "chosen":
        chosen = choose(comparing.splits["dev"].measured()).arm
        trained = [arm for arm in trained if arm.name == chosen]
    if test != "none":
        _measure(comparing, "test", trained)
    return comparing


def _find_judges(comparing: Comparing) -> None:
    """Makes the dataset and sees which split has no judgements of its own; the LLM judges it, once for all arms."""
    planner = comparing.planner
    _run(comparing, planner.dataset_steps())
    dataset = Dataset(open_artifact(planner.dataset_uri()))
    splits = ["dev"] if comparing.test == "none" else ["dev", "test"]
    if unjudged := [split for split in splits if not dataset.qrels(split)]:
        log.warning("nobody has judged a split: the LLM does, for all arms alike", splits=unjudged)
        steps = planner.judging_steps()
        _run(comparing, steps)
        uris = ",".join(step.config.output_uri for step in steps if step.component == "annotate")
        comparing.judged_by = dict.fromkeys(unjudged, uris)


def _measure(comparing: Comparing, split: str, arms: Sequence[Arm]) -> None:
    """The cells of a split, seed by seed; the page is written after each seed, of those that are finished."""
    reference = _cell(comparing, _UNTRAINED, 0, split)
    _run(comparing, reference.steps)
    measuring = comparing.splits[split] = Split(reference, comparing.given.num_seeds if arms else 0)
    for seed in comparing.planner.seeds() if arms else ():
        log.event("comparing", split=split, seed=seed, arms=", ".join(arm.name for arm in arms))
        cells = [_cell(comparing, arm, seed, split) for arm in arms]
        _run(comparing, in_order(cells))
        measuring.cells += cells
        _link(comparing.given.workdir, cells)
        if split == "test":
            _note_reads(comparing.given.workdir, cells)
        _write(comparing)
    if not arms:
        _write(comparing)


def _cell(comparing: Comparing, arm: Arm, seed: int, split: str) -> Cell:
    return comparing.planner.cell(arm, seed, split, judged_by=comparing.judged_by.get(split, ""))


def _run(comparing: Comparing, steps: Sequence[LocalStep]) -> None:
    done, total = run_steps(steps), comparing.tally
    total.executed, total.skipped = total.executed + done.executed, total.skipped + done.skipped
    total.seconds, total.peak_mebibytes = (
        total.seconds + done.seconds,
        max(total.peak_mebibytes, done.peak_mebibytes),
    )


def _write(comparing: Comparing) -> None:
    given = comparing.given
    content = content_of(given, comparing.splits, reads=read_versions(given.workdir / READS_NAME))
    write_pages(given.workdir, content)


def _link(workdir: Path, cells: Sequence[Cell]) -> None:
    """A work folder for each arm and seed, which `retriever serve` and a person find their way in."""
    for cell in cells:
        folder = workdir / "arms" / f"{cell.arm}-seed{cell.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        # Of two rounds the second one's: it comes later.
        artifacts = {plain_name(Path(step.config.output_uri).name): Path(step.config.output_uri) for step in cell.steps}
        artifacts[f"evaluation-{cell.split}"] = artifacts.pop("evaluation")
        for name, artifact in artifacts.items():
            target, link = Path(os.path.relpath(artifact, folder)), folder / name
            if not link.is_symlink() or link.readlink() != target:
                link.unlink(missing_ok=True)
                link.symlink_to(target)


def _note_reads(workdir: Path, cells: Sequence[Cell]) -> None:
    """Keeps which trained encoders test was read with: a second version of an arm has seen the first one's result."""
    path = workdir / READS_NAME
    known = path.read_bytes().splitlines() if path.exists() else []
    for cell in cells:
        inputs = read_manifest(str(cell.evaluation.config.output_uri)).inputs
        read = {"arm": cell.arm, "seed": cell.seed, "encoder": inputs["encoder"], "index": inputs["index"]}
        line = orjson.dumps(read, option=orjson.OPT_SORT_KEYS)
        known += [] if line in known else [line]
    storage.write_bytes(str(path), b"".join(line + b"\n" for line in known))


def read_versions(path: Path) -> dict[str, int]:
    """How many versions of each arm test was read with, one seed looked at alone."""
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    of_seeds = [(line["arm"], line["seed"]) for line in lines]
    return {arm: max(of_seeds.count(cell) for cell in of_seeds if cell[0] == arm) for arm, _ in of_seeds}
