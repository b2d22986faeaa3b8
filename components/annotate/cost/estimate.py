"""What annotating will cost, before it is spent: real judges, a real tokenizer, and an LLM whose replies are assumed.

The prompts are those that the job will send, token for token. What no one knows beforehand is how much the LLM selects
and writes: that is assumed from the paper, or measured on labels of a small first run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.annotate.config import AnnotateConfig
from components.annotate.cost.ledger import Ledger, human_comparison
from components.annotate.judging.judge import judge
from components.annotate.judging.methods import METHODS, QUESTIONS
from components.shared.calls import untrusted
from components.shared.calls.asks import Ask
from components.shared.calls.dry import Dry, PrefixCache
from components.shared.calls.journalled import Paid
from components.shared.calls.tally import SECONDS_PER_HOUR, Prices, Tally
from components.shared.dataset import Dataset
from components.shared.engines.engine import Request, Tokenizer
from components.shared.engines.loading import loading
from components.shared.records import Annotation, Pool


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the LLM will do.

    Source of the shares: [ufa] Table 1, Qwen-2.5-32B: 6.2 of 31 selected as relevant, 2.9 of these as useful.
    """

    relevant_share: float = 6.2 / 31
    useful_share: float = 2.9 / 6.2
    answer_words: int = 45
    """Words of a pseudo-answer; one to three sentences are asked for."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Tokens a second of one engine, as its own benchmark says; 0 = unknown, and no hours or price are estimated."""

    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    num_engines: int = 1


class _DryJudging:
    """The judging of pools by an LLM that selects and writes as assumed."""

    def __init__(self, tokenizer: Tokenizer, assumptions: Assumptions, paid: Paid | None) -> None:
        self._assumptions, self._cache = assumptions, PrefixCache()
        self.dry = Dry(tokenizer, self._reply, paid, self._cache)
        self.num_pairs = 0

    def run(self, pool: Pool, dataset: Dataset, config: AnnotateConfig) -> None:
        """Judges one pool and counts what that takes."""
        passages = [
            untrusted.cut(dataset.passage(p).full_text, num_words=config.passage_words) for p in pool.passage_ids
        ]
        self.num_pairs += len(passages)
        # What is cached of one query's prompts is counted; other queries share little but the first words.
        self._cache.clear()
        self.dry.run(judge(dataset.query(pool.query_id), passages, config, can_constrain=True))

    def _reply(self, ask: Ask, request: Request) -> str:
        num_shown = len(ask.positions)
        if QUESTIONS[ask.template].gives == "ranking":
            return " > ".join(f"[{number}]" for number in range(1, num_shown + 1))
        if QUESTIONS[ask.template].gives == "answer":
            # Words of the passages themselves: tokens of real text, not of one repeated word.
            words = " ".join(turn.content for turn in getattr(request, "turns", ())[2:]).split()
            return " ".join(words[: self._assumptions.answer_words])
        share = (
            self._assumptions.relevant_share
            if ask.template == "relevance_selection"
            else self._assumptions.useful_share
        )
        count = min(num_shown, max(1, round(share * num_shown)))
        return ", ".join(f"[{1 + number * num_shown // count}]" for number in range(count))


@dataclass(frozen=True)
class Quote:
    """What annotating all pools will still cost, scaled from a sample of them; `num_paid` calls are in the journal."""

    ledger: Ledger
    num_sampled: int
    num_paid: int
    assumptions: Assumptions
    throughput: Throughput
    fixed_dollars: float

    @property
    def hours(self) -> float:
        """Of all engines at work at the same time; 0 where the throughput is unknown."""
        return self.ledger.total.engine_seconds / SECONDS_PER_HOUR / self.throughput.num_engines

    def as_dict(self) -> dict[str, Any]:
        """All of it."""
        ledger, total = self.ledger, self.ledger.total.dollars(self.ledger.prices)
        people = human_comparison(
            total, ledger.num_queries, ledger.num_pairs, ledger.prices, fixed_dollars=self.fixed_dollars
        )
        how = {"assumptions": asdict(self.assumptions), "throughput": asdict(self.throughput)}
        return (
            ledger.as_dict()
            | {"num_sampled": self.num_sampled, "num_paid": self.num_paid, "hours": self.hours, "human": people}
            | how
        )


def estimate(
    pools: Sequence[Pool],
    num_queries: int,
    dataset: Dataset,
    config: AnnotateConfig,
    tokenizer: Tokenizer,
    *,
    prices: Prices,
    assumptions: Assumptions | None = None,
    throughput: Throughput | None = None,
    fixed_dollars: float = 0.0,
    paid: Paid | None = None,
) -> Quote:
    """The quote for `num_queries` queries like the sampled pools; with pools judged again, without `paid` calls.

    Prompt tokens found in the cache take no time; prompt and completion tokens of one engine take turns.
    """
    assumptions, throughput = assumptions or Assumptions(), throughput or Throughput()
    judging = _DryJudging(tokenizer, assumptions, paid)
    for pool in pools:
        judging.run(pool, dataset, config)
    dry = judging.dry
    factor = num_queries / len(pools)
    num_pairs = round(judging.num_pairs * factor)
    # Likelihoods of single passages do not depend on the order: judged again, they are found in the journal.
    if METHODS[config.method].depends_on_order:
        factor *= 1 + config.recheck_share
    tallies = {template: timed(tally.times(factor), throughput) for template, tally in dry.tallies.items()}
    num_paid = round(dry.num_paid * factor)
    return Quote(
        Ledger(tallies, num_queries, num_pairs, prices), len(pools), num_paid, assumptions, throughput, fixed_dollars
    )


def measured_assumptions(annotations: Iterable[Annotation], completions: Mapping[str, str]) -> Assumptions | None:
    """What the LLM did in a first run; None where nothing tells. `completions` are the journal's texts by key."""
    shown = {"relevance_selection": 0, "utility_selection": 0}
    chosen = dict.fromkeys(shown, 0)
    words: list[int] = []
    for annotation in annotations:
        for exchange in annotation.exchanges:
            if exchange.template in shown and exchange.outcome in ("ok", "ok_empty", "repaired"):
                shown[exchange.template] += len(exchange.positions)
                chosen[exchange.template] += len(exchange.chosen)
            if exchange.template == "answer" and exchange.outcome == "ok":
                words += [len(completions[key].split()) for key in exchange.calls if key in completions]
    default = Assumptions()
    if not shown["relevance_selection"] and not words:
        return None
    relevant, useful = (chosen[name] / shown[name] if shown[name] else None for name in shown)
    return Assumptions(
        relevant_share=default.relevant_share if relevant is None else relevant,
        useful_share=default.useful_share if useful is None else useful,
        answer_words=round(sum(words) / len(words)) if words else default.answer_words,
    )


def open_tokenizer(llm_uri: str) -> Tokenizer:
    """The tokenizer of an LLM, without its weights.

    Raises:
        ValueError: Where it cannot be found.
    """
    from transformers import AutoTokenizer

    with loading(llm_uri) as source:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(source)
    return tokenizer


def timed(tally: Tally, throughput: Throughput) -> Tally:
    """The same with the engine seconds that it takes at this throughput."""
    seconds = 0.0
    if throughput.prompt_tokens:
        seconds += (tally.prompt_tokens - tally.cached_tokens) / throughput.prompt_tokens
    if throughput.completion_tokens:
        seconds += tally.completion_tokens / throughput.completion_tokens
    tally.engine_seconds = seconds
    return tally
