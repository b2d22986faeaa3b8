"""What annotations cost by template (tokens, calls, engine seconds, dollars), and what people's labels would have cost.

Two sums that differ where runs share a journal: `total` are the calls that these annotations made, read from the
journal's records, so that an interrupted run counts whole; `used` are all calls behind the labels, whoever made them
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

SECONDS_PER_HOUR = 3600
_MILLION = 1_000_000


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
        return self.engine_seconds / SECONDS_PER_HOUR * prices.engine_hour + tokens / _MILLION


@dataclass(frozen=True)
class Ledger:
    """Tallies of the paid calls by template, and of all calls behind the labels of so many queries and judged pairs."""

    templates: Mapping[str, Tally]
    num_queries: int
    num_pairs: int
    prices: Prices
    used: Tally | None = None

    @property
    def total(self) -> Tally:
        """Over all templates."""
        total = Tally()
        for tally in self.templates.values():
            total = total.plus(tally)
        return total

    def as_dict(self) -> dict[str, Any]:
        """For ledger.json: each row with its dollars, in all and by the thousand queries and million pairs."""
        used = self.used or self.total
        return {
            "num_queries": self.num_queries,
            "num_pairs": self.num_pairs,
            "templates": {name: self._row(tally) for name, tally in self.templates.items()},
            "total": self._row(self.total),
            "used": self._row(used),
            "human": human_comparison(used.dollars(self.prices), self.num_queries, self.num_pairs, self.prices),
            "prices": asdict(self.prices),
        }

    def _row(self, tally: Tally) -> dict[str, Any]:
        dollars = tally.dollars(self.prices)
        return {
            **asdict(tally),
            "is_lower_bound": tally.uncounted_calls > 0,
            "dollars": dollars,
            "dollars_per_thousand_queries": dollars / self.num_queries * 1_000 if self.num_queries else 0.0,
            "dollars_per_million_pairs": dollars / self.num_pairs * _MILLION if self.num_pairs else 0.0,
        }


def tally_journal(records: Iterable[tuple[str, Mapping[str, Any]]], artifact: str) -> dict[str, Tally]:
    """The calls that one artifact of annotations paid for, by template in the order of appearance.

    A key that comes twice (two shards made the same call before either knew of the other's) was paid twice, and counts
    twice.
    """
    tallies: dict[str, Tally] = {}
    for _, record in records:
        if record["artifact"] == artifact:
            tallies.setdefault(record["template"], Tally()).add(record)
    return tallies


def human_dollars(num_labels: int, prices: Prices) -> float:
    """What people ask for so many labels."""
    return num_labels * prices.human_label


def human_comparison(
    dollars: float, num_queries: int, num_pairs: int, prices: Prices, *, fixed_dollars: float = 0.0
) -> dict[str, Any]:
    """People's price of the same labels, and where the LLM becomes cheaper.

    `fixed_dollars` is what must be spent before the first label (setting up, loading models, a gold set).
    `break_even_queries` is the number of queries from which on the LLM is cheaper with it, None where it never is;
    `break_even_labels` is how many human labels the whole LLM run would buy.
    """
    of_people = human_dollars(num_pairs, prices)
    saved = (of_people - dollars) / num_queries if num_queries else 0.0
    return {
        "dollars": of_people,
        "times_as_dear": of_people / dollars if dollars else None,
        "fixed_dollars": fixed_dollars,
        "break_even_queries": fixed_dollars / saved if saved > 0 else None,
        "break_even_labels": (dollars + fixed_dollars) / prices.human_label if prices.human_label else None,
    }
