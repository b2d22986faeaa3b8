"""What a smaller graph or another engine costs in retrieval: nDCG@10 beside the fp32 graph's, with a paired test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder, EncoderSettings
from components.shared.encoding.matryoshka import cut

_CUTOFF = 10
_RESAMPLES = 10_000

Vectors = Float32[np.ndarray, "_ dimension"]
Values = Float64[np.ndarray, " query"]


@dataclass(frozen=True)
class DevSet:
    """Queries, passages and, a query, the grades of passages by their position."""

    queries: list[str]
    passages: list[str]
    grades: list[dict[int, int]]


@dataclass(frozen=True)
class Drift:
    """nDCG@10 of a smaller graph minus that of the fp32 graph.

    Attributes:
        num_queries: Judged queries.
        ndcg_10: Of the fp32 graph.
        ndcg_10_drift: Where the smaller graph encodes queries and passages; below zero it finds less.
        p_value: Two-sided, of the paired sign-flip test over queries.
        ndcg_10_drift_queries: Where it encodes the queries only, over passages of the fp32 graph.
    """

    num_queries: int
    ndcg_10: float
    ndcg_10_drift: float
    p_value: float
    ndcg_10_drift_queries: float


def dev_set(dataset: Dataset, *, seed: int, num_queries: int = 200, num_passages: int = 2000) -> DevSet | None:
    """A seeded draw of judged dev queries, their judged passages and others; None where no query is judged.

    Train queries are drawn where no dev query is judged.
    """
    split = "dev" if dataset.positives("dev") else "train"
    positives = dataset.positives(split)
    if not positives:
        return None
    random = np.random.default_rng(seed)
    query_ids = sorted(positives)
    chosen = [query_ids[row] for row in np.sort(random.permutation(len(query_ids))[:num_queries])]
    qrels = dataset.qrels(split)
    wanted = dict.fromkeys(passage_id for query_id in chosen for passage_id in qrels[query_id])
    for row in random.permutation(dataset.num_passages)[: max(0, num_passages - len(wanted))]:
        wanted.setdefault(dataset.passage_id_at(int(row)))
    position = {passage_id: number for number, passage_id in enumerate(wanted)}
    return DevSet(
        queries=[dataset.query(query_id).text for query_id in chosen],
        passages=[dataset.passage(passage_id).full_text for passage_id in wanted],
        grades=[{position[p]: grade for p, grade in qrels[query_id].items()} for query_id in chosen],
    )


def measure_drift(exact: tuple[Vectors, Vectors], smaller: Encoder, dev: DevSet, *, seed: int) -> Drift:
    """Searches the dev set exactly: with the fp32 graph's vectors (of `encode`) and with a smaller graph's."""
    queries, passages = exact
    smaller_queries, smaller_passages = encode(smaller, dev)
    before = ndcg(queries @ passages.T, dev.grades)
    after = ndcg(smaller_queries @ smaller_passages.T, dev.grades)
    mixed = ndcg(smaller_queries @ passages.T, dev.grades)
    return Drift(
        num_queries=len(dev.queries),
        ndcg_10=float(before.mean()),
        ndcg_10_drift=float((after - before).mean()),
        p_value=sign_flip_test(after - before, seed=seed),
        ndcg_10_drift_queries=float((mixed - before).mean()),
    )


def measure_cuts(exact: tuple[Vectors, Vectors], dev: DevSet, settings: EncoderSettings) -> dict[str, float]:
    """nDCG@10 of the fp32 graph's vectors, whole and cut to each number of dimensions that the encoder declares."""
    queries, passages = exact
    whole = queries.shape[1]
    measured = {}
    for dimensions in (whole, *settings.matryoshka):
        pair = (queries, passages)
        if dimensions < whole:
            pair = (
                cut(queries, dimensions, normalise=settings.normalise),
                cut(passages, dimensions, normalise=settings.normalise),
            )
        measured[str(dimensions)] = float(ndcg(pair[0] @ pair[1].T, dev.grades).mean())
    return measured


def encode(encoder: Encoder, dev: DevSet) -> tuple[Vectors, Vectors]:
    """Vectors of the queries and of the passages."""
    return encoder.encode_queries(dev.queries), encoder.encode_tokens(encoder.tokenize_passages(dev.passages))


def ndcg(scores: Float32[np.ndarray, "query passage"], grades: Sequence[Mapping[int, int]]) -> Values:
    """nDCG@10 a query, with the grade itself as gain, as trec_eval has it.

    Source: Jarvelin and Kekalainen 2002, Cumulated gain-based evaluation of IR techniques.
    """
    discounts = 1 / np.log2(np.arange(2, _CUTOFF + 2))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_CUTOFF]
    gains = np.array(
        [[max(of_query.get(int(p), 0), 0) for p in row] for row, of_query in zip(best, grades, strict=True)],
        dtype=np.float64,
    )
    ideal = [sorted((grade for grade in of_query.values() if grade > 0), reverse=True)[:_CUTOFF] for of_query in grades]
    values: Values = (gains @ discounts[: gains.shape[1]]) / np.array(
        [np.dot(gain, discounts[: len(gain)]) for gain in ideal]
    )
    return values


def sign_flip_test(differences: Values, *, seed: int) -> float:
    """Two-sided p value of a paired randomisation test: how often do random signs give a mean as far from zero.

    Source: Smucker, Allan and Carterette 2007, A comparison of statistical significance tests for information
        retrieval evaluation.
    """
    if not differences.any():
        return 1.0
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(_RESAMPLES, len(differences)))
    as_far = np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12
    return float((as_far.sum() + 1) / (_RESAMPLES + 1))
