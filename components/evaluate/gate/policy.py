"""The policy file: rules of a gate, declared before anything is measured. TOML; policy.toml here is the default."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.shared.durable import storage

DEFAULT_POLICY = Path(__file__).parent / "policy.toml"

# Table and name in the file -> field of the policy.
_TABLES: Mapping[str, Mapping[str, str]] = {
    "quality": {"max_loss": "max_loss", "confidence": "confidence", "when_unclear": "when_unclear"},
    "index": {"min_recall": "min_recall"},
    "latency": {"max_p95_ms": "max_p95_ms"},
    "judgements": {"max_synthetic_share": "max_synthetic_share"},
}
_SHARES = ("max_loss", "min_recall", "max_synthetic_share")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The rules; a rule that is None is not asked for.

    Attributes:
        candidate: System that wants to take production's place.
        production: System that has it.
        max_loss: Share of production's mean that the candidate may lose on a collection.
        confidence: One-sided, of the claim that it does not lose more.
        when_unclear: What happens where the queries neither prove it nor the contrary.
        min_recall: Smallest recall of the candidate's index against exact search.
        max_p95_ms: Largest 95th percentile of the milliseconds of single queries.
        max_synthetic_share: Largest share of the judged queries that no person judged.
    """

    candidate: str
    production: str
    max_loss: float | None = None
    confidence: float = 0.95
    when_unclear: Literal["fail", "pass"] = "fail"
    min_recall: float | None = None
    max_p95_ms: float | None = None
    max_synthetic_share: float | None = None


def read_policy(uri: str = "") -> Policy:
    """The policy of a file; without one the default.

    Raises:
        ValueError: One line for everything that is wrong with it.
    """
    where = uri or str(DEFAULT_POLICY)
    try:
        values = tomllib.loads(storage.read_bytes(where).decode())
    except FileNotFoundError as error:
        raise ValueError(f"{where}: no such policy file; {DEFAULT_POLICY} is one to start from") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{where}: not a policy file ({error}); it is TOML, as {DEFAULT_POLICY}") from error
    if problems := list(_problems(values)):
        raise ValueError("\n".join(f"{where}: {problem}" for problem in problems))
    fields: dict[str, Any] = {
        field: value if isinstance(value := values[table][name], str) else float(value)
        for table, names in _TABLES.items()
        for name, field in names.items()
        if name in values.get(table, {})
    }
    return Policy(candidate=values["candidate"], production=values["production"], **fields)


def _problems(values: Mapping[str, Any]) -> Iterator[str]:
    for name in ("candidate", "production"):
        if not isinstance(values.get(name), str):
            yield f'{name} is missing; write {name} = "name of a system"'
    for table, given in values.items():
        if table in ("candidate", "production"):
            continue
        if table not in _TABLES or not isinstance(given, dict):
            yield f"unknown table {table!r}; known are {', '.join(_TABLES)}"
            continue
        for name, value in given.items():
            if name not in _TABLES[table]:
                yield f"[{table}] unknown {name!r}; known are {', '.join(_TABLES[table])}"
            elif problem := _value_problem(name, value):
                yield f"[{table}] {name} = {value!r}: {problem}"


def _value_problem(name: str, value: object) -> str:
    if name == "when_unclear":
        return "" if value in ("fail", "pass") else "must be fail or pass"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if name == "confidence":
        return "" if 0.5 < value < 1 else "must lie between 0.5 and 1"
    if name in _SHARES:
        return "" if 0 <= value <= 1 else "must lie between 0 and 1"
    return "" if value > 0 else "must be above 0"
