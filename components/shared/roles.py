"""What a field of a component's config is, declared once in `config.py` and read by everyone else.

The role decides what a field means to a runner: whether it is part of a step's identity, whether a person or the flow
fills it, and whether it is an artifact, a folder or a number. Only the standard library is needed, so every reader can
afford it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import orjson


class Role(Enum):
    """What a field is; see the constants below for how a config declares it."""

    INPUT = "an artifact or a file that was made before; its content is part of the identity, its address is not"
    OUTPUT = "where the artifact goes; never part of the identity"
    PLACE = "a durable folder that a job works in, such as a journal; never part of the identity"
    SETTING = "decides the result; part of the identity"
    OPERATION = "decides speed, memory or what is logged, not the result; never part of the identity"
    FLOW = "filled by the flow, such as the number of a shard; part of the identity"


# Bounds of whole numbers are written as whole numbers.
Number: TypeAlias = float | int
Metadata: TypeAlias = Mapping[str, Any]

INPUT: dict[str, Any] = {"role": Role.INPUT}
OUTPUT: dict[str, Any] = {"role": Role.OUTPUT}
PLACE: dict[str, Any] = {"role": Role.PLACE}
SETTING: dict[str, Any] = {"role": Role.SETTING}
OPERATION: dict[str, Any] = {"role": Role.OPERATION}
FLOW: dict[str, Any] = {"role": Role.FLOW}

# Beside SETTING: names a folder that decides what is made there, and that a pod must reach.
ADDRESS: dict[str, Any] = {"address": True}

# Beside INPUT: it may not be there yet, which counts as a content of its own.
MAY_BE_ABSENT: dict[str, Any] = {"may_be_absent": True}

# What a step's identity depends on, beside the content of its inputs and its code.
IDENTITY = (Role.SETTING, Role.FLOW)
# Set by a runner for each job, as JSON: field name -> section of the parameter file; "" -> the section of all other
# fields.
SECTIONS_VARIABLE = "RETRIEVER_SECTIONS"


def at_least(smallest: Number) -> dict[str, Any]:
    """Bound of a field: this or more."""
    return {"at_least": smallest}


def at_most(largest: Number) -> dict[str, Any]:
    """Bound of a field: this or less."""
    return {"at_most": largest}


def above(limit: Number) -> dict[str, Any]:
    """Bound of a field: more than this."""
    return {"above": limit}


def below(limit: Number) -> dict[str, Any]:
    """Bound of a field: less than this."""
    return {"below": limit}


_BOUNDS: dict[str, tuple[Callable[[Any, float], bool], str]] = {
    "above": (lambda value, bound: value > bound, "must be above {}"),
    "at_least": (lambda value, bound: value >= bound, "must be at least {}"),
    "below": (lambda value, bound: value < bound, "must be below {}"),
    "at_most": (lambda value, bound: value <= bound, "must be at most {}"),
}


def role_of(field: dataclasses.Field[Any]) -> Role:
    """The declared role of a field."""
    role = field.metadata.get("role")
    assert isinstance(role, Role), f"field {field.name} declares no role"
    return role


def may_be_absent(field: dataclasses.Field[Any]) -> bool:
    """Whether an input need not be there."""
    return bool(field.metadata.get("may_be_absent"))


def names(config: Any, *wanted: Role) -> list[str]:  # noqa: ANN401 any config dataclass or its class
    """Names of the fields with one of these roles, in the order of their declaration."""
    return [field.name for field in dataclasses.fields(config) if role_of(field) in wanted]


def values(config: Any, *wanted: Role) -> dict[str, Any]:  # noqa: ANN401 any config dataclass
    """Name and value of the fields with one of these roles."""
    return {name: getattr(config, name) for name in names(config, *wanted)}


def problems(config: Any) -> Iterator[str]:  # noqa: ANN401 any config dataclass
    """One line, beginning with the field's name, for every value of a wrong type or out of its choices or bounds."""
    types = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if problem := _type_problem(value, types[field.name]) or _bound_problem(value, field.metadata):
            yield f"{field.name} {value!r}: {problem}"


def refuse(config: Any, *more: str) -> None:  # noqa: ANN401 any config dataclass
    """Checks a config; what every `__post_init__` calls. `more` are problems that only the component itself can see.

    Raises:
        ValueError: One line a problem; each begins with the field's name.
    """
    lines = list(problems(config))
    wrong = {line.split(" ")[0] for line in lines}
    # A value that is out of its bounds contradicts others too; once is enough.
    lines += [line for line in more if line.split(" ")[0] not in wrong]
    if lines:
        raise ValueError("\n".join(lines))


def hint(name: str, value: object = "...") -> str:
    """What a reader can type to set a field: `--set train.seed=1` in a flow, `--seed 1` for a component alone."""
    sections = orjson.loads(os.environ.get(SECTIONS_VARIABLE, "{}"))
    if section := sections.get(name, sections.get("")):
        return f"--set {section}.{name}={value}"
    return f"--{name.replace('_', '-')} {value}"


def sections_value(owners: Mapping[str, str], default: str) -> str:
    """What a runner sets SECTIONS_VARIABLE to: the section of each field where it is not the default one."""
    others = {name: section for name, section in owners.items() if section != default}
    return orjson.dumps({"": default, **others}).decode()


def _type_problem(value: object, wanted: Any) -> str:  # noqa: ANN401 a type, or a Literal
    if get_origin(wanted) is Literal:
        choices = get_args(wanted)
        return "" if value in choices else f"is none of {', '.join(map(str, choices))}"
    if wanted is float:
        return "" if isinstance(value, int | float) and not isinstance(value, bool) else "is not a number"
    return "" if type(value) is wanted else f"is not of type {wanted.__name__}"


def _bound_problem(value: object, metadata: Metadata) -> str:
    for name, (holds, text) in _BOUNDS.items():
        # A comparison with nan is false, so nan breaks every bound.
        if name in metadata and not holds(value, metadata[name]):
            return text.format(metadata[name])
    return ""
