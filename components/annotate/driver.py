"""Keeps many judges going over one engine, with a journal between them: no call in the journal is made again.

The key of a call is the hash of all that decides its result: model, template text as filled (so query, passages and
their order), length limit, sampling and seed. Equal calls of two judges are made once.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from components.annotate.engines.engine import Completion, CompletionRequest, Engine, Likelihood, Request, Result
from components.annotate.judging.inquiry import Ask, Judge, Verdict
from components.shared import storage
from components.shared.hashing import content_key
from components.shared.journal import Journal

# 128 of sha256's bits: a key is written at least twice for every call.
_KEY_CHARACTERS = 32


@dataclass
class Counts:
    """Calls that reached the engine in this attempt, and those the journal answered."""

    calls_made: int = 0
    calls_from_journal: int = 0


@dataclass
class _Active:
    """A judge at work, and the keys of the asks it waits for."""

    judge: Judge
    waiting: list[list[str]] = field(default_factory=list)

    def waits_for(self, in_flight: Container[str]) -> bool:
        return any(key in in_flight for keys in self.waiting for key in keys)


class Driver:
    """Runs judges in order of arrival and yields their verdicts in that same order."""

    def __init__(self, engine: Engine, journal: Journal, *, model: str, artifact: str, num_in_flight: int) -> None:
        """`model` names weights and revision in every key; `artifact` is written beside each call as the one that paid for it."""
        self._engine, self._journal, self._model, self._num_in_flight = engine, journal, model, num_in_flight
        self._artifact = artifact
        self.counts = Counts()
        self._active: dict[int, _Active] = {}
        self._finished: dict[int, Verdict] = {}
        # By key of a call in flight: the judges that wait for it, and what is written beside its result.
        self._waiters: dict[str, list[int]] = {}
        self._origins: dict[str, dict[str, str]] = {}

    def run(self, judges: Iterable[Judge]) -> Iterator[Verdict]:
        """Verdicts in the order of the judges; at most four times `num_in_flight` are held back by a slow one."""
        pending = enumerate(judges)
        emitted, exhausted = 0, False
        while True:
            while (
                not exhausted
                and len(self._active) < self._num_in_flight
                and len(self._finished) < 4 * self._num_in_flight
            ):
                number, its = next(pending, (-1, None))
                if its is None:
                    exhausted = True
                else:
                    self._active[number] = _Active(its)
                    self._advance(number, None)
            while emitted in self._finished:
                yield self._finished.pop(emitted)
                emitted += 1
            if self._active:
                self._collect()
            elif exhausted:
                return

    def _advance(self, number: int, results: list[list[Result]] | None) -> None:
        """Sends results to a judge until it waits for the engine or is finished."""
        active = self._active[number]
        while True:
            try:
                asks = next(active.judge) if results is None else active.judge.send(results)
            except StopIteration as stop:
                del self._active[number]
                self._finished[number] = stop.value
                return
            active.waiting = [[self._call(request, ask, number) for request in ask.requests] for ask in asks]
            if active.waits_for(self._waiters):
                return
            results = self._results(active)

    def _call(self, request: Request, ask: Ask, number: int) -> str:
        key = call_key(request, self._model)
        if key in self._waiters:
            self._waiters[key].append(number)
        elif key in self._journal:
            self.counts.calls_from_journal += 1
        else:
            self._waiters[key] = [number]
            self._origins[key] = origin(ask, self._artifact)
            self._engine.submit(replace(request, key=key))
        return key

    def _collect(self) -> None:
        touched: dict[int, None] = {}
        for result in self._engine.collect():
            self._journal.append(result.key, to_value(result) | self._origins.pop(result.key))
            self.counts.calls_made += 1
            touched.update(dict.fromkeys(self._waiters.pop(result.key)))
        for number in touched:
            active = self._active.get(number)
            if active is not None and not active.waits_for(self._waiters):
                self._advance(number, self._results(active))

    def _results(self, active: _Active) -> list[list[Result]]:
        return [[self._result(key) for key in keys] for keys in active.waiting]

    def _result(self, key: str) -> Result:
        value = self._journal.get(key)
        assert value is not None, "a call was waited for and is not in the journal"
        return from_value(key, value)


def call_key(request: Request, model: str) -> str:
    """The journal key of a call."""
    # asdict() copies everything deeply, which took a quarter of the component's time.
    values = {each.name: getattr(request, each.name) for each in fields(request)} | {"key": ""}
    if isinstance(request, CompletionRequest):
        values["turns"] = [{"role": turn.role, "content": turn.content} for turn in request.turns]
    return content_key(model, values)[:_KEY_CHARACTERS]


def journal_model(name: str, llm_uri: str) -> str:
    """The model in every key: its name, and a digest of what lies under its address."""
    return f"{name}@{storage.content_digest(llm_uri)[:12]}"


def origin(ask: Ask, artifact: str) -> dict[str, str]:
    """What the journal says of a call beside its result: what was asked, of which query, and whose annotations paid for it."""
    return {
        "template": ask.template,
        "template_version": ask.template_version,
        "rung": ask.rung,
        "query_id": ask.query_id,
        "artifact": artifact,
    }


_ORIGIN = ("template", "template_version", "rung", "query_id", "artifact")


def to_value(result: Result) -> dict[str, Any]:
    """A result as the journal keeps it."""
    value = asdict(result)
    del value["key"]
    return value


def from_value(key: str, value: dict[str, Any]) -> Result:
    """A result as the journal kept it."""
    its = {name: each for name, each in value.items() if name not in _ORIGIN}
    if "logprobs" in its:
        return Likelihood(key, **its | {"logprobs": tuple(its["logprobs"])})
    return Completion(key, **its)
