"""Arms and seeds -> steps. A task that does not differ between two arms has one folder for both, and so runs once.

The folder's name ends in a key of everything that a person or an arm can set for the task and for all tasks before it.
Whether its artifact is up to date is said by the step's identity, as in any run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.shared.hashing import content_key
from components.shared.roles import Role, role_of, values
from pipelines import flow
from pipelines.commands.queries import with_queries
from pipelines.compare.arms import Arm
from pipelines.flow import Settings, Task
from pipelines.local import FolderOf, LocalStep, plan
from pipelines.settings import SettingsError, missing, read_settings

_KEY_CHARACTERS = 12
_ARTIFACTS = "artifacts"
# Whoever judges a split judges it for all arms, so an evaluation never reads an arm's own annotations.
_MEASURING, _JUDGED_BY = "evaluate", "annotations_uri"


@dataclass(frozen=True)
class Given:
    """What a person has asked for; `assignments` are over the parameter file's settings, for all arms."""

    data: Path
    params: Path
    workdir: Path
    arms: Sequence[Arm]
    num_seeds: int
    assignments: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """One arm with one seed, measured on one split: the evaluation, and all steps that it needs, in order."""

    arm: str
    seed: int
    split: str
    evaluation: LocalStep
    steps: Sequence[LocalStep]


class Planner:
    """Settings and steps of every arm; all settings are checked when it is made."""

    def __init__(self, given: Given) -> None:
        """Raises SettingsError naming the arm of every problem."""
        self._given = given
        # What is wrong with the parameter file is said once, and not once an arm.
        self._reference = with_queries(self._read([]), given.data)
        problems: list[str] = []
        self._settings: dict[tuple[str, int], Settings] = {}
        for arm in given.arms:
            try:
                self._settings |= {(arm.name, seed): self._of_arm(arm, seed) for seed in self._seeds(arm)}
            except SettingsError as error:
                problems += [f"arm {arm.name}: {problem}" for problem in error.problems]
        if problems:
            raise SettingsError(problems)
        for arm in given.arms:
            self._let_mine(arm)

    def seeds(self) -> range:
        """The seeds of arms that train; 0 is that of what is untrained."""
        return range(1, self._given.num_seeds + 1)

    def dataset_steps(self) -> list[LocalStep]:
        """What must run before it is known who has judged which split; the last one makes the dataset."""
        steps = self._steps(self._reference, "dev", "")
        return needed(steps, [_last(steps).config.dataset_uri])

    def dataset_uri(self) -> str:
        """Where the dataset with the queries lies."""
        return str(self.dataset_steps()[-1].config.output_uri)

    def judging_steps(self) -> list[LocalStep]:
        """The annotations of the parameter file's own settings, for splits that nobody else has judged.

        Raises:
            SettingsError: Where these do not say which LLM.
        """
        if problems := missing(self._reference):
            raise SettingsError(problems)
        steps = self._steps(self._reference, "dev", "")
        return needed(steps, [step.config.output_uri for step in steps if step.component == "annotate"])

    def cell(self, arm: Arm, seed: int, split: str, *, judged_by: str = "") -> Cell:
        """The steps of an arm; of one that trains nothing those of the untrained encoder, which stands on both sides.

        Args:
            arm: Of the given ones.
            seed: Of training.
            split: Measured on.
            judged_by: Annotations, separated by commas, that judge the split; empty where it needs none.
        """
        settings = self._settings[arm.name, seed] if arm.trains else self._reference
        steps = self._steps(settings, split, judged_by)
        evaluation = _last(steps)
        if not arm.trains:
            evaluation = self._untrained(evaluation, split, judged_by)
        before = self._steps_of_miner(arm, seed, split)
        return Cell(
            arm.name if arm.trains else "base",
            seed,
            split,
            evaluation,
            needed([*before, *steps[:-1], evaluation], [evaluation.config.output_uri]),
        )

    def _seeds(self, arm: Arm) -> Iterable[int]:
        return self.seeds() if arm.trains else ()

    def _read(self, own: Sequence[str]) -> Settings:
        given = self._given
        return read_settings(given.params, [*given.assignments, *own, f"prepare.collection_uri={given.data.resolve()}"])

    def _of_arm(self, arm: Arm, seed: int) -> Settings:
        settings = self._read([*arm.assignments, f"train.seed={seed}"])
        settings["ask"] = self._reference["ask"]
        if problems := missing(settings):
            raise SettingsError(problems)
        return settings

    def _let_mine(self, arm: Arm) -> None:
        """Names the other arm's checkpoint as the miner of this arm, seed by seed."""
        for seed in self._seeds(arm) if arm.mined_by else ():
            settings, other = self._settings[arm.name, seed], self._settings[arm.mined_by, seed]
            (train,) = (step for step in self._steps(other, "dev", "") if step.component == "train")
            miner = {**settings["encoder"], "checkpoint_uri": train.config.output_uri}
            self._settings[arm.name, seed] = {**settings, "miner": miner}

    def _steps_of_miner(self, arm: Arm, seed: int, split: str) -> list[LocalStep]:
        if not arm.mined_by:
            return []
        (miner,) = (other for other in self._given.arms if other.name == arm.mined_by)
        own = self._steps(self._settings[miner.name, seed], split, "")[:-1]
        return [*self._steps_of_miner(miner, seed, split), *own]

    def _steps(self, settings: Settings, split: str, judged_by: str) -> list[LocalStep]:
        settings = {**settings, _MEASURING: {**settings[_MEASURING], "split": split}}
        planned = plan(settings, self._given.workdir, folder_of=self._folders(settings, judged_by))
        # Answers are made from an evaluation, and compared nowhere here.
        end = next(number for number, step in enumerate(planned, start=1) if step.component == _MEASURING)
        steps, evaluation = planned[:end], planned[end - 1]
        return [*steps[:-1], replace(evaluation, config=replace(evaluation.config, **{_JUDGED_BY: judged_by}))]

    def _untrained(self, evaluation: LocalStep, split: str, judged_by: str) -> LocalStep:
        config = evaluation.config
        base = {"encoder_uri": config.base_encoder_uri, "index_uri": config.base_index_uri}
        key = content_key("untrained", split, self._portable(judged_by), *map(self._portable, base.values()))
        folder = self._given.workdir / _ARTIFACTS / f"base-evaluation-{key[:_KEY_CHARACTERS]}"
        return replace(evaluation, name="evaluate (base)", config=replace(config, **base, output_uri=str(folder)))

    def _folders(self, settings: Settings, judged_by: str) -> FolderOf:
        keys: dict[str, str] = {}

        def key(task: Task) -> str:
            if task.name not in keys:
                makers = {
                    name: key(maker)
                    for name, maker in flow.sources(task, settings).items()
                    if (task.component, name) != (_MEASURING, _JUDGED_BY)
                }
                judge = self._portable(judged_by) if task.component == _MEASURING else ""
                keys[task.name] = content_key(task.name, self._chosen(task, settings), makers, judge)
            return keys[task.name]

        return lambda task: self._given.workdir / _ARTIFACTS / f"{task.makes}-{key(task)[:_KEY_CHARACTERS]}"

    def _chosen(self, task: Task, settings: Settings) -> dict[str, Any]:
        """What decides the task's result, of all that can be set for it."""
        roles = {name: role_of(task.config.__dataclass_fields__[name]) for name in flow.owners(task)}
        return {
            name: self._portable(settings[section][name])
            for name, section in flow.owners(task).items()
            if roles[name] in (Role.SETTING, Role.INPUT)
        }

    def _portable(self, value: Any) -> Any:  # noqa: ANN401
        """A value without the work folder's own address, so that a work folder that was moved goes on."""
        return value.replace(f"{self._given.workdir}/", "") if isinstance(value, str) else value


def plain_name(folder: str) -> str:
    """Name of an artifact as a run's own work folder has it: without the key."""
    return re.sub(rf"-[0-9a-f]{{{_KEY_CHARACTERS}}}(?=-|$)", "", folder)


def needed(steps: Sequence[LocalStep], goals: Collection[str]) -> list[LocalStep]:
    """The steps that make these artifacts, and all that they are made from, in order and each once."""
    makers = {step.config.output_uri: step for step in steps}
    waiting, wanted = list(goals), set[str]()
    while waiting:
        uri = waiting.pop()
        if uri in makers and uri not in wanted:
            wanted.add(uri)
            inputs = values(makers[uri].config, Role.INPUT).values()
            waiting += [given for joined in inputs for given in joined.split(",")]
    return [step for uri, step in makers.items() if uri in wanted]


def _last(steps: Sequence[LocalStep]) -> LocalStep:
    """The evaluation, which ends a cell."""
    assert steps[-1].component == _MEASURING, "a cell ends with what measures it"
    return steps[-1]


def in_order(cells: Iterable[Cell]) -> list[LocalStep]:
    """The steps of cells in order, each once."""
    return list({step.config.output_uri: step for cell in cells for step in cell.steps}.values())
