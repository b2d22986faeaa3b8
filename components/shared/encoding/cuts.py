"""How much of a corpus an encoder does not read: texts longer than its limit are cut, and nothing else says so.

Lengths are measured over a seeded sample, because tokenizing a whole corpus takes minutes and the share is wanted to
a percent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from components.shared import log
from components.shared.dataset import Dataset

SAMPLE_PASSAGES = 2_000
# More passages cut than this is worth a warning; the suggested length leaves no more than this cut.
_LARGEST_SHARE = 0.05
# The encoder reads no more than 24 characters for each token of its limit: pieces of a third of that are read whole.
_CHARACTERS_A_TOKEN = 8


# Texts -> token ids of each, prefix and special tokens included, not cut at the limit.
Tokenize = Callable[[list[str]], list[list[int]]]


@dataclass(frozen=True)
class Cuts:
    """What a limit cuts off.

    Attributes:
        limit: Tokens that are read of a text, special tokens included.
        num_texts: Texts measured.
        cut_share: Share of the texts that are longer.
        lost_share: Share of all their tokens that are not read.
        sufficient_tokens: The limit that would leave 95 % of the texts whole.
    """

    limit: int
    num_texts: int
    cut_share: float
    lost_share: float
    sufficient_tokens: int


def measure_cuts(lengths: Sequence[int], limit: int) -> Cuts:
    """What a limit cuts off texts of these lengths.

    Args:
        lengths: Of the texts, in tokens, special tokens included.
        limit: Tokens that are read of a text.
    """
    tokens = np.asarray(lengths, dtype=np.int64)
    if not len(tokens):
        return Cuts(limit, 0, 0.0, 0.0, limit)
    lost = np.maximum(tokens - limit, 0)
    sufficient = int(np.quantile(tokens, 1 - _LARGEST_SHARE, method="inverted_cdf"))
    return Cuts(limit, len(tokens), float((lost > 0).mean()), float(lost.sum() / max(1, tokens.sum())), sufficient)


def measure_passages(dataset: Dataset, tokenize: Tokenize, *, limit: int, seed: int) -> Cuts:
    """What a limit cuts off the passages of a dataset, by a seeded sample of them.

    Args:
        dataset: The corpus.
        tokenize: Of the encoder, for passages, without cutting.
        limit: Tokens that the encoder reads of a passage.
        seed: Of the sample.
    """
    texts = sampled_texts(dataset, SAMPLE_PASSAGES, seed=seed)
    return measure_cuts(count_tokens(texts, tokenize, limit=limit), limit)


def sampled_texts(dataset: Dataset, most: int, *, seed: int) -> list[str]:
    """The whole texts of a seeded sample of at most so many passages, in the corpus's order."""
    rows = random.Random(seed).sample(range(dataset.num_passages), min(dataset.num_passages, most))
    return [dataset.passage_at(row).full_text for row in sorted(rows)]


def count_tokens(texts: Sequence[str], tokenize: Tokenize, *, limit: int) -> list[int]:
    """Tokens of each whole text, prefix and special tokens included; of long ones the sum over their pieces."""
    (empty,) = tokenize([""])
    lengths = [len(ids) for ids in tokenize(list(texts))]
    # What has at most `limit` tokens was read whole, such as one endless word, which is one token; of the others the
    # encoder has looked at a beginning only.
    long = [row for row, length in enumerate(lengths) if length > limit]
    pieces = [(row, piece) for row in long for piece in _pieces(texts[row], limit * _CHARACTERS_A_TOKEN)]
    counted = dict.fromkeys(long, 0)
    for (row, _), ids in zip(pieces, tokenize([piece for _, piece in pieces]), strict=True):
        # Prefix and special tokens stand around every piece, and once around the text.
        counted[row] += len(ids) - (len(empty) if counted[row] else 0)
    return [max(length, counted.get(row, 0)) for row, length in enumerate(lengths)]


def warn_of_cuts(cuts: Cuts) -> None:
    """Logs a warning where more than one passage in twenty is cut, with the length that would do."""
    if cuts.cut_share > _LARGEST_SHARE:
        log.warning(
            "passages are longer than the encoder reads; raise encoder.passage_tokens, or split the passages",
            passage_tokens=cuts.limit,
            cut_passages_share=round(cuts.cut_share, 4),
            lost_tokens_share=round(cuts.lost_share, 4),
            passage_tokens_for_95_percent=cuts.sufficient_tokens,
            num_passages_measured=cuts.num_texts,
        )


def cut_metrics(cuts: Cuts) -> dict[str, float]:
    """The figures for a manifest."""
    return {"cut_passages_share": round(cuts.cut_share, 4), "cut_tokens_share": round(cuts.lost_share, 4)}


def _pieces(text: str, num_characters: int) -> list[str]:
    """The text in pieces of at most so many characters, cut at white space where there is any."""
    pieces = []
    while len(text) > num_characters:
        end = text.rfind(" ", num_characters // 2, num_characters)
        end = num_characters if end < 0 else end
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]
