"""How much BM25 weighs in hybrid search: tuned on the dev queries that people judged, with its curve and its gain.

The gain is measured where the weight was not chosen: each half of the queries is ranked with the other half's weight.
Only a gain above chance makes hybrid search the default of a server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64

from components.index.config import IndexConfig
from components.shared import log
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder
from components.shared.fusion.hybrid import Candidates, Hybrid
from components.shared.fusion.tuned import DEFAULT_WEIGHT, Fusion
from components.shared.hashing import content_key
from components.shared.index import PassageIndex
from components.shared.own_passage import is_own_passage
from components.shared.records import Hit, Query

WEIGHTS = tuple(round(0.05 * step, 2) for step in range(21))
_CUTOFF = 10
_BLOCK_QUERIES = 64
# One-sided 95 %.
_QUANTILE = 1.645
# A query that is a passage ranks it among the first of one retriever or the other.
_OWN_DEPTH = 10

Values = Float64[np.ndarray, "weight query"]


def tune_fusion(dataset: Dataset, encoder: Encoder, index: PassageIndex, config: IndexConfig) -> Fusion:
    """The fusion of an index with the dataset's BM25 index; with a default weight where no dev query may be used."""
    fusion = Fusion(method=config.hybrid_method, weight=DEFAULT_WEIGHT, depth=config.hybrid_depth)
    grades = dev_grades(dataset, config)
    if not grades:
        why = "no dev query was judged by people, or none of their labels may be used"
        return replace(fusion, reason=f"{why}: the weight is a default, and a server searches dense unless it is told")
    hybrid = Hybrid(BM25(dataset), index, fusion)
    queries = [dataset.query(query_id) for query_id in grades]
    columns = []
    with log.Progress("tuning hybrid search", total=len(queries), unit="queries") as bar:
        for start in range(0, len(queries), _BLOCK_QUERIES):
            block = queries[start : start + _BLOCK_QUERIES]
            for query, scored in zip(block, _candidates(hybrid, dataset, encoder, block, grades), strict=True):
                rankings = (hybrid.ranked(scored, weight=weight) for weight in WEIGHTS)
                columns.append([ndcg(hits, grades[query.query_id]) for hits in rankings])
            bar.add(len(block))
    fusion = choose(np.array(columns).T, fusion)
    log.event("hybrid search tuned", weight=fusion.weight, gain=fusion.gain, default_mode=fusion.default_mode)
    num_labels = sum(grade > 0 for of_query in grades.values() for grade in of_query.values())
    return replace(fusion, tuned_on=content_key(grades), num_human_labels=num_labels)


def dev_grades(dataset: Dataset, config: IndexConfig) -> dict[str, Mapping[str, int]]:
    """Human grades of the dev queries that may be used: those with a positive, in a seeded order, a share of them."""
    # The order in which train takes its share, so that both look at the labels of the same people's queries.
    # Queries that an LLM wrote tune nothing: those that BM25 did not lead back to their passage were filtered out, so
    # on what is left BM25 looks better than it is (its share came out as 1.0 on 200 passages).
    ordered = sorted(
        dataset.human_positives("dev"), key=lambda query_id: content_key(config.seed, "human share", query_id)
    )
    share = config.dev_human_share
    allowed = max(1, round(share * len(ordered))) if share > 0 else 0
    return {query_id: dataset.qrels("dev")[query_id] for query_id in ordered[: min(allowed, config.hybrid_queries)]}


def choose(values: Values, fusion: Fusion) -> Fusion:
    """The fusion with the weight that is best on these queries, its curve, its gain, and what a server then does.

    Args:
        values: nDCG@10 of each weight and query.
        fusion: What they were made with.
    """
    weight = WEIGHTS[best_weight(values)]
    differences = _held_out_differences(values)
    gain = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    low = gain - _QUANTILE * error
    is_better = low > 0 and weight > 0
    verdict = "more than chance, so a server searches hybrid" if is_better else "not above chance, so it searches dense"
    return replace(
        fusion,
        weight=weight,
        default_mode="hybrid" if is_better else "dense",
        reason=f"tuned on {values.shape[1]} judged dev queries; hybrid minus dense is {gain:+.4f} nDCG@10 on queries "
        f"that the weight was not chosen by, {verdict} unless it is told",
        num_queries=values.shape[1],
        gain=round(gain, 6),
        gain_low=round(low, 6) if math.isfinite(low) else 0.0,
        curve=[
            {"weight": weight, "ndcg_10": round(float(mean), 6)}
            for weight, mean in zip(WEIGHTS, values.mean(axis=1), strict=True)
        ],
    )


def best_weight(values: Values) -> int:
    """Row of the weight to take: the best of the curve, each point averaged with its neighbours.

    A curve of few queries is jagged; of a plateau this takes the middle and not the tooth that stands out.
    """
    mean = values.mean(axis=1)
    padded = np.concatenate([mean[:1], mean, mean[-1:]])
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return int(np.argmax(smooth))


def fusion_metrics(fusion: Fusion) -> dict[str, Any]:
    """What the index's manifest says of it."""
    return {
        "hybrid_weight": fusion.weight,
        "hybrid_gain": fusion.gain,
        "hybrid_gain_low": fusion.gain_low,
        "default_mode": fusion.default_mode,
        "num_hybrid_queries": fusion.num_queries,
        "num_human_labels": fusion.num_human_labels,
    }


def ndcg(hits: Sequence[Hit], grades: Mapping[str, int]) -> float:
    """NDCG@10 with the grade as gain; some grade is above 0.

    Source: trec_eval's ndcg_cut; evaluate uses ir-measures, which this image does not hold.
    """
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:_CUTOFF]
    return _discounted([max(0, grades.get(hit.passage_id, 0)) for hit in hits[:_CUTOFF]]) / _discounted(ideal)


def _discounted(gains: Sequence[int]) -> float:
    return sum((gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1)), 0.0)


def _held_out_differences(values: Values) -> Float64[np.ndarray, " query"]:
    """Of each query: its value with the weight that the other half of the queries chose, minus its dense value."""
    differences = np.zeros(values.shape[1])
    for half in (slice(0, None, 2), slice(1, None, 2)):
        others = np.ones(values.shape[1], dtype=bool)
        others[half] = False
        if others.any():
            differences[half] = values[best_weight(values[:, others]), half] - values[0, half]
    return differences


def _candidates(
    hybrid: Hybrid,
    dataset: Dataset,
    encoder: Encoder,
    queries: Sequence[Query],
    grades: Mapping[str, Mapping[str, int]],
) -> list[Candidates]:
    """The candidates of each query without the passage that it is, unless people judged that relevant."""
    texts = [query.text for query in queries]
    vectors = encoder.encode_queries(texts)
    own = [
        np.array([row for row in rows.tolist() if _is_own(dataset, query, row, grades[query.query_id])], dtype=np.int64)
        for query, rows in zip(queries, hybrid.first_rows(texts, vectors, _OWN_DEPTH), strict=True)
    ]
    return hybrid.candidates(texts, vectors, own)


def _is_own(dataset: Dataset, query: Query, row: int, grades: Mapping[str, int]) -> bool:
    passage = dataset.passage_at(row)
    return is_own_passage(query, passage) and grades.get(passage.passage_id, 0) <= 0
