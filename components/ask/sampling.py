"""Which passages are asked about, in which style, and in which split: a seeded draw that spreads over documents.

A passage is drawn by the hash of its id, so that another passage in the corpus changes little. Passages of one title
are of one document; every document is asked about once before any is asked about twice. Too short passages, repeated
ones, and those made of sentences that many others hold too are left out and counted.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from components.ask.config import AskConfig
from components.ask.styles import STYLES, deal, parse_styles
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.hashing import content_key, text_digest
from components.shared.language.words import first_words, words
from components.shared.own_passage import same_text
from components.shared.records import Passage
from components.shared.splits import hash_split

# Candidates for each query, and at least so many: enough to leave out what is no good and to spread over documents.
_CANDIDATES_A_QUERY, _FEWEST_CANDIDATES = 10, 2_000
# A sentence of at least so many words in at least so many of the candidates is boilerplate, and a passage of which more
# than this share of the words stands in such sentences is left out.
_SENTENCE_WORDS, _MANY_PASSAGES, _MOST_BOILERPLATE = 5, 4, 0.5
# A passage with fewer letters than this among its characters is a table, a list of numbers or markup.
_LEAST_LETTERS = 0.5
# The second passage of a question is looked for with so many words of the first, among so many hits.
_PARTNER_WORDS, _PARTNER_DEPTH = 60, 30


@dataclass(frozen=True)
class Assignment:
    """One query to be written: its id, style, source passages, and the split that they all are in."""

    query_id: str
    style: str
    passages: tuple[Passage, ...]
    split: str


@dataclass
class Sample:
    """The assignments in order, and why passages were left out."""

    assignments: list[Assignment]
    left_out: Counter[str]
    num_candidates: int


def split_of(passage: Passage) -> str:
    """The split of all queries about a passage: by its text, so that the same text under two ids is in one split."""
    return hash_split(text_digest(same_text(passage.full_text)))


def draw(dataset: Dataset, config: AskConfig, bm25: BM25) -> Sample:
    """Assignments for as many queries as the config wants; fewer where the corpus has not enough passages.

    Where people judged the dev or the test split, these stay theirs: all asked queries train, and no passage that
    people judged there is asked about.
    """
    held_out = {p for split in ("dev", "test") for grades in dataset.human_qrels(split).values() for p in grades}
    left_out: Counter[str] = Counter()
    candidates = _candidates(dataset, config, held_out, left_out)
    dealer = _Dealer(dataset, bm25, config, held_out)
    assigned = dealer.deal(_spread(_usable(candidates, config, left_out)))
    left_out["without a second passage"] = dealer.num_without_partner
    return Sample(assigned, +left_out, len(candidates))


def _candidates(
    dataset: Dataset, config: AskConfig, excluded: Collection[str], left_out: Counter[str]
) -> list[Passage]:
    """A uniform draw of the corpus by hash, in the order of the hash."""
    wanted = max(_FEWEST_CANDIDATES, _CANDIDATES_A_QUERY * config.num_queries)

    def keyed() -> Iterator[tuple[str, int]]:
        for row, passage in enumerate(dataset.iter_passages()):
            if passage.passage_id in excluded:
                left_out["judged by people in a held-out split"] += 1
            else:
                yield content_key(config.seed, "ask", passage.passage_id), row

    return [dataset.passage_at(row) for _, row in heapq.nsmallest(wanted, keyed())]


def _usable(candidates: Sequence[Passage], config: AskConfig, left_out: Counter[str]) -> Iterator[Passage]:
    """The candidates that can be asked about, in order."""
    holders = Counter(key for passage in candidates for key in set(_sentences(passage.text)))
    seen: set[str] = set()
    for passage in candidates:
        text = same_text(passage.full_text)
        if len(words(passage.text)) < config.min_passage_words:
            left_out["too short"] += 1
        elif sum(map(str.isalpha, passage.text)) < _LEAST_LETTERS * len(passage.text.replace(" ", "")):
            left_out["not prose"] += 1
        elif text in seen:
            left_out["repeated"] += 1
        elif _boilerplate_share(passage.text, holders) > _MOST_BOILERPLATE:
            left_out["boilerplate"] += 1
        else:
            yield passage
        seen.add(text)


def _sentences(text: str) -> Iterator[tuple[str, ...]]:
    """The sentences and lines of a text that are long enough to tell anything, as their words."""
    for line in text.replace(". ", ".\n").splitlines():
        spoken = tuple(words(line))
        if len(spoken) >= _SENTENCE_WORDS:
            yield spoken


def _boilerplate_share(text: str, holders: Mapping[tuple[str, ...], int]) -> float:
    sentences = list(_sentences(text))
    common = sum(len(sentence) for sentence in sentences if holders[sentence] >= _MANY_PASSAGES)
    return common / max(1, sum(map(len, sentences)))


def _spread(passages: Iterable[Passage]) -> list[Passage]:
    """The first passage of every document, then the second ones; a passage without a title is a document."""
    turns: Counter[str] = Counter()
    ranked = []
    for number, passage in enumerate(passages):
        turn = 0
        if title := same_text(passage.title):
            turn = turns[title]
            turns[title] += 1
        ranked.append((turn, number, passage))
    return [passage for _, _, passage in sorted(ranked, key=lambda row: row[:2])]


class _Dealer:
    """Deals the styles over the passages, always the one of which most is still wanted."""

    def __init__(self, dataset: Dataset, bm25: BM25, config: AskConfig, held_out: Collection[str]) -> None:
        """`held_out` are passages that people judged for queries of other splits than train."""
        self._dataset, self._bm25, self._held_out = dataset, bm25, held_out
        self._wanted = deal(parse_styles(config.styles), config.num_queries)
        self._waiting = dict(self._wanted)
        self._assigned: dict[str, Assignment] = {}
        self.num_without_partner = 0

    def deal(self, passages: Sequence[Passage]) -> list[Assignment]:
        """A style for each passage in order; a passage comes again, in another style, where there are too few."""
        for passage in (passage for _ in self._wanted for passage in passages):
            if not any(self._waiting.values()):
                break
            self._assign(passage)
        return list(self._assigned.values())

    def _assign(self, passage: Passage) -> None:
        for style in sorted(filter(self._waiting.get, self._waiting), key=self._share_done):
            query_id = _query_id(style, passage)
            if query_id in self._assigned:
                continue
            sources = self._sources(style, passage)
            if sources is None:
                self.num_without_partner += 1
                continue
            split = "train" if self._held_out else split_of(passage)
            self._assigned[query_id] = Assignment(query_id, style, sources, split)
            self._waiting[style] -= 1
            return

    def _share_done(self, style: str) -> float:
        return -self._waiting[style] / self._wanted[style]

    def _sources(self, style: str, passage: Passage) -> tuple[Passage, ...] | None:
        """The passage, and for a question that needs two the nearest other one of the same split; None without it."""
        if STYLES[style].num_passages == 1:
            return (passage,)
        (hits,) = self._bm25.search([first_words(passage.full_text, _PARTNER_WORDS)], _PARTNER_DEPTH)
        own, split = same_text(passage.full_text), split_of(passage)
        for hit in hits:
            other = self._dataset.passage(hit.passage_id)
            is_free = hit.passage_id not in self._held_out and same_text(other.full_text) != own
            if is_free and (self._held_out or split_of(other) == split):
                return passage, other
        return None


def _query_id(style: str, passage: Passage) -> str:
    """An id that says what it is, and that no query of a person has by chance."""
    return f"asked-{style}-{content_key(passage.passage_id)[:16]}"
