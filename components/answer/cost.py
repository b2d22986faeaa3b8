"""What answering will cost, before it is spent: the real prompts, a real tokenizer, and replies of an assumed length.

No run is there yet, so the hits of BM25 stand for the passages of each: what counts is how long they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from components.answer.asking import ask_answer
from components.answer.chosen import choose_queries
from components.answer.config import AnswerConfig
from components.shared.bm25 import BM25
from components.shared.calls.dry import Dry, add_tallies
from components.shared.calls.journalled import Paid
from components.shared.calls.sampling import profile_of
from components.shared.calls.tally import Tally
from components.shared.dataset import Dataset
from components.shared.engines.engine import Tokenizer
from components.shared.hashing import content_key
from components.shared.records import Passage, Query

# A short answer, which is what is asked for; a model that chats writes up to answer_tokens.
_REPLY = "the fourteenth of July 1789"


def estimate_answering(
    dataset: Dataset,
    bm25: BM25,
    config: AnswerConfig,
    tokenizer: Tokenizer,
    paid: Paid | None,
    *,
    num_runs: int,
    sample: int = 200,
) -> tuple[dict[str, Tally], int, int]:
    """Calls and tokens by template, scaled from a sample; how many calls are paid already; how many queries there are.

    Every run is assumed to show other passages; where two show the same, their call is made once.
    """
    queries = choose_queries(dataset, config).queries
    drawn = sorted(queries, key=lambda query: content_key("estimate", query.query_id))[:sample]
    profile = profile_of(config.llm_uri, config.sampling_profile, sampling_temperature=config.sampling_temperature)
    tallies: dict[str, Tally] = {}
    num_paid = 0.0
    for times, shown in _shown(dataset, bm25, config, drawn, num_runs):
        dry = Dry(tokenizer, lambda *_: _REPLY, paid)
        for query, passages in zip(drawn, shown, strict=True):
            dry.run(ask_answer(query, "", passages, config, profile))
        factor = times * len(queries) / len(drawn)
        num_paid += dry.num_paid * factor
        add_tallies(tallies, dry.tallies, factor=factor)
    return tallies, round(num_paid), len(queries)


def _shown(
    dataset: Dataset, bm25: BM25, config: AnswerConfig, queries: Sequence[Query], num_runs: int
) -> Iterator[tuple[int, list[list[Passage]]]]:
    """How many systems of a kind there are, and the passages that such a system shows for each query."""
    if config.closed_book == "yes":
        yield 1, [[] for _ in queries]
    if num_runs:
        hits = bm25.search([query.text for query in queries], config.num_passages)
        yield num_runs, [[dataset.passage(hit.passage_id) for hit in ranked] for ranked in hits]
    if config.oracle == "yes":
        positives = dataset.positives(config.split)
        yield (
            1,
            [[dataset.passage(p) for p in positives[query.query_id][: config.num_passages]] for query in queries],
        )
