"""Under a budget: which train queries are worth an annotation, in which order, and why.

The order is one for every budget, so a larger budget contains the smaller. The queries of the warm-up round come first,
because they are paid for; then those with the highest score; equal scores stand in a seeded random order.

Source: the idea, to annotate where the base and the fine-tuned model disagree, is arXiv 2306.15766. Its normalisation
is not public: z scores over the union of both rankings are ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float

from components.shared.hashing import content_key
from components.shared.records import Query

Scores = Float[np.ndarray, " passage"]

# Outcomes: those that take of the budget, and that of a query which it does not reach.
WARM_UP, SELECTED, NEAR_DUPLICATE, BEYOND = "warm-up", "selected", "near_duplicate", "beyond_budget"
TAKEN = (WARM_UP, SELECTED)
# Scores that differ by less are equal: the order of a sum must not decide.
_DIGITS = 9


def z_scored(scores: Scores) -> Float[np.ndarray, " passage"]:
    """Scores with mean 0 and deviation 1, so that no encoder's scale or offset matters; 0 where all are equal."""
    centred = scores.astype(np.float64) - scores.astype(np.float64).mean()
    deviation = centred.std()
    # Of scores as large as these no more digits are meant.
    return centred / deviation if deviation > 1e-9 * np.abs(scores).max() else np.zeros(len(scores))


def deviation_of(base: Scores, finetuned: Scores, num_largest: int) -> float:
    """Mean of the largest absolute differences of the z scores over the same passages."""
    differences = np.abs(z_scored(finetuned) - z_scored(base))
    return round(float(np.sort(differences)[::-1][:num_largest].mean()), _DIGITS)


def uncertainty_of(finetuned: Scores) -> float:
    """Entropy of the softmax of the z scores, over that of as many equal ones: from 0 to 1."""
    if len(finetuned) < 2:
        return 0.0
    z = z_scored(finetuned)
    shares = np.exp(z - z.max())
    shares /= shares.sum()
    return round(float(-(shares * np.log(shares)).sum() / np.log(len(shares))), _DIGITS)


@dataclass(frozen=True)
class Disagreement:
    """What two encoders say of a query."""

    deviation: float
    uncertainty: float


@dataclass(frozen=True)
class Selector:
    """A way to spend a budget.

    `has_budget`: it leaves queries out. `score`: the higher, the earlier; None: the seeded random order.
    """

    has_budget: bool = True
    score: Callable[[Disagreement], float] | None = None

    @property
    def needs_finetuned(self) -> bool:
        """Whether it asks a fine-tuned encoder."""
        return self.score is not None


SELECTORS: Mapping[str, Selector] = {
    "all": Selector(has_budget=False),
    "random": Selector(),
    "uncertainty": Selector(score=lambda said: said.uncertainty),
    "deviation": Selector(score=lambda said: said.deviation),
}


@dataclass
class Candidate:
    """A line of selection.jsonl: a query's place in the order, its scores, and what became of it.

    `outcome`: warm-up, selected, near_duplicate (of `similar_to`) or beyond_budget. `tokens`: of its pool, as the base
    encoder splits them, where it has one.
    """

    query_id: str
    place: int
    outcome: str
    deviation: float | None = None
    uncertainty: float | None = None
    similar_to: str = ""
    tokens: int | None = None

    def as_dict(self) -> dict[str, object]:
        """As it is written."""
        return asdict(self)


def in_order(
    queries: Sequence[Query],
    selector: Selector,
    said: Mapping[str, Disagreement],
    *,
    num_warmup: int,
    near_duplicate: float,
    seed: int,
) -> Iterator[Candidate]:
    """The candidates from the first to the last; only those that are `selected` or of the warm-up take of the budget.

    Args:
        queries: All that could be annotated.
        selector: What the order is by.
        said: What the encoders say, by query id; only asked where the selector needs it.
        num_warmup: Number of queries, from the start of the random order, that come first whatever is said of them.
        near_duplicate: Share of common trigrams from which on a query is left out behind one that was taken.
        seed: Of the random order.
    """
    shuffled = sorted(queries, key=lambda query: content_key(seed, "selection", query.query_id))
    first, rest = shuffled[:num_warmup], shuffled[num_warmup:]
    if selector.score is not None:
        score = selector.score
        # Sorting keeps the random order of equal scores.
        rest = sorted(rest, key=lambda query: -score(said[query.query_id]))
    seen = _Seen([query.text for query in queries], near_duplicate)
    for place, query in enumerate([*first, *rest]):
        is_warmup = place < num_warmup
        similar = "" if is_warmup else seen.like(query)
        if not similar:
            seen.add(query)
        outcome = WARM_UP if is_warmup else NEAR_DUPLICATE if similar else SELECTED
        about = said.get(query.query_id)
        yield Candidate(
            query.query_id,
            place,
            outcome,
            deviation=about.deviation if about else None,
            uncertainty=about.uncertainty if about else None,
            similar_to=similar,
        )


class _Seen:
    """Finds a query that was taken and is almost the same, by the trigrams of its characters: words of any script.

    Two sets with a Jaccard index of t share one of their rarest (1 - t) n + 1 members, so only these are looked up.

    Source: prefix filtering, Chaudhuri et al. 2006 (ICDE).
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._counts = Counter(trigram for text in texts for trigram in _trigrams(text))
        self._holders: defaultdict[str, list[tuple[str, frozenset[str]]]] = defaultdict(list)

    def like(self, query: Query) -> str:
        """Id of a taken query that is almost the same; empty where there is none."""
        own = _trigrams(query.text)
        for trigram in self._rarest(own):
            for query_id, other in self._holders[trigram]:
                if len(own & other) >= self._threshold * len(own | other):
                    return query_id
        return ""

    def add(self, query: Query) -> None:
        """Takes a query."""
        own = _trigrams(query.text)
        for trigram in self._rarest(own):
            self._holders[trigram].append((query.query_id, own))

    def _rarest(self, trigrams: frozenset[str]) -> list[str]:
        number = len(trigrams) - int(self._threshold * len(trigrams)) + 1
        return sorted(trigrams, key=lambda trigram: (self._counts[trigram], trigram))[:number]


def _trigrams(text: str) -> frozenset[str]:
    plain = f"  {' '.join(text.casefold().split())} "
    return frozenset(plain[start : start + 3] for start in range(len(plain) - 2))
