"""expected.json of an index: what the release's own queries are like, so that others can be told from them.

A score means something only beside other scores of the same encoder and index, so "a good hit" is a property of the
release: a hit that scores as the best hits of 19 in 20 of its own dev and test queries do. Scores are inner products of
vectors; BM25's sums and the fused scores of hybrid search do not compare between queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import orjson
from jaxtyping import Float64

from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder
from components.shared.hashing import content_key
from components.shared.index import PassageIndex
from components.shared.language.detection import SAMPLE_TEXTS, detect_language
from components.shared.own_passage import is_own_passage
from components.shared.records import Query

EXPECTED_NAME = "expected.json"
# What one in twenty of the release's own queries does not reach.
GOOD_QUANTILE = 0.05
# Train queries say nothing of others: the encoder has learned their hits.
_SPLITS = ("dev", "test")
# A quantile of fewer is one or two queries.
_FEWEST, _MOST = 40, 1000
# A language with less of the evidence is a quotation, or a mistake of the detection.
_SMALLEST_SHARE = 0.02
_BLOCK_QUERIES = 256

Scores = Float64[np.ndarray, " query"]


@dataclass(frozen=True)
class Expected:
    """What a release expects of queries.

    Attributes:
        good_score: Smallest inner product of a best hit that counts as good; None where there were too few queries.
        num_queries: Dev and test queries that it was measured on.
        is_synthetic: Whether an LLM wrote them.
        languages: Codes of the languages of its passages and queries, most evidence first.
        reason: Where the good score comes from, or why there is none, as a sentence.
    """

    good_score: float | None
    num_queries: int
    is_synthetic: bool
    languages: list[str]
    reason: str


def measure_expected(dataset: Dataset, encoder: Encoder, index: PassageIndex) -> Expected:
    """What a release of these three expects."""
    queries, is_synthetic = own_queries(dataset)
    languages = languages_of(dataset)
    if len(queries) < _FEWEST:
        reason = f"{len(queries)} dev and test queries are too few to say what a good hit is; {_FEWEST} would do"
        return Expected(None, len(queries), is_synthetic, languages, reason)
    score = float(np.quantile(best_scores(encoder, index, queries, dataset), GOOD_QUANTILE))
    writer = "that an LLM wrote" if is_synthetic else "of people"
    reason = f"the best hits of 19 in 20 of {len(queries)} dev and test queries {writer} score at least {score:.4f}"
    return Expected(round(score, 6), len(queries), is_synthetic, languages, reason)


def own_queries(dataset: Dataset) -> tuple[list[Query], bool]:
    """Dev and test queries of a dataset, a thousand at most, and whether an LLM wrote them.

    Those of people where there are enough; they tell what people ask.
    """
    held_out = [query for split in _SPLITS for query in dataset.queries(split)]
    of_people = [query for query in held_out if query.query_id not in dataset.asked_ids]
    is_synthetic = len(of_people) < _FEWEST and len(held_out) > len(of_people)
    queries = held_out if is_synthetic else of_people
    return sorted(queries, key=lambda query: content_key("expected", query.query_id))[:_MOST], is_synthetic


def best_scores(encoder: Encoder, index: PassageIndex, queries: Sequence[Query], dataset: Dataset) -> Scores:
    """Inner product of the best hit of each query; the passage that a query itself is counts for none."""
    scores = np.empty(len(queries))
    for start in range(0, len(queries), _BLOCK_QUERIES):
        block = queries[start : start + _BLOCK_QUERIES]
        values, rows = index.search_rows(encoder.encode_queries([query.text for query in block]), 2)
        for number, query in enumerate(block):
            is_own = len(rows[number]) > 1 and is_own_passage(query, dataset.passage_at(int(rows[number][0])))
            scores[start + number] = values[number][int(is_own)]
    return scores


def languages_of(dataset: Dataset) -> list[str]:
    """Codes of the languages that passages and queries of a dataset are written in, most evidence first."""
    # Spread over the corpus, whose parts may have been put together by language.
    step = max(1, dataset.num_passages // SAMPLE_TEXTS)
    texts = [dataset.passage_at(row).full_text for row in range(0, dataset.num_passages, step)]
    texts += [query.text for query in islice(dataset.queries(), SAMPLE_TEXTS)]
    return [code for code, share in detect_language(texts).shares.items() if share >= _SMALLEST_SHARE]


def write_expected(folder: Path, expected: Expected) -> None:
    """Writes it beside an index."""
    (folder / EXPECTED_NAME).write_bytes(orjson.dumps(asdict(expected), option=orjson.OPT_INDENT_2))


def read_expected(folder: Path) -> Expected | None:
    """That of an index; None of an index of an earlier version.

    Raises:
        ValueError: Where the file is not one of this version.
    """
    path = folder / EXPECTED_NAME
    if not path.is_file():
        return None
    try:
        return Expected(**orjson.loads(path.read_bytes()))
    except (TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"{path}: not of this version ({error}); build the index again") from error
