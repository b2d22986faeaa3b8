"""What annotations cost by template (tokens, calls, engine seconds, dollars), and what people's labels would have cost.

Two sums that differ where runs share a journal: `total` are the calls that these annotations made, read from the
journal's records, so that an interrupted run counts whole; `used` are all calls behind the labels, whoever made them
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.shared.calls.tally import MILLION, Prices, Tally


@dataclass(frozen=True)
class Ledger:
    """Tallies of the paid calls by template, and of all calls behind the labels of so many queries and judged pairs.

    `left_out_per_query`: queries that a selection under a budget left out, for each one that was selected.
    """

    templates: Mapping[str, Tally]
    num_queries: int
    num_pairs: int
    prices: Prices
    used: Tally | None = None
    left_out_per_query: float = 0.0

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
            "saved": self._saved(used),
        }

    def _saved(self, used: Tally) -> dict[str, float]:
        """What the queries that were left out would have cost, at the mean of those that were annotated."""
        number = self.left_out_per_query
        return {
            "queries": number * self.num_queries,
            "prompt_tokens": number * used.prompt_tokens,
            "completion_tokens": number * used.completion_tokens,
            "engine_seconds": number * used.engine_seconds,
            "dollars": number * used.dollars(self.prices),
        }

    def _row(self, tally: Tally) -> dict[str, Any]:
        dollars = tally.dollars(self.prices)
        return {
            **asdict(tally),
            "is_lower_bound": tally.uncounted_calls > 0,
            "dollars": dollars,
            "dollars_per_thousand_queries": dollars / self.num_queries * 1_000 if self.num_queries else 0.0,
            "dollars_per_million_pairs": dollars / self.num_pairs * MILLION if self.num_pairs else 0.0,
        }


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
