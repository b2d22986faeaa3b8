"""The parameter files `pipelines/params/*.yaml`: section -> settings, checked against the configs of the components.

A section is a task of the flow: prepare, base (export of the base model), mine, annotate, train, export (of the trained
model), index, evaluate. Its settings are the fields of that component's config that the flow does not fill itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from components.annotate.config import AnnotateConfig
from components.evaluate.config import EvaluateConfig
from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.mine.config import MineConfig
from components.prepare.config import PrepareConfig
from components.train.config import TrainConfig

Settings = dict[str, dict[str, Any]]

SECTIONS: dict[str, type[Any]] = {
    "prepare": PrepareConfig,
    "base": ExportConfig,
    "mine": MineConfig,
    "annotate": AnnotateConfig,
    "train": TrainConfig,
    "export": ExportConfig,
    "index": IndexConfig,
    "evaluate": EvaluateConfig,
}
# The places that a person names; all others are filled by the flow. train starts from base.checkpoint_uri.
_PLACES = {
    "prepare": {"collection_uri"},
    "base": {"checkpoint_uri"},
    "mine": {"cache_uri"},
    "annotate": {"llm_uri", "endpoint_uri", "journal_uri", "utility_labels_uri", "previous_uri"},
    "train": {"state_uri"},
}
# Where a task stands among its like, and what it makes: the flow says so, not a person.
_OF_FLOW = {"annotate": {"shard"}, "index": {"product", "shard", "num_shards"}}
# A checkpoint of train brings its own pooling, prefixes and lengths.
_OF_CHECKPOINT = {"pooling", "normalise", "query_prefix", "passage_prefix", "query_tokens", "passage_tokens"}


def read_settings(path: Path) -> Settings:
    """The settings of a parameter file, defaults filled in.

    Raises:
        ValueError: Naming the file and the section or setting that is unknown, missing or of a wrong type.
    """
    try:
        values = yaml.safe_load(path.read_text())
        return complete(values or {})
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def complete(values: Mapping[str, Any]) -> Settings:
    """All settings of all sections, those not given by their defaults; places without a default are empty.

    Raises:
        ValueError: Naming the section or setting that is unknown or of a wrong type, and the nearest known name.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"a mapping of sections is wanted, found {type(values).__name__}; known are {', '.join(SECTIONS)}"
        )
    _refuse_unknown(values, SECTIONS, "section")
    return {section: _complete_section(section, values.get(section) or {}) for section in SECTIONS}


def _complete_section(section: str, given: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"section {section}: a mapping of settings is wanted, found {given!r}")
    known = _defaults(section)
    _refuse_unknown(given, known, f"setting in section {section}:")
    types = get_type_hints(SECTIONS[section])
    return {name: _typed(f"{section}.{name}", given.get(name, default), types[name]) for name, default in known.items()}


def _defaults(section: str) -> dict[str, Any]:
    wanted = {}
    for field in dataclasses.fields(SECTIONS[section]):
        place = field.name.endswith("_uri")
        shown = (
            field.name in _PLACES.get(section, set())
            if place
            else section != "export" or field.name not in _OF_CHECKPOINT
        )
        if shown and field.name not in _OF_FLOW.get(section, set()):
            wanted[field.name] = "" if field.default is dataclasses.MISSING else field.default
    return wanted


def _refuse_unknown(names: Iterable[str], known: Iterable[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"unknown {what} {name}; {remedy}")


def _typed(where: str, value: object, wanted: type[Any]) -> object:
    if where == "train.curriculum":
        # On one line: KFP writes defaults into a comment of the compiled file, where a second line breaks the file.
        return json.dumps(yaml.safe_load(value) if isinstance(value, str) else value)
    if get_origin(wanted) is Literal:
        # YAML reads a bare yes or no as a truth value.
        value = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
        if value not in get_args(wanted):
            raise ValueError(f"{where}: {value!r} is none of {', '.join(get_args(wanted))}")
        return value
    if wanted is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        # YAML reads 3e-5 (without a point) as text.
        return _number(where, value)
    if type(value) is not wanted:
        raise ValueError(f"{where}: {value!r} is not of type {wanted.__name__}")
    return value


def _number(where: str, value: float | str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{where}: {value!r} is not a number") from error
