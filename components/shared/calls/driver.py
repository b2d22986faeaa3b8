"""Keeps many askers going over one engine, with a journal between them: no call in the journal is made again.

Equal calls of two askers are made once; what decides that they are equal is their key (journalled.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic

from components.shared import log
from components.shared.calls.asks import Ask, Asker, RefusedError, Verdict
from components.shared.calls.journalled import call_key, from_value, origin, to_value
from components.shared.durable.journal import Journal
from components.shared.engines.engine import Completion, Engine, PromptError, Refusal, Request, Result
from components.shared.engines.finish import is_known_reason
from components.shared.launch import TransientError
from components.shared.telemetry import JobTelemetry


@dataclass
class Counts:
    """What became of the calls of this attempt.

    `unknown_reasons` are words for a completion's end that we do not know, with how often they were said.
    """

    calls_made: int = 0
    calls_from_journal: int = 0
    calls_refused: int = 0
    unknown_reasons: Counter[str] = field(default_factory=Counter)

    def show(self) -> None:
        """Sets the job's gauges."""
        sources = {"made": self.calls_made, "journal": self.calls_from_journal, "refused": self.calls_refused}
        for source, number in sources.items():
            JobTelemetry.show("llm_calls", number, source=source)

    def note(self, result: Result) -> None:
        """Counts what the engine said that we cannot read; each unknown word is logged once."""
        if isinstance(result, Completion) and not is_known_reason(result.reason):
            reason = str(result.reason)[:40]
            if reason not in self.unknown_reasons:
                log.warning("a finish reason that is not known is taken as stop", finish_reason=reason)
            self.unknown_reasons[reason] += 1


@dataclass
class _Active(Generic[Verdict]):
    """An asker at work, and the keys of the asks it waits for; none before its first ask."""

    asker: Asker[Verdict]
    waiting: list[list[str]] | None = None

    @property
    def keys(self) -> Iterator[str]:
        return (key for keys in self.waiting or () for key in keys)

    def waits_for(self, in_flight: Container[str]) -> bool:
        return any(key in in_flight for key in self.keys)


class Driver(Generic[Verdict]):
    """Runs askers in order of arrival and yields their verdicts in that same order."""

    def __init__(self, engine: Engine, journal: Journal, *, model: str, artifact: str, num_in_flight: int) -> None:
        """`model` names weights and revision in every key; `artifact` is written beside each call that it paid for."""
        self._engine, self._journal, self._model, self._num_in_flight = engine, journal, model, num_in_flight
        self._artifact = artifact
        self.counts = Counts()
        self._active: dict[int, _Active[Verdict]] = {}
        self._finished: dict[int, Verdict] = {}
        # By key of a call in flight: the askers that wait for it, and what is written beside its result.
        self._waiters: dict[str, list[int]] = {}
        self._origins: dict[str, dict[str, str]] = {}
        # Never in the journal: another engine, or this one after a change, may not refuse them.
        self._refused: dict[str, str] = {}

    def run(self, askers: Iterable[Asker[Verdict]]) -> Iterator[Verdict]:
        """Verdicts in the order of the askers; at most four times `num_in_flight` are held back by a slow one."""
        pending = enumerate(askers)
        emitted, exhausted = 0, False
        while True:
            while not exhausted and self._has_room():
                number, asker = next(pending, (-1, None))
                if asker is None:
                    exhausted = True
                else:
                    self._active[number] = _Active(asker)
                    self._advance(number)
            self.counts.show()
            while emitted in self._finished:
                yield self._finished.pop(emitted)
                emitted += 1
            if self._active:
                self._collect()
            elif exhausted:
                return

    def _has_room(self) -> bool:
        return len(self._active) < self._num_in_flight and len(self._finished) < 4 * self._num_in_flight

    def _advance(self, number: int) -> None:
        """Sends results to an asker until it waits for the engine or is finished; a refusal is thrown into it."""
        active = self._active[number]
        while True:
            refused = next((self._refused[key] for key in active.keys if key in self._refused), "")
            try:
                if refused:
                    asks = active.asker.throw(RefusedError(refused))
                elif active.waiting is None:
                    asks = next(active.asker)
                else:
                    asks = active.asker.send([[self._result(key) for key in keys] for keys in active.waiting])
            except StopIteration as stop:
                del self._active[number]
                self._finished[number] = stop.value
                return
            active.waiting = [[self._call(request, ask, number) for request in ask.requests] for ask in asks]
            if active.waits_for(self._waiters) and not any(key in self._refused for key in active.keys):
                return

    def _call(self, request: Request, ask: Ask, number: int) -> str:
        key = call_key(request, self._model)
        if key in self._waiters:
            self._waiters[key].append(number)
        elif key in self._refused:
            pass
        elif (value := self._journal.get(key)) is not None:
            self.counts.calls_from_journal += 1
            self.counts.note(from_value(key, value))
        else:
            self._submit(replace(request, key=key), ask, number)
        return key

    def _submit(self, request: Request, ask: Ask, number: int) -> None:
        try:
            self._engine.submit(request)
        except PromptError as error:
            self._refuse(Refusal(request.key, str(error)))
            return
        self._waiters[request.key] = [number]
        self._origins[request.key] = origin(ask, self._artifact)

    def _refuse(self, refusal: Refusal) -> None:
        self._refused[refusal.key] = refusal.words
        self.counts.calls_refused += 1

    def _collect(self) -> None:
        touched: dict[int, None] = {}
        for result in self._engine.collect():
            asked_by = self._origins.pop(result.key)
            if isinstance(result, Refusal):
                self._refuse(result)
            else:
                self._keep(result, asked_by)
            touched.update(dict.fromkeys(self._waiters.pop(result.key)))
        for number in touched:
            active = self._active.get(number)
            if active is None:
                continue
            if not active.waits_for(self._waiters) or any(key in self._refused for key in active.keys):
                self._advance(number)

    def _keep(self, result: Result, asked_by: dict[str, str]) -> None:
        if isinstance(result, Completion) and result.finish_reason == "abort":
            raise TransientError(f"the engine broke off in the middle of a completion (it says {result.reason!r})")
        self._journal.append(result.key, to_value(result) | asked_by)
        self.counts.calls_made += 1
        self.counts.note(result)

    def _result(self, key: str) -> Result:
        value = self._journal.get(key)
        assert value is not None, "a call was waited for and is not in the journal"
        return from_value(key, value)
