"""The verdict of a gate: what evaluate writes of it, and what promote and the conditions of a workflow read.

gate.txt holds one word, for a condition; gate.json has the reasons, for people and programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from components.shared.durable import storage

DECISION_NAME, VERDICT_NAME = "gate.json", "gate.txt"
# Name of the output parameter that a workflow's condition compares, and its word for an open gate.
VERDICT, PASSED = "verdict", "pass"


@dataclass(frozen=True)
class Verdict:
    """One word, and the sentences that decided."""

    word: Literal["pass", "fail"]
    reasons: list[str]

    @property
    def passed(self) -> bool:
        """Whether the gate is open."""
        return self.word == PASSED


def write_decision(folder: Path, decision: Mapping[str, Any]) -> None:
    """Writes gate.json, and gate.txt, which holds the word and nothing else."""
    (folder / DECISION_NAME).write_bytes(orjson.dumps(decision, option=orjson.OPT_INDENT_2))
    (folder / VERDICT_NAME).write_text(decision[VERDICT])


def read_verdict(evaluation_uri: str) -> Verdict:
    """The verdict of an evaluation.

    Raises:
        ValueError: Where it has none.
    """
    path = f"{evaluation_uri.rstrip('/')}/{DECISION_NAME}"
    try:
        values = orjson.loads(storage.read_bytes(path))
        return Verdict(values[VERDICT], list(values["reasons"]))
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: no verdict of a gate ({type(error).__name__}); name an evaluation that evaluate wrote"
        ) from error
