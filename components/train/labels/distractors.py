"""Passages that look like answers to the dev queries: what makes dev nDCG as hard to earn as the test's.

The dev set has room for a small part of the corpus. In a random part most wrong passages are about something else, so
the measure is higher than the test's and tells encoders apart less well. So most of the room goes to the passages that
BM25 ranks first for the dev queries, over the corpus or a seeded sample of it: no encoder is favoured, and no library
is needed that this image lacks.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from components.shared.dataset import Dataset
from components.shared.records import Passage

# Passages looked at: about 10 seconds, and the hardest few of 200,000 are as hard as those of a larger corpus.
_SCANNED_PASSAGES = 200_000
# In a large corpus a word in more than a tenth of the passages tells little and costs most.
_COMMON_SHARE, _ALWAYS_KEPT = 0.1, 5_000
# Source: the parameters of Anserini's MS MARCO passage runs, as in shared/bm25.py.
_K1, _B = 0.9, 0.4
# Words; in scripts without spaces each pair of characters.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]+")
_WORD = re.compile(r"\w+")


def hardest_passages(dataset: Dataset, queries: Sequence[str], *, depth: int, seed: int) -> list[str]:
    """Passage ids that BM25 ranks first: the first of every query, then the second of every query, each id once."""
    table = _Table.of(dataset, queries, seed=seed)
    ranked = [table.ranked(query, depth) for query in queries]
    interleaved = (passage_id for rank in zip_longest(*ranked) for passage_id in rank if passage_id is not None)
    return list(dict.fromkeys(interleaved))


class _Table:
    """BM25's weights of the queries' words in the scanned passages."""

    def __init__(self, passage_ids: list[str]) -> None:
        self._passage_ids = passage_ids
        self._weights: dict[str, tuple[ndarray, ndarray]] = {}

    @classmethod
    def of(cls, dataset: Dataset, queries: Sequence[str], *, seed: int) -> _Table:
        wanted = {word for query in queries for word in _words(query)}
        rows: defaultdict[str, array[int]] = defaultdict(lambda: array("l"))
        counts: defaultdict[str, array[int]] = defaultdict(lambda: array("l"))
        lengths = array("l")
        passage_ids: list[str] = []
        for passage in _scanned(dataset, seed):
            words = _words(passage.full_text)
            for word, count in Counter(word for word in words if word in wanted).items():
                rows[word].append(len(passage_ids))
                counts[word].append(count)
            lengths.append(len(words))
            passage_ids.append(passage.passage_id)
        table = cls(passage_ids)
        sizes = np.array(lengths, dtype=np.float32)
        norms = _K1 * (1 - _B + _B * sizes / max(1.0, float(sizes.mean()) if len(sizes) else 1.0))
        limit = max(_ALWAYS_KEPT, _COMMON_SHARE * len(passage_ids))
        for word, found_in in rows.items():
            if len(found_in) <= limit:
                index, tf = np.array(found_in), np.array(counts[word], dtype=np.float32)
                idf = math.log(1 + (len(passage_ids) - len(found_in) + 0.5) / (len(found_in) + 0.5))
                table._weights[word] = (index, (idf * tf / (tf + norms[index])).astype(np.float32))
        return table

    def ranked(self, query: str, depth: int) -> list[str]:
        """Ids of the best passages that share a word with the query; equal scores in the order scanned."""
        scores: Float32[ndarray, " passage"] = np.zeros(len(self._passage_ids), dtype=np.float32)
        for word in dict.fromkeys(_words(query)):
            if word in self._weights:
                index, weights = self._weights[word]
                scores[index] += weights
        best = np.argsort(-scores, kind="stable")[:depth]
        return [self._passage_ids[row] for row in best if scores[row] > 0]


def _scanned(dataset: Dataset, seed: int) -> Iterator[Passage]:
    if dataset.num_passages <= _SCANNED_PASSAGES:
        yield from dataset.iter_passages()
        return
    for row in sorted(random.Random(seed).sample(range(dataset.num_passages), _SCANNED_PASSAGES)):
        yield dataset.passage_at(row)


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    pairs = [run[at : at + 2] for run in _UNSPACED.findall(folded) for at in range(max(1, len(run) - 1))]
    return pairs + _WORD.findall(_UNSPACED.sub(" ", folded))
