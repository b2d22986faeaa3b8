"""What a job will ask before it is paid for: its own askers, a real tokenizer, and an LLM whose replies are assumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from components.shared.calls.asks import Ask, Asker, Verdict
from components.shared.calls.journalled import Paid
from components.shared.calls.tally import Tally
from components.shared.engines.engine import Completion, Likelihood, Request, Result, Tokenizer, token_ids

# vLLM's prefix cache keeps whole blocks of so many tokens.
_BLOCK_TOKENS = 16


class PrefixCache:
    """How many tokens of a prompt a cache of prefixes would hold."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def clear(self) -> None:
        """Forgets all prompts."""
        self._seen.clear()

    def num_cached(self, tokens: Sequence[int]) -> int:
        """Tokens in blocks that begin an earlier prompt; remembers this one's blocks."""
        cached, prefix, is_prefix = 0, 0, True
        for start in range(0, len(tokens) - _BLOCK_TOKENS + 1, _BLOCK_TOKENS):
            prefix = hash((prefix, *tokens[start : start + _BLOCK_TOKENS]))
            is_prefix = is_prefix and prefix in self._seen
            cached += _BLOCK_TOKENS * is_prefix
            self._seen.add(prefix)
        return cached


@dataclass
class Dry:
    """An assumed LLM that counts tokens by template.

    What the journal holds is paid: it is taken from there, so that the calls after it are those that the job will make.
    `reply` is what the LLM is assumed to write; without a `cache` no token of a prompt comes from one.
    """

    tokenizer: Tokenizer
    reply: Callable[[Ask, Request], str]
    paid: Paid | None = None
    cache: PrefixCache | None = None
    num_paid: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def run(self, asker: Asker[Verdict]) -> Verdict:
        """Lets an asker have all that it asks for; what it makes of that."""
        results: list[list[Result]] | None = None
        while True:
            try:
                asks = next(asker) if results is None else asker.send(results)
            except StopIteration as stop:
                verdict: Verdict = stop.value
                return verdict
            results = [[self._answer(ask, request) for request in ask.requests] for ask in asks]

    def _answer(self, ask: Ask, request: Request) -> Result:
        if self.paid and (result := self.paid.find(request)) is not None:
            self.num_paid += 1
            return result
        context, continuation = token_ids(self.tokenizer, request)
        tokens = [*context, *continuation]
        text = "" if continuation else self.reply(ask, request)
        # And the token that ends the reply.
        num_reply = 0 if continuation else len(self.tokenizer(text, add_special_tokens=False)["input_ids"]) + 1
        record = {
            "rung": ask.rung,
            "prompt_tokens": len(tokens),
            "cached_tokens": self.cache.num_cached(tokens) if self.cache else 0,
            "completion_tokens": num_reply,
            "engine_seconds": 0.0,
        }
        self.tallies.setdefault(ask.template, Tally()).add(record)
        if continuation:
            return Likelihood("", (0.0,) * len(continuation), len(tokens))
        return Completion("", text, "stop", len(tokens), num_reply)


def add_tallies(tallies: dict[str, Tally], more: dict[str, Tally], *, factor: float) -> None:
    """Adds tallies by template, each so many times."""
    for template, tally in more.items():
        tallies[template] = tallies.get(template, Tally()).plus(tally.times(factor))
