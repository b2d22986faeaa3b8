"""Keeps many judges going over one engine, with a journal between them: no call in the journal is made again.

The key of a call is the hash of all that decides its result: model, template text as filled (so query, passages and
their order), length limit, sampling and seed. Equal calls of two judges are made once. The journal holds what came back
and what it cost, in the engine's own words; what we make of it is decided when it is read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from components.annotate.engines.engine import (
    Completion,
    CompletionRequest,
    Engine,
    Likelihood,
    PromptError,
    Refusal,
    Request,
    Result,
)
from components.annotate.engines.finish import is_known_reason, read_reason
from components.annotate.judging.inquiry import Ask, FailedError, Judge, Verdict
from components.shared import log
from components.shared.durable import storage
from components.shared.durable.journal import Journal
from components.shared.hashing import content_key
from components.shared.launch import TransientError

# 128 of sha256's bits: a key is written at least twice for every call.
_KEY_CHARACTERS = 32


@dataclass
class Counts:
    """What became of the calls of this attempt.

    `unknown_reasons` are words for a completion's end that we do not know, with how often they were said.
    """

    calls_made: int = 0
    calls_from_journal: int = 0
    calls_refused: int = 0
    unknown_reasons: Counter[str] = field(default_factory=Counter)

    def note(self, result: Result) -> None:
        """Counts what the engine said that we cannot read; each unknown word is logged once."""
        if isinstance(result, Completion) and not is_known_reason(result.reason):
            reason = str(result.reason)[:40]
            if reason not in self.unknown_reasons:
                log.warning("a finish reason that is not known is taken as stop", finish_reason=reason)
            self.unknown_reasons[reason] += 1


@dataclass
class _Active:
    """A judge at work, and the keys of the asks it waits for; none before its first ask."""

    judge: Judge
    waiting: list[list[str]] | None = None

    @property
    def keys(self) -> Iterator[str]:
        return (key for keys in self.waiting or () for key in keys)

    def waits_for(self, in_flight: Container[str]) -> bool:
        return any(key in in_flight for key in self.keys)


class Driver:
    """Runs judges in order of arrival and yields their verdicts in that same order."""

    def __init__(self, engine: Engine, journal: Journal, *, model: str, artifact: str, num_in_flight: int) -> None:
        """`model` names weights and revision in every key; `artifact` is written beside each call that it paid for."""
        self._engine, self._journal, self._model, self._num_in_flight = engine, journal, model, num_in_flight
        self._artifact = artifact
        self.counts = Counts()
        self._active: dict[int, _Active] = {}
        self._finished: dict[int, Verdict] = {}
        # By key of a call in flight: the judges that wait for it, and what is written beside its result.
        self._waiters: dict[str, list[int]] = {}
        self._origins: dict[str, dict[str, str]] = {}
        # Never in the journal: another engine, or this one after a change, may not refuse them.
        self._refused: dict[str, str] = {}

    def run(self, judges: Iterable[Judge]) -> Iterator[Verdict]:
        """Verdicts in the order of the judges; at most four times `num_in_flight` are held back by a slow one."""
        pending = enumerate(judges)
        emitted, exhausted = 0, False
        while True:
            while not exhausted and self._has_room():
                number, judge = next(pending, (-1, None))
                if judge is None:
                    exhausted = True
                else:
                    self._active[number] = _Active(judge)
                    self._advance(number)
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
        """Sends results to a judge until it waits for the engine or is finished; a refusal ends its query's ladder."""
        active = self._active[number]
        while True:
            refused = next((self._refused[key] for key in active.keys if key in self._refused), "")
            try:
                if refused:
                    asks = active.judge.throw(FailedError("refused", refused, ""))
                elif active.waiting is None:
                    asks = next(active.judge)
                else:
                    asks = active.judge.send([[self._result(key) for key in keys] for keys in active.waiting])
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


def call_key(request: Request, model: str) -> str:
    """The journal key of a call."""
    # asdict() copies everything deeply, which took a quarter of the component's time.
    values = {part.name: getattr(request, part.name) for part in fields(request)} | {"key": ""}
    if isinstance(request, CompletionRequest):
        values["turns"] = [{"role": turn.role, "content": turn.content} for turn in request.turns]
    return content_key(model, values)[:_KEY_CHARACTERS]


def journal_model(name: str, llm_uri: str, *, endpoint_omit: str = "", endpoint_rename: str = "") -> str:
    """The model in every key: its name, a digest of what lies under its address, and how its requests are changed.

    A field that is left out of a request, or sent under a name that a server may ignore, can change its result.
    """
    changes = "".join(
        f";{word} {value}" for word, value in (("without", endpoint_omit), ("with", endpoint_rename)) if value
    )
    return f"{name}@{storage.content_digest(llm_uri)[:12]}{changes}"


def origin(ask: Ask, artifact: str) -> dict[str, str]:
    """What the journal says beside a result: what was asked, of which query, and whose annotations paid for it."""
    return {
        "template": ask.template,
        "template_version": ask.template_version,
        "rung": ask.rung,
        "query_id": ask.query_id,
        "artifact": artifact,
    }


def to_value(result: Result) -> dict[str, Any]:
    """A result as the journal keeps it; a completion's `finish_reason` is the engine's own word."""
    value = asdict(result)
    del value["key"]
    if "reason" in value:
        value["finish_reason"] = value.pop("reason")
    return value


def is_completed(value: Mapping[str, Any]) -> bool:
    """Whether a record of the journal is a result at all.

    Before finish reasons were kept as the engine said them, `abort` stood for every word that was unknown then. Nobody
    knows what such a completion was, so its call is made again.
    """
    return "text" not in value or read_reason(value.get("finish_reason")) != "abort"


def from_value(key: str, value: Mapping[str, Any]) -> Result:
    """A result as the journal kept it; what else stands beside it is left alone.

    Raises:
        ValueError: Where the record is no result.
    """
    try:
        costs: dict[str, Any] = {
            "prompt_tokens": _number(value["prompt_tokens"], int),
            "cached_tokens": _number(value.get("cached_tokens", 0), int),
            "engine_seconds": _number(value.get("engine_seconds", 0.0), float),
            "is_counted": bool(value.get("is_counted", True)),
        }
        if "logprobs" in value:
            return Likelihood(key, tuple(_number(logprob, float) for logprob in value["logprobs"]), **costs)
        if not isinstance(value["text"], str):
            raise TypeError("its text is no text")
        completion_tokens = _number(value["completion_tokens"], int)
        return Completion(key, value["text"], value["finish_reason"], completion_tokens=completion_tokens, **costs)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the journal's record of call {key} is no result of an LLM ({type(error).__name__} {error}); "
            "delete its line, and the call will be made again"
        ) from error


def _number(value: object, kind: type) -> Any:  # noqa: ANN401 int or float, as asked for
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return kind(value)
