"""One query's questions to the LLM: what is asked, what came back, what it cost; written down as exchanges.

A judge is an asker (shared/calls) that returns a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from components.annotate.config import AnnotateConfig
from components.annotate.judging import prompting
from components.annotate.judging.parsing import Outcome
from components.shared.calls.asks import Ask, Asker, Rung
from components.shared.calls.sampling import profile_of
from components.shared.engines.engine import Completion, Request, Result
from components.shared.records import Exchange, Label, Query


@dataclass(frozen=True)
class Verdict:
    """Labels of the whole pool, or none if the ladder failed; `outcome` says how, `exchanges` what was asked."""

    outcome: Outcome
    labels: tuple[Label, ...] = ()
    scores: tuple[float, ...] = ()
    score_sums: tuple[float, ...] = ()
    distribution: tuple[float, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_seconds: float = 0.0
    uncounted_calls: int = 0
    detail: str = ""
    completion: str = ""


Judge = Asker[Verdict]


class FailedError(Exception):
    """No rung of the ladder gave an answer that can be read."""

    def __init__(self, outcome: Outcome, detail: str, completion: str) -> None:
        super().__init__(detail)
        self.outcome, self.detail, self.completion = outcome, detail, completion


class Inquiry:
    """What is known about one query, and the exchanges so far."""

    def __init__(self, query: Query, passages: Sequence[str], config: AnnotateConfig, *, can_constrain: bool) -> None:
        """`passages` are cut and cleaned already, in pool order; `can_constrain` says what the engine can do."""
        self.query, self.passages, self.config, self.can_constrain = query, passages, config, can_constrain
        self.profile = profile_of(
            config.llm_uri, config.sampling_profile, sampling_temperature=config.sampling_temperature
        )
        self._exchanges: list[Exchange] = []
        self._results: list[Result] = []

    def ask(
        self, template: str, *, layout: str, rung: Rung, positions: Sequence[int], requests: Sequence[Request]
    ) -> Ask:
        """A question with its provenance."""
        version = prompting.template_version(layout, template)
        return Ask(self.query.query_id, template, version, rung, tuple(positions), tuple(requests))

    def note(self, ask: Ask, results: Sequence[Result], *, outcome: Outcome, chosen: Sequence[int] = ()) -> None:
        """Writes down what came of a question; `chosen` are positions in the pool."""
        calls = tuple(result.key for result in results)
        self._exchanges.append(
            Exchange(ask.template, ask.template_version, ask.rung, outcome, ask.positions, tuple(chosen), calls)
        )
        self._results += results

    def verdict(
        self,
        outcome: Outcome,
        labels: Sequence[Label] = (),
        *,
        scores: Sequence[float] = (),
        score_sums: Sequence[float] = (),
        distribution: Sequence[float] = (),
        detail: str = "",
        completion: str = "",
    ) -> Verdict:
        """The verdict with its exchanges and what they cost."""
        return Verdict(
            outcome,
            tuple(labels),
            tuple(scores),
            tuple(score_sums),
            tuple(distribution),
            exchanges=tuple(self._exchanges),
            prompt_tokens=sum(result.prompt_tokens for result in self._results),
            completion_tokens=sum(
                result.completion_tokens for result in self._results if isinstance(result, Completion)
            ),
            cached_tokens=sum(result.cached_tokens for result in self._results),
            engine_seconds=math.fsum(result.engine_seconds for result in self._results),
            uncounted_calls=sum(not result.is_counted for result in self._results),
            detail=detail,
            completion=completion,
        )

    @property
    def is_repaired(self) -> bool:
        """Whether an answer that was used had to be repaired."""
        return any(exchange.outcome == "repaired" for exchange in self._exchanges)
