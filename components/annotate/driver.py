"""Keeps many judges going over one engine, with a journal between them: no call in the journal is made again.

The key of a call is the hash of all that decides its result: model, template text as filled (so query, passages and their
order), length limit, sampling and seed. Equal calls of two judges are made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from components.annotate.judge import Judge, Verdict
from components.shared.journal import Journal, content_key
from components.shared.llm import Completion, Engine, Likelihood, Request, Result


@dataclass
class Spent:
    """What one judge's calls cost, whoever made them first; `calls` are journal keys in order."""

    calls: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass
class Counts:
    """Calls that reached the engine in this attempt, and those the journal answered."""

    calls_made: int = 0
    calls_from_journal: int = 0


@dataclass
class _Active:
    judge: Judge
    spent: Spent
    waiting: list[str] = field(default_factory=list)


class Driver:
    """Runs judges in order of arrival and yields their verdicts in that same order."""

    def __init__(self, engine: Engine, journal: Journal, *, model: str, num_in_flight: int) -> None:
        """`model` names weights and revision in every key."""
        self._engine, self._journal, self._model, self._num_in_flight = engine, journal, model, num_in_flight
        self.counts = Counts()
        self._active: dict[int, _Active] = {}
        self._finished: dict[int, tuple[Verdict, Spent]] = {}
        self._waiters: dict[str, list[int]] = {}

    def run(self, judges: Iterable[Judge]) -> Iterator[tuple[Verdict, Spent]]:
        """Verdicts in the order of the judges; at most four times `num_in_flight` are held back by a slow one."""
        pending = enumerate(judges)
        emitted, exhausted = 0, False
        while True:
            while not exhausted and len(self._active) < self._num_in_flight and len(self._finished) < 4 * self._num_in_flight:
                number, its = next(pending, (-1, None))
                if its is None:
                    exhausted = True
                else:
                    self._start(number, its)
            while emitted in self._finished:
                yield self._finished.pop(emitted)
                emitted += 1
            if self._active:
                self._collect()
            elif exhausted:
                return

    def _start(self, number: int, its: Judge) -> None:
        self._active[number] = _Active(its, Spent())
        self._advance(number, None)

    def _advance(self, number: int, results: list[Result] | None) -> None:
        """Sends results to a judge until it waits for the engine or is finished."""
        active = self._active[number]
        while True:
            try:
                requests = next(active.judge) if results is None else active.judge.send(results)
            except StopIteration as stop:
                del self._active[number]
                self._finished[number] = (stop.value, active.spent)
                return
            active.waiting = [self._ask(request, number) for request in requests]
            active.spent.calls += active.waiting
            if any(key in self._waiters for key in active.waiting):
                return
            results = self._results(active)

    def _ask(self, request: Request, number: int) -> str:
        key = call_key(request, self._model)
        if key in self._waiters:
            self._waiters[key].append(number)
        elif key in self._journal:
            self.counts.calls_from_journal += 1
        else:
            self._waiters[key] = [number]
            self._engine.submit(replace(request, key=key))
        return key

    def _collect(self) -> None:
        touched: dict[int, None] = {}
        for result in self._engine.collect():
            self._journal.append(result.key, to_value(result))
            self.counts.calls_made += 1
            touched.update(dict.fromkeys(self._waiters.pop(result.key)))
        for number in touched:
            active = self._active.get(number)
            if active is not None and not any(key in self._waiters for key in active.waiting):
                self._advance(number, self._results(active))

    def _results(self, active: _Active) -> list[Result]:
        results = []
        for key in active.waiting:
            value = self._journal.get(key)
            assert value is not None, "a call was waited for and is not in the journal"
            result = from_value(key, value)
            active.spent.prompt_tokens += result.prompt_tokens
            active.spent.completion_tokens += result.completion_tokens if isinstance(result, Completion) else 0
            results.append(result)
        return results


def call_key(request: Request, model: str) -> str:
    """The journal key of a call."""
    return content_key(model, asdict(replace(request, key="")))


def to_value(result: Result) -> dict[str, Any]:
    """A result as the journal keeps it."""
    value = asdict(result)
    del value["key"]
    return value


def from_value(key: str, value: dict[str, Any]) -> Result:
    """A result as the journal kept it."""
    if "logprobs" in value:
        return Likelihood(key, tuple(value["logprobs"]), value["prompt_tokens"])
    return Completion(key, **value)
