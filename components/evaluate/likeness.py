"""Whether two encoders are compared like for like: same reading of texts, same kind of vectors, same kind of index.

Also how many texts they do not read to their end, which says what their maximum lengths cost.

A trained encoder that reads 140 tokens of a passage beats its base that reads 64 without having learned anything. What
training may change is not compared: weights, dimension, and what an index was tuned to (search parameters, BM25's share
in hybrid search).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from components.shared.dataset import Dataset
from components.shared.encoding import cuts
from components.shared.encoding.encoder import TOKENIZER_NAME, Encoder
from components.shared.fusion.tuned import Fusion
from components.shared.index import IndexSettings
from components.shared.records import Query
from components.shared.roles import hint

# Of encoder.json: `dimension` follows from the weights (`dimensions`, the cut, does not), `pad_token_id` from the
# tokenizer, `graphs` are variants of which the one in use is compared, and what vectors may be cut to changes none.
_MAY_DIFFER = {"dimension", "pad_token_id", "matryoshka"}
_LOWER_CASE = "lower_case"
# Enough for a share with a standard error of at most 1.1 percentage points; tokenizing them takes a second.
# Texts tokenized at once: very long ones would take much memory together.


def properties(encoder: Encoder, folder: Path, index: IndexSettings, fusion: Fusion) -> dict[str, Any]:
    """What decides, besides the weights, which vectors an encoder and its index hold and find.

    Args:
        encoder: Loaded from the folder.
        folder: Holds the tokenizer.
        index: Of the passages' vectors.
        fusion: Of the index with BM25; the weight itself may differ, what it was tuned on may not.
    """
    settings = orjson.loads(encoder.settings.contract())
    return {
        **{name: value for name, value in settings.items() if name not in _MAY_DIFFER},
        _LOWER_CASE: settings.get(_LOWER_CASE, lower_cases(folder / TOKENIZER_NAME)),
        "query_graph": encoder.variant,
        "passage_graph": index.variant,
        "vector_dtype": index.vector_dtype,
        "index_factory": index.factory,
        "hybrid_method": fusion.method,
        "hybrid_depth": fusion.depth,
        "hybrid_tuned_on": fusion.tuned_on[:12],
    }


def lower_cases(tokenizer: Path) -> bool:
    """Whether a tokenizer.json turns texts into lower case before it splits them."""
    return _lower_cases(orjson.loads(tokenizer.read_bytes()).get("normalizer"))


def _lower_cases(normalizer: object) -> bool:
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        return any(_lower_cases(part) for part in normalizer.get("normalizers", []))
    return normalizer.get("type") == "Lowercase" or bool(normalizer.get("lowercase"))


def find_differences(base: dict[str, Any], trained: dict[str, Any]) -> list[str]:
    """Every property in which the two differ, as `passage_tokens 64 against 140`: the base encoder's value first."""
    names = [*base, *(name for name in trained if name not in base)]
    return [
        f"{name} {_shown(base.get(name))} against {_shown(trained.get(name))}"
        for name in names
        if base.get(name) != trained.get(name)
    ]


def check(differences: list[str], *, allowed: bool) -> None:
    """Refuses a comparison that is not like for like, unless it was asked for.

    Raises:
        ValueError: Naming every difference.
    """
    if differences and not allowed:
        raise ValueError(
            f"base encoder and trained encoder are not like for like: {'; '.join(differences)}. What they are worth "
            "cannot be told apart from these settings: export and index both with the same ones, or set "
            f"{hint('allow_unlike', 'yes')}, and the report says in its first line how they differ"
        )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "not set"
    return repr(value) if isinstance(value, str) and not value.isidentifier() else f"{value}"


def measure_cuts(encoder: Encoder, dataset: Dataset, queries: Sequence[Query], *, seed: int) -> dict[str, Any]:
    """Shares of the queries (all of them) and of the passages (a sample drawn by the seed) that the encoder cuts."""
    query_tokens, passage_tokens = encoder.settings.query_tokens, encoder.settings.passage_tokens
    passages = cuts.measure_passages(
        dataset, partial(encoder.tokenize_passages, truncate=False), limit=passage_tokens, seed=seed
    )
    lengths = cuts.count_tokens(
        [query.text for query in queries], partial(encoder.tokenize_queries, truncate=False), limit=query_tokens
    )
    return {
        "query_tokens": query_tokens,
        "num_queries": len(queries),
        "queries": cuts.measure_cuts(lengths, query_tokens).cut_share,
        "passage_tokens": passage_tokens,
        "num_passages": passages.num_texts,
        "passages": passages.cut_share,
        "lost_tokens": passages.lost_share,
    }
