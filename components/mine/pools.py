"""One query's rankings and known positives -> its pool. Pure, so that a pool can be explained from its inputs."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from components.mine.config import MineConfig
from components.shared.hashing import content_key
from components.shared.records import Hit, Pool

# Why a candidate was dropped: it is the query itself.
OWN_PASSAGE = "own_passage"
# How a known positive came to be known: people judged it, or the query was asked about it.
HUMAN, ASKED = "human", "asked"
KNOWN = (HUMAN, ASKED)


@dataclass(frozen=True)
class Mined:
    """A pool, why candidates were dropped, and how many of its hard negatives score like a positive.

    `has_lexical_hit` is false where the query shares no word with any passage.
    `num_scored` counts the hard negatives that could be compared: those with a dense score, where a positive has one
    too.
    """

    pool: Pool
    dropped: Counter[str] = field(default_factory=Counter)
    num_scored: int = 0
    num_suspected: int = 0
    has_lexical_hit: bool = True


def make_pool(
    query_id: str,
    *,
    bm25: Sequence[Hit],
    dense: Sequence[Hit],
    positives: Collection[str],
    config: MineConfig,
    text_of: Callable[[str], str] = str,
    scores: Mapping[str, float] | None = None,
    is_own: Callable[[str], bool] = lambda _: False,
    known_as: str = HUMAN,
) -> Mined:
    """Hard negatives from both rankings and the known positives, shuffled.

    A known positive never takes a hard negative's place, under its own id or another: it is in the pool as `human`
    (or `asked`), or not at all. Where the rankings hold too few others the pool is smaller.

    Args:
        query_id: Whose pool.
        bm25: Lexical hits, best first.
        dense: Dense hits, best first.
        positives: Known positives.
        config: Numbers of hits, and the margin.
        text_of: Passage id -> what makes two passages the same.
        scores: Dense scores of candidates and positives; with a margin, a candidate without one is dropped.
        is_own: Whether a passage is the query itself, and so no candidate; a known positive stays all the same.
        known_as: How the positives are known, which is their source in the pool.
    """
    scores = scores or {}
    filtered = _Filter(positives, text_of, scores, best_positive(positives, scores), config.relative_margin, is_own)
    lexical = list(islice(filter(filtered, (hit.passage_id for hit in bm25)), config.num_bm25))
    semantic = list(
        islice(filter(filtered, (hit.passage_id for hit in dense if hit.passage_id not in lexical)), config.num_dense)
    )
    in_dense = {hit.passage_id for hit in dense}
    known_positives = _distinct(positives, text_of)
    if config.human_positive == "as_retrieved":
        known = set(map(text_of, positives))
        retrieved = _within(bm25, lexical, config.num_bm25, known, text_of)
        # What BM25 found takes no dense place.
        others = [hit for hit in dense if hit.passage_id not in lexical and text_of(hit.passage_id) not in retrieved]
        retrieved |= _within(others, semantic, config.num_dense, known, text_of)
        known_positives = [passage_id for passage_id in known_positives if text_of(passage_id) in retrieved]
    members = [(p, "bm25+dense" if p in in_dense else "bm25") for p in lexical]
    members += [(p, "dense") for p in semantic] + [(p, known_as) for p in known_positives]
    # Of its own seed, so that a pool does not depend on which other queries were drawn.
    seed = int(content_key(config.seed, query_id)[:8], 16)
    random.Random(seed).shuffle(members)
    pool = Pool(query_id, tuple(p for p, _ in members), tuple(source for _, source in members), seed)
    scored = [scores[p] for p in lexical + semantic if p in scores] if filtered.best > 0 else []
    num_suspected = sum(score > config.suspected_margin * filtered.best for score in scored)
    return Mined(pool, filtered.dropped, len(scored), num_suspected, bool(bm25))


def _within(
    hits: Sequence[Hit],
    negatives: Collection[str],
    num_places: int,
    known: Collection[str],
    text_of: Callable[[str], str],
) -> set[str]:
    """Texts of the positives that would have a place if they stood in line with the hard negatives of a ranking.

    Only so deep does a pool look: a positive at rank 90 was not retrieved for a pool of the best 15, however many hits
    were looked at to fill it.
    """
    taken = set(negatives)
    retrieved: set[str] = set()
    num_taken = 0
    for hit in hits:
        if num_taken >= num_places:
            break
        text = text_of(hit.passage_id)
        if text in known:
            num_taken += text not in retrieved
            retrieved.add(text)
        elif hit.passage_id in taken:
            num_taken += 1
    return retrieved


def best_positive(positives: Collection[str], scores: Mapping[str, float]) -> float:
    """The highest score of a positive; 0 where none is known or above 0, since a share of it would mean nothing."""
    return max((scores[p] for p in positives if p in scores), default=0.0)


def _distinct(positives: Collection[str], text_of: Callable[[str], str]) -> list[str]:
    by_text: dict[str, str] = {}
    for passage_id in positives:
        by_text.setdefault(text_of(passage_id), passage_id)
    return list(by_text.values())


class _Filter:
    """Says of each candidate in turn whether it may be a hard negative, and counts why not."""

    def __init__(
        self,
        positives: Collection[str],
        text_of: Callable[[str], str],
        scores: Mapping[str, float],
        best: float,
        margin: float,
        is_own: Callable[[str], bool],
    ) -> None:
        self._is_own = is_own
        self._positives, self._text_of, self._scores, self.best = set(positives), text_of, scores, best
        self._known = set(map(text_of, positives))
        self._seen: set[str] = set()
        self._limit = margin * best if margin > 0 and best > 0 else math.inf
        self.dropped: Counter[str] = Counter()

    def __call__(self, passage_id: str) -> bool:
        reason = self._reason(passage_id)
        if reason:
            self.dropped[reason] += 1
        return not reason

    def _reason(self, passage_id: str) -> str:
        if passage_id in self._positives:
            return "known_positive"
        if self._is_own(passage_id):
            return OWN_PASSAGE
        text = self._text_of(passage_id)
        if text in self._known:
            return "text_of_a_positive"
        if text in self._seen:
            return "duplicate"
        if self._limit < math.inf and not self._scores.get(passage_id, math.inf) <= self._limit:
            return "margin"
        self._seen.add(text)
        return ""
