"""Arms: what is compared. Each is a record of a name, a sentence, and the settings in which it differs.

Everything else is the parameter file's, so arms differ in what they declare and in nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from components.shared.contract.yaml_text import load_yaml
from pipelines.settings import SettingsError

# Sections that all arms share: with other queries, another base model or another measure they could not be compared.
_SHARED_SECTIONS = ("prepare", "encoder", "ask", "evaluate")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing to compare.

    Attributes:
        name: What tables call it.
        sentence: What it is, for a person.
        system: Of an arm that trains nothing: which system of an evaluation it is; empty for an arm that trains.
        settings: Section -> setting -> value, over the parameter file's.
        mined_by: Another arm whose trained encoder finds this arm's dense hard negatives, with the same seed.
        adds: Other arm -> the ingredient that this one has and that one lacks; each becomes a row of its own.
    """

    name: str
    sentence: str
    system: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mined_by: str = ""
    adds: Mapping[str, str] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether it has an encoder of its own."""
        return not self.system

    @property
    def assignments(self) -> list[str]:
        """Its settings as `section.setting=value`."""
        return [
            f"{section}.{name}={json.dumps(value)}"
            for section, chosen in self.settings.items()
            for name, value in chosen.items()
        ]


_FIELDS = ("name", "sentence", "extends", "settings", "mined_by", "adds")


def chosen_arms(names: str, built_in: Sequence[Arm], own: Path | None = None) -> list[Arm]:
    """The arms of a list of names separated by commas, each with those that it needs before it.

    Args:
        names: Of built-in arms and of those in the file.
        built_in: Those that need no file.
        own: YAML file of more arms.

    Raises:
        SettingsError: Naming every name that is unknown, and every problem of the file.
    """
    known = {arm.name: arm for arm in built_in}
    known |= {arm.name: arm for arm in (_read(own, known) if own is not None else [])}
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    problems = [f"--arms {name}: no such arm{_near(name, known)}" for name in wanted if name not in known]
    if not wanted:
        problems.append(f"--arms: names of arms separated by commas are wanted; known are {', '.join(known)}")
    if problems:
        raise SettingsError(problems)
    return [known[name] for name in dict.fromkeys(_with_miners(wanted, known))]


def _with_miners(wanted: Iterable[str], known: Mapping[str, Arm]) -> Iterator[str]:
    for name in wanted:
        if known[name].mined_by:
            yield from _with_miners([known[name].mined_by], known)
        yield name


def _near(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _read(path: Path, known: Mapping[str, Arm]) -> list[Arm]:
    """The arms of a file; `extends` names an arm whose settings hold where this one says nothing."""
    try:
        rows = load_yaml(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: no list of arms in YAML ({' '.join(str(error).split())})"]) from error
    if not isinstance(rows, list) or not rows:
        raise SettingsError(
            [f"{path}: a list of arms is wanted, such as [{{name: mine, sentence: ..., settings: {{}}}}]"]
        )
    arms: dict[str, Arm] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=1):
        here = list(_problems(row, {**known, **arms}))
        problems += [f"{path}: arm {number}: {problem}" for problem in here]
        if not here:
            arms[row["name"]] = _arm(row, {**known, **arms})
    if problems:
        raise SettingsError(problems)
    return list(arms.values())


def _arm(row: Mapping[str, Any], known: Mapping[str, Arm]) -> Arm:
    below = known[row["extends"]].settings if "extends" in row else {}
    own = row.get("settings", {})
    merged = {section: {**below.get(section, {}), **own.get(section, {})} for section in {**below, **own}}
    values = {name: value for name, value in row.items() if name != "extends"}
    return Arm(**{**values, "settings": merged})


def _problems(row: Any, known: Mapping[str, Arm]) -> Iterator[str]:  # noqa: ANN401
    """What is wrong with one arm of a file, beside the arms that are known before it."""
    if not isinstance(row, dict):
        yield f"{row!r} is not a mapping of {', '.join(_FIELDS)}"
        return
    yield from (f"unknown field {str(name)!r}{_near(str(name), _FIELDS)}" for name in row if name not in _FIELDS)
    texts = {name: row.get(name) for name in ("name", "sentence")}
    yield from (f"{name} is missing; give it as text" for name, text in texts.items() if not isinstance(text, str))
    if isinstance(row.get("name"), str):
        yield from _name_problems(row["name"], known)
    yield from _setting_problems(row)
    trained = [name for name, arm in known.items() if arm.trains]
    for field_name in ("extends", "mined_by"):
        if row.get(field_name, trained[0]) not in trained:
            yield f"{field_name} {row[field_name]!r}: no arm that trains and stands before it"
    yield from (f"adds {other!r}: no such arm before it" for other in row.get("adds") or () if other not in known)


def _name_problems(name: str, known: Mapping[str, Arm]) -> Iterator[str]:
    if name in known:
        yield f"name {name!r} is that of another arm"
    elif not _NAME.fullmatch(name):
        yield f"name {name!r}: letters, digits and . + - _ are wanted"


def _setting_problems(row: Mapping[str, Any]) -> Iterator[str]:
    settings = row.get("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(chosen, dict) for chosen in settings.values()):
        yield "settings: sections with settings are wanted, such as {train: {loss_temperature: 0.1}}"
        return
    for section in settings:
        if section in _SHARED_SECTIONS:
            yield f"settings: section {section} is the same for all arms; say it in the parameter file or by --set"
