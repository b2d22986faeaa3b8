"""What calls cost by template: calls, tokens, engine seconds, dollars; read from the journal's own records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.shared.engines.config import EngineConfig

SECONDS_PER_HOUR = 3600
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Prices:
    """US dollars; a price of 0 is one that is not paid.

    Tokens of an API are priced by the million, own machines by the hour.
    """

    engine_hour: float = 0.0
    prompt_million: float = 0.0
    cached_million: float = 0.0
    completion_million: float = 0.0
    human_label: float = 0.09
    """A person's judgement of one passage for one query. Source: [ufa]."""


def prices_of(config: EngineConfig) -> Prices:
    """What the config of a component says that its calls cost."""
    return Prices(
        engine_hour=config.engine_hour_dollars,
        prompt_million=config.prompt_million_dollars,
        cached_million=config.cached_million_dollars,
        completion_million=config.completion_million_dollars,
    )


@dataclass
class Tally:
    """Sums over calls. `prompt_tokens` include the `cached_tokens`; a retry is a call on a rung above the first.

    `uncounted_calls` are those of which the engine did not say all tokens: with any of them the sums are lower bounds.
    """

    calls: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    engine_seconds: float = 0.0
    uncounted_calls: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds one record of the journal."""
        self.calls += 1
        self.retries += record["rung"] != "first"
        self.prompt_tokens += record["prompt_tokens"]
        self.cached_tokens += record["cached_tokens"]
        # A likelihood has no completion.
        self.completion_tokens += record.get("completion_tokens", 0)
        self.engine_seconds += record["engine_seconds"]
        # Records that were written before this was said are of engines that count.
        self.uncounted_calls += not record.get("is_counted", True)

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def times(self, factor: float) -> Tally:
        """As many times as much, such as all queries after a sample; counts rounded."""
        scaled = {name: value * factor for name, value in asdict(self).items()}
        return Tally(**{name: value if name == "engine_seconds" else round(value) for name, value in scaled.items()})

    def dollars(self, prices: Prices) -> float:
        """What it costs."""
        fresh = self.prompt_tokens - self.cached_tokens
        prompt = fresh * prices.prompt_million + self.cached_tokens * prices.cached_million
        tokens = prompt + self.completion_tokens * prices.completion_million
        return self.engine_seconds / SECONDS_PER_HOUR * prices.engine_hour + tokens / MILLION


def tally_journal(records: Iterable[tuple[str, Mapping[str, Any]]], artifact: str) -> dict[str, Tally]:
    """The calls that one artifact paid for, by template in the order of appearance.

    A key that comes twice (two shards made the same call before either knew of the other's) was paid twice, and counts
    twice.
    """
    tallies: dict[str, Tally] = {}
    for _, record in records:
        if record["artifact"] == artifact:
            tallies.setdefault(record["template"], Tally()).add(record)
    return tallies
