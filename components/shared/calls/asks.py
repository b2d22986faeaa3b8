"""A question to the LLM with its provenance, and the conversation that yields such questions.

An asker is a generator that yields asks, is sent the results of each, and returns what it made of them. It knows
nothing of engines, journals or threads; the driver keeps many askers going at once, so that the engine is never idle.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

from components.shared.engines.engine import Request, Result

Rung = Literal["first", "new_seed", "constrained", "smaller_window"]


@dataclass(frozen=True)
class Ask:
    """One question of one query: one request, or several that are asked at once, such as likelihoods.

    `positions` are the places in a pool of the passages it is about; empty where there is no pool.
    """

    query_id: str
    template: str
    template_version: str
    rung: Rung
    positions: tuple[int, ...]
    requests: tuple[Request, ...]


class RefusedError(Exception):
    """The engine will never answer a request of this asker; its words say why."""


Verdict = TypeVar("Verdict")
Asker: TypeAlias = Generator[list[Ask], list[list[Result]], Verdict]
