"""Which of the written queries are kept: each filter in turn, and the first that objects names the reason.

| filter     | rejects a query                                                                                  |
|------------|--------------------------------------------------------------------------------------------------|
| reply      | whose reply held none: declined, cut, or nothing that can be read                                |
| length     | of too few or too many words                                                                     |
| language   | in another language than the corpus                                                              |
| pointing   | that speaks of "the passage", which nobody who searches has seen                                 |
| copy       | with a long run of words of its passage                                                          |
| duplicate  | like an earlier one, or like one that people asked                                               |
| round trip | whose source passages are not found again                                                        |
| general    | for which the best hits score alike: it fits many passages as well as its own                    |
| likelihood | that its passage makes hardly likelier than an unrelated one does                                |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from components.ask.config import AskConfig
from components.ask.writing import Written
from components.shared.language.detection import detect_language
from components.shared.language.table import OTHER
from components.shared.language.terms import Terms
from components.shared.language.words import words
from components.shared.records import Hit

Filter = Literal["reply", "length", "language", "pointing", "copy", "duplicate", "round trip", "general", "likelihood"]
FILTERS: tuple[Filter, ...] = (
    "reply",
    "length",
    "language",
    "pointing",
    "copy",
    "duplicate",
    "round trip",
    "general",
    "likelihood",
)
# Function words of another language, all in all, that make a query one of that language.
_ENOUGH_EVIDENCE = 1.0
# And the largest share of its words that passages of the corpus may hold then.
_MOST_FOREIGN = 0.5
# Share of a small corpus among which a source passage must be found, and the hits that count in the smallest.
_LARGEST_SHARE, _FEWEST_HITS = 0.02, 3
# Of shorter queries a run of copied words says nothing: names and terms must be said as they are.
_SHORT_QUERY = 5
_TEXTS = r"(?:passages?|paragraphs?|excerpts?|snippets?|texts?|articles?|authors?|documents?)"
_STUDIES = r"(?:study|studies|paper|review|research|experiment|report|procedure)"
_POINTING = re.compile(
    r"\b(?:the|this|that|these|both|above|given|provided|following|first|second)\s+"
    rf"(?:(?:given|provided|following|above|two|first|second|short)\s+)?{_TEXTS}\b"
    r"|\b(?:mentioned|described|discussed|stated)\s+(?:above|below)\b|\bmentioned[?.!]*$"
    # A study has a subject or is nobody's; `the study of sound localisation` has one.
    rf"|\b(?:this|present|current)\s+{_STUDIES}\b|\bthe\s+{_STUDIES}[?.!]*$|\bin\s+the\s+study\b",
    re.IGNORECASE,
)

Search = Callable[[Sequence[str], int], list[list[Hit]]]


@dataclass(frozen=True)
class Judged:
    """A written query and the verdict on it: the filter that rejected it, or none where it is kept.

    `ranks` are the ranks from 1 of its source passages by each search, 0 where not among the hits looked at.
    `gain` is in nats per token, nan where it was not asked for.
    """

    written: Written
    rejected_by: Filter | Literal[""] = ""
    detail: str = ""
    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    flatness: float = math.nan
    gain: float = math.nan
    gain_calls: tuple[str, ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether no filter objected."""
        return not self.rejected_by

    def reject(self, name: Filter, detail: str) -> Judged:
        """The same, rejected."""
        return replace(self, rejected_by=name, detail=detail)


def judge_texts(written: Iterable[Written], config: AskConfig, *, language: str, known: Iterable[str]) -> list[Judged]:
    """The verdicts that need the texts only.

    Args:
        written: In the order in which the first of two duplicates stays.
        config: Limits.
        language: That of the corpus; empty or `other`: no language is rejected.
        known: Queries that people asked.
    """
    terms = Terms(language if language else OTHER)
    likeness = _Likeness(config.max_likeness)
    written = list(written)
    vocabulary = {word for one in written for passage in one.assignment.passages for word in words(passage.full_text)}
    asked_before = list(known)
    for query, own in zip(asked_before, terms.of(asked_before), strict=True):
        likeness.add(query, own)
    judged = []
    for one in written:
        verdict = _judge_text(one, config, language, vocabulary)
        if verdict.is_kept:
            query = one.reading.query
            (own,) = terms.of([query])
            if other := likeness.find(frozenset(own)):
                verdict = verdict.reject("duplicate", f"like {other!r}")
            else:
                likeness.add(query, own)
        judged.append(verdict)
    return judged


def _judge_text(written: Written, config: AskConfig, language: str, vocabulary: Collection[str]) -> Judged:
    judged, query = Judged(written), written.reading.query
    if not query:
        return judged.reject("reply", f"{written.reading.outcome}: {written.reading.detail}")
    spoken = words(query)
    if not config.min_query_words <= len(query.split() if query.isascii() else spoken) <= config.max_query_words:
        return judged.reject("length", f"{len(spoken)} words")
    if other := other_language(query, language, vocabulary):
        return judged.reject("language", f"{other}, not {language}")
    if pointing := _POINTING.search(query):
        return judged.reject("pointing", f"speaks of {pointing[0]!r}")
    run = max(longest_run(spoken, words(passage.full_text)) for passage in written.assignment.passages)
    if run > config.max_copied_words or (len(spoken) >= _SHORT_QUERY and run > config.max_copied_share * len(spoken)):
        return judged.reject("copy", f"{run} of {len(spoken)} words in a row are the passage's")
    return judged


def other_language(query: str, language: str, vocabulary: Collection[str]) -> str:
    """The language of a query where it is surely another one than the corpus has; empty where it is not.

    A query is short, and `die` and `war` are English words too: it counts as German only where most of its words stand
    in no passage, either.

    Args:
        query: Its text.
        language: That of the corpus; empty or `other`: none is surely another one.
        vocabulary: Words of passages of the corpus.
    """
    if language in ("", OTHER):
        return ""
    detection = detect_language([query])
    if detection.evidence < _ENOUGH_EVIDENCE or detection.language in (language, OTHER):
        return ""
    spoken = words(query)
    num_known = sum(word in vocabulary for word in spoken)
    return "" if num_known > _MOST_FOREIGN * len(spoken) else detection.language


def longest_run(query: Sequence[str], passage: Sequence[str]) -> int:
    """Words in the longest run that both have."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(passage):
        places.setdefault(word, []).append(place)
    longest, ending = 0, dict[int, int]()
    for word in query:
        # Length of the run that ends at each place of the passage.
        ending = {place: ending.get(place - 1, 0) + 1 for place in places.get(word, ())}
        longest = max(longest, max(ending.values(), default=0))
    return longest


class _Likeness:
    """Finds an earlier query whose terms are like those of another one, without comparing all pairs."""

    def __init__(self, limit: float) -> None:
        """`limit` is the Jaccard similarity from which on two queries are alike."""
        self._limit = limit
        self._queries: list[tuple[str, frozenset[str]]] = []
        self._holders: dict[str, list[int]] = {}

    def add(self, query: str, terms: Iterable[str]) -> None:
        own = frozenset(terms)
        for term in own:
            self._holders.setdefault(term, []).append(len(self._queries))
        self._queries.append((query, own))

    def find(self, terms: frozenset[str]) -> str:
        """The first query that is like it; empty where none is, or where it has no terms."""
        # Two sets that are so alike share one of the rarest terms: all but as many as may differ can be left out.
        rarest = sorted(terms, key=lambda term: (len(self._holders.get(term, ())), term))
        prefix = rarest[: len(terms) - math.ceil(self._limit * len(terms)) + 1]
        candidates = sorted({number for term in prefix for number in self._holders.get(term, ())})
        for number in candidates:
            query, other = self._queries[number]
            if len(terms & other) >= self._limit * len(terms | other):
                return query
        return ""


def judge_round_trip(
    judged: Sequence[Judged], config: AskConfig, searches: Mapping[str, Search], *, num_passages: int
) -> list[Judged]:
    """The verdicts of searching: are the source passages found again, and better than many others?

    Args:
        judged: All queries; those that are rejected already are not searched.
        config: Depth and limits.
        searches: By name; `bm25` also says whether a query is too general.
        num_passages: Of the corpus: in a small one a source passage must be among the first 2 % at least, because a
            tenth of the corpus would hold it by chance.
    """
    limit = min(config.round_trip_depth, max(_FEWEST_HITS, round(_LARGEST_SHARE * num_passages)))
    kept = [number for number, one in enumerate(judged) if one.is_kept]
    texts = [judged[number].written.reading.query for number in kept]
    hits = {name: search(texts, config.round_trip_depth) for name, search in searches.items()}
    verdicts = list(judged)
    for place, number in enumerate(kept):
        own_hits = {name: rankings[place] for name, rankings in hits.items()}
        verdicts[number] = _judge_hits(judged[number], config, own_hits, limit)
    return verdicts


def _judge_hits(judged: Judged, config: AskConfig, hits: Mapping[str, list[Hit]], limit: int) -> Judged:
    sources = [passage.passage_id for passage in judged.written.assignment.passages]
    ranks = {name: tuple(_rank(source, ranking[:limit]) for source in sources) for name, ranking in hits.items()}
    searched = [name for name in hits if config.round_trip in (name, "either")]
    flatness = flatness_of(hits["bm25"], config.round_trip_depth)
    judged = replace(judged, ranks=ranks, flatness=flatness)
    if searched and not all(any(ranks[name][place] for name in searched) for place in range(len(sources))):
        return judged.reject(
            "round trip", f"not among the first {config.round_trip_depth} hits of {' or '.join(searched)}"
        )
    if flatness > config.max_flatness:
        return judged.reject("general", f"BM25's hit {config.round_trip_depth} scores {flatness:.0%} of its first")
    return judged


def _rank(passage_id: str, hits: Sequence[Hit]) -> int:
    return next((rank for rank, hit in enumerate(hits, start=1) if hit.passage_id == passage_id), 0)


def flatness_of(hits: Sequence[Hit], depth: int) -> float:
    """Score of the last of `depth` hits as a share of the first one's; 0 where there are fewer hits."""
    return hits[-1].score / hits[0].score if len(hits) >= depth and hits[0].score > 0 else 0.0


def judge_gains(
    judged: Sequence[Judged], gains: Mapping[str, tuple[float, tuple[str, ...]]], *, min_gain: float
) -> list[Judged]:
    """The verdicts of the likelihood test; `gains` has nats per token and calls by query id."""
    verdicts = []
    for one in judged:
        query_id = one.written.assignment.query_id
        if query_id in gains:
            nats, calls = gains[query_id]
            one = replace(one, gain=nats, gain_calls=calls)
            # A gain that could not be had is no reason to keep a query.
            if not nats >= min_gain:
                one = one.reject("likelihood", f"its passage adds {nats:.2f} nats a token")
        verdicts.append(one)
    return verdicts
