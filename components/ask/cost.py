"""What asking will cost, before it is spent: the real prompts, a real tokenizer, and replies of an assumed length."""

from __future__ import annotations

from dataclasses import dataclass, field

from components.ask.config import AskConfig
from components.ask.sampling import draw
from components.ask.styles import STYLES
from components.ask.writing import source_text, weigh_query, write_query
from components.shared.bm25 import BM25
from components.shared.calls.asks import Ask, Asker
from components.shared.calls.journalled import Paid
from components.shared.calls.sampling import profile_of
from components.shared.calls.tally import Tally
from components.shared.dataset import Dataset
from components.shared.engines.engine import Completion, Likelihood, Request, Result, Tokenizer, token_ids
from components.shared.hashing import content_key

# A reply of the length that instruction models write, measured on SmolLM2-135M and SciFact: 14 words a query.
_REPLY = "What does the treatment change in patients who took it for several years before the study?"


@dataclass
class _Dry:
    """An assumed LLM that counts; what the journal holds is paid and is taken from there."""

    tokenizer: Tokenizer
    paid: Paid | None
    num_paid: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def run(self, asker: Asker[object]) -> None:
        """Lets an asker have all that it asks for."""
        results: list[list[Result]] | None = None
        while True:
            try:
                asks = next(asker) if results is None else asker.send(results)
            except StopIteration:
                return
            results = [[self._answer(ask, request) for request in ask.requests] for ask in asks]

    def _answer(self, ask: Ask, request: Request) -> Result:
        if self.paid and (result := self.paid.find(request)) is not None:
            self.num_paid += 1
            return result
        context, continuation = token_ids(self.tokenizer, request)
        num_prompt = len(context) + len(continuation)
        # And the token that ends the reply.
        num_reply = 0 if continuation else len(self.tokenizer(_REPLY, add_special_tokens=False)["input_ids"]) + 1
        record = {"rung": ask.rung, "prompt_tokens": num_prompt, "cached_tokens": 0, "engine_seconds": 0.0}
        self.tallies.setdefault(ask.template, Tally()).add({**record, "completion_tokens": num_reply})
        if continuation:
            return Likelihood("", (0.0,) * len(continuation), num_prompt)
        return Completion("", _REPLY, "stop", num_prompt, num_reply)


def estimate_asking(
    dataset: Dataset, bm25: BM25, config: AskConfig, tokenizer: Tokenizer, paid: Paid | None, *, sample: int = 200
) -> tuple[dict[str, Tally], int]:
    """Calls and tokens by template, scaled from a sample of each style's queries, and how many calls are paid already.

    Every query is assumed to be read at the first try and to come to the likelihood test, where there is one.
    """
    assignments = draw(dataset, config, bm25).assignments
    profile = profile_of(config.llm_uri, config.sampling_profile, sampling_temperature=config.sampling_temperature)
    tallies: dict[str, Tally] = {}
    num_paid = 0.0
    for style in STYLES:
        of_style = [assignment for assignment in assignments if assignment.style == style]
        drawn = sorted(of_style, key=lambda assignment: content_key("estimate", assignment.query_id))[:sample]
        dry = _Dry(tokenizer, paid)
        for assignment in drawn:
            dry.run(write_query(assignment, config, profile))
            if config.min_likelihood_gain:
                text = source_text(assignment, config)
                dry.run(weigh_query(assignment.query_id, _REPLY, text, text))
        factor = len(of_style) / max(1, len(drawn))
        num_paid += dry.num_paid * factor
        for template, tally in dry.tallies.items():
            tallies[template] = tallies.get(template, Tally()).plus(tally.times(factor))
    return tallies, round(num_paid)
