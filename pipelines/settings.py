"""A parameter file -> checked settings for the whole flow, before anything runs or is compiled.

Every problem is named at once: a section or setting that is unknown, a value of a wrong type, a config that refuses its
values, two sections that contradict each other. So a typo in a curriculum costs a second and not a GPU day.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from components.annotate.judging.methods import METHODS
from components.shared.contract.pointer import POINTER_NAME
from components.shared.contract.yaml_text import load_yaml
from components.shared.encoding import sentence_transformers
from components.train.curriculum import Stage, parse_curriculum
from pipelines import flow
from pipelines.flow import SECTIONS, Settings
from pipelines.packaged import PACKAGED_SCHEME, packaged_problem, resolve

# Names of earlier versions, and what to write now.
_RENAMED = {"base": "encoder (checkpoint, pooling, prefixes and lengths) and export (everything else)"}
# Key of a parameter file that names another one, whose values hold where this one says nothing.
_EXTENDS = "extends"
# A unit vector's scores lie between -1 and 1; above this temperature a softmax over them is flat and teaches nothing.
_LARGEST_UNIT_TEMPERATURE = 0.5
_REMEDIES = {str: "put it in quotes", int: "write a whole number", float: "write a number"}


class SettingsError(ValueError):
    """Settings that cannot work; one line a problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def read_settings(path: Path, assignments: Sequence[str] = ()) -> Settings:
    """The settings of a parameter file with `section.setting=value` put over them, complete and checked.

    Raises:
        SettingsError: Naming every problem of the file and of the assignments.
    """
    return complete(_read(path, ()), assignments, where=str(path))


def _read(path: Path, readers: tuple[Path, ...]) -> object:
    """What a file says, over what the file that it extends says; such a file is named relative to its reader."""
    if path in readers:
        raise SettingsError([f"{path}: extends itself by way of {', '.join(map(str, readers))}"])
    try:
        values = load_yaml(path.read_text("utf-8")) or {}
    except FileNotFoundError as error:
        raise SettingsError([f"{path}: no such parameter file; `pipelines/params` holds some to start from"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not YAML ({' '.join(str(error).split())})"]) from error
    if not isinstance(values, dict) or _EXTENDS not in values:
        return values
    below = _read(path.parent / str(values.pop(_EXTENDS)), (*readers, path))
    return _put_over(below, values) if isinstance(below, dict) else below


def _put_over(below: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for section, chosen in values.items():
        known = merged.get(section)
        merged[section] = {**known, **chosen} if isinstance(known, dict) and isinstance(chosen, dict) else chosen
    return merged


def complete(values: object, assignments: Sequence[str] = (), *, where: str = "") -> Settings:
    """All settings of all sections, those not given by their defaults; a required one without a value is empty.

    Raises:
        SettingsError: Naming every problem.
    """
    problems: list[str] = []
    settings = defaults()
    prefix = f"{where}: " if where else ""
    problems += [f"{prefix}{problem}" for problem in _fill(settings, values)]
    for assignment in assignments:
        problems += [f"--set {assignment}: {problem}" for problem in _assign(settings, assignment)]
    known = {problem.partition(": ")[2].split(" ")[0] for problem in problems}
    problems += [problem for problem in _refused(settings) if problem.split(" ")[0] not in known]
    if problems:
        raise SettingsError(problems)
    return settings


def defaults() -> Settings:
    """Every section with every setting that a person may set; one without a default is empty."""
    filled: Settings = {section: {} for section in SECTIONS}
    for section, config in SECTIONS.items():
        rows = [flow.owners(task) for task in flow.FLOW if section in task.sections]
        for declared in dataclasses.fields(config):
            if any(row.get(declared.name) == section for row in rows):
                filled[section][declared.name] = "" if declared.default is MISSING else declared.default
    return filled


def required(settings: Settings) -> Iterator[str]:
    """`section.setting` of everything that a run with these settings needs and that has no default."""
    for task in flow.taking_part(settings):
        for name, section in flow.owners(task).items():
            if task.config.__dataclass_fields__[name].default is MISSING:
                yield f"{section}.{name}"


def missing(settings: Settings) -> list[str]:
    """One line for every setting that a run needs and that is empty."""
    lines = []
    for setting in dict.fromkeys(required(settings)):
        section, name = setting.split(".")
        if not settings[section][name]:
            lines.append(f"{setting} is not set; a run needs it (--set {setting}=...)")
    return lines


def resolved(settings: Settings) -> Settings:
    """The settings with `packaged:` addresses replaced by the files on this machine.

    Raises:
        SettingsError: Where a package is not installed, or its file is not the publisher's.
    """
    problems: list[str] = []
    replaced: Settings = {section: dict(chosen) for section, chosen in settings.items()}
    for section, name, value in _packaged(settings):
        try:
            replaced[section][name] = resolve(value)
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{section}.{name} {value}: {error}")
    if problems:
        raise SettingsError(problems)
    return replaced


def continued(settings: Settings, store: str) -> Settings:
    """The settings of a run that promotes to a store and starts from the encoder that is served there, if any is.

    The base encoder of such a run is production's: it mines, it is what is trained further, and it is what the gate
    compares the outcome with, on the same queries and the same new corpus. Which one that is, the run itself looks up.
    """
    chosen = {"promote": {"store": store}, "start": {"pointer_uri": f"{store.rstrip('/')}/{POINTER_NAME}"}}
    return settings | {section: {**settings[section], **values} for section, values in chosen.items()}


def only_here(settings: Settings) -> list[str]:
    """One line for every address of a run that only this machine can resolve, with what to write instead."""
    read = {section for task in flow.taking_part(settings) for section in flow.owners(task).values()}
    return [
        f"{section}.{name} {value}: a file of a package on this machine, which no container has; name a model on the "
        "hub, or a folder "
        f"in a bucket (--set {section}.{name}=...)"
        for section, name, value in _packaged(settings)
        if section in read
    ]


def _packaged(settings: Settings) -> Iterator[tuple[str, str, str]]:
    for section, chosen in settings.items():
        for name, value in chosen.items():
            if isinstance(value, str) and value.startswith(PACKAGED_SCHEME):
                yield section, name, value


def _fill(settings: Settings, values: object) -> Iterator[str]:
    """Puts a file's values over the defaults; yields what is wrong with them."""
    if not isinstance(values, Mapping):
        yield f"a mapping of sections is wanted, found {type(values).__name__}; known are {', '.join(SECTIONS)}"
        return
    for section, given in values.items():
        if problem := _unknown(str(section), SECTIONS, "section"):
            yield problem
        elif given is not None and not isinstance(given, Mapping):
            yield f"section {section}: a mapping of settings is wanted, found {given!r}"
        else:
            for name, value in (given or {}).items():
                yield from _put(settings, str(section), str(name), value)


def _assign(settings: Settings, assignment: str) -> Iterator[str]:
    name, equals, value = assignment.partition("=")
    section, dot, setting = name.partition(".")
    if not equals or not dot:
        yield "write section.setting=value, such as mine.num_queries=200"
    elif problem := _unknown(section, SECTIONS, "section"):
        yield problem
    else:
        try:
            loaded = load_yaml(value)
        except yaml.YAMLError:
            loaded = value
        yield from _put(settings, section, setting, "" if loaded is None else loaded)


def _put(settings: Settings, section: str, name: str, value: object) -> Iterator[str]:
    if problem := _unknown(name, settings[section], f"setting in section {section}:"):
        yield problem
        return
    try:
        settings[section][name] = _typed(section, name, value)
    except ValueError as error:
        yield f"{section}.{name} {error}"


def _unknown(name: str, known: Iterable[str], what: str) -> str:
    if name in known:
        return ""
    if what == "section" and name in _RENAMED:
        return f"section {name} is now {_RENAMED[name]}"
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown {what} {name}; {remedy}"


def _typed(section: str, name: str, value: object) -> object:
    """The value as its config field wants it; what YAML reads otherwise than people mean it is put right.

    Raises:
        ValueError: The value and what is wrong with it.
    """
    wanted = get_type_hints(SECTIONS[section])[name]
    if name == "curriculum":
        # On one line: KFP writes defaults into a comment of the compiled file, where a second line breaks the file.
        return " ".join(value.split()) if isinstance(value, str) and "\n" not in value.strip() else _one_line(value)
    if get_origin(wanted) is Literal:
        # YAML reads a bare yes or no as a truth value.
        value = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        if value not in get_args(wanted):
            raise ValueError(f"{value!r}: is none of {', '.join(get_args(wanted))}")
        return value
    if wanted is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML reads 3e-5 (without a point) as text.
        return _number(value)
    if type(value) is not wanted:
        raise ValueError(f"{value!r}: is not of type {wanted.__name__}; {_REMEDIES[wanted]}")
    return value


def _one_line(stages: object) -> str:
    if not isinstance(stages, str):
        return json.dumps(stages)
    try:
        return json.dumps(load_yaml(stages))
    except yaml.YAMLError as error:
        raise ValueError(f"is not YAML ({' '.join(str(error).split())})") from error


def _number(value: float | str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{value!r}: is not a number") from error


def _refused(settings: Settings) -> list[str]:
    """What the configs of all tasks, and two sections together, say against the settings; every line once."""
    lines: dict[str, None] = {}
    for task in flow.taking_part(settings):
        inputs = dict.fromkeys(flow.sources(task, settings), "given")
        try:
            flow.make_config(task, settings, inputs=inputs, output_uri="given")
        except ValueError as error:
            lines |= dict.fromkeys(_with_section(line, task) for line in str(error).splitlines())
    lines |= dict.fromkeys(_contradictions(settings))
    return list(lines)


def _with_section(line: str, task: flow.Task) -> str:
    """A config's line, which begins with the field's name, with the section before it."""
    name = line.split(" ")[0].split(":")[0]
    section = flow.owners(task).get(name, task.sections[-1])
    return f"{section}.{line}"


def _contradictions(settings: Settings) -> Iterator[str]:
    for section, name, value in _packaged(settings):
        if problem := packaged_problem(value):
            yield f"{section}.{name} {value}: {problem}"
    yield from _labels_that_nobody_gives(settings)
    yield from _scores_that_a_loss_lacks(settings)
    temperature = settings["train"]["loss_temperature"]
    if (
        isinstance(temperature, int | float)
        and temperature >= _LARGEST_UNIT_TEMPERATURE
        and _makes_unit_vectors(settings)
    ):
        yield (
            f"train.loss_temperature {temperature}: the encoder makes unit vectors, whose scores lie between -1 and "
            "1 and teach nothing "
            "at this temperature; set train.loss_temperature to about 0.05, or encoder.normalise to no"
        )


def _stages(settings: Settings) -> list[Stage]:
    """Those of train; none where they cannot be read, because train's own config has said what is wrong with them."""
    try:
        return parse_curriculum(settings["train"]["curriculum"])
    except ValueError:
        return []


def _labels_that_nobody_gives(settings: Settings) -> Iterator[str]:
    if settings["annotate"]["judge"] != "nobody":
        return
    for number, stage in enumerate(_stages(settings), start=1):
        here = f"train.curriculum stage {number}"
        if stage.uses_llm or stage.loss_record.needs_utilities:
            yield (
                f"{here}: labels {stage.labels!r} are the LLM's, and annotate.judge is nobody; use labels: human or "
                "teacher, or annotate.judge: llm"
            )
        elif stage.uses_teacher and stage.llm_share > 0:
            yield (
                f"{here}: llm_share {stage.llm_share} is the LLM's word, and annotate.judge is nobody; use llm_share: "
                "0, or annotate.judge: llm"
            )


def _scores_that_a_loss_lacks(settings: Settings) -> Iterator[str]:
    method = METHODS.get(settings["annotate"]["method"])
    for number, stage in enumerate(_stages(settings), start=1):
        if method is not None and stage.loss_record.needs_utilities and method.gives != "scores":
            scoring = ", ".join(name for name, other in METHODS.items() if other.gives == "scores")
            yield (
                f"train.curriculum stage {number}: the loss {stage.loss} learns from the LLM's scores, which "
                f"annotate.method {method.name} does not give; use one of {scoring}"
            )


def _makes_unit_vectors(settings: Settings) -> bool:
    """Without loading a model: normalise auto of a local sentence-transformers folder is in its modules.json."""
    encoder = settings["encoder"]
    if encoder["normalise"] != "auto":
        # train's own config refuses `yes` with such a temperature.
        return False
    try:
        folder = Path(resolve(encoder["checkpoint_uri"]))
        modules = sentence_transformers.read_settings(folder) if folder.is_dir() else None
    except (ValueError, OSError):
        return False
    return modules is not None and modules.normalise
