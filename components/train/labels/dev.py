"""Dev nDCG@10 during training, over a part of the corpus that is small enough to encode again and again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.encoding.batches import length_sorted_batches
from components.shared.records import Annotation
from components.train.config import TrainConfig
from components.train.labels.distractors import hardest_passages
from components.train.labels.groups import share_of

_CUTOFF = 10
# Measured over 21 encoders (the layers of MiniLM, with noise), 50 of 162 dev queries, 400 of 1,100 passages of a part
# of SciFact, 8 seeds: dev nDCG@10 is 0.034 above that of the test over all passages, with a random draw alone 0.050,
# and Kendall's tau between the two orders of the encoders is 0.895 against 0.881. It takes about a second. Of the room
# beside the judged passages; the rest is a random draw, so that other failures of an encoder are seen too.
_HARD_SHARE = 0.75


@dataclass(frozen=True)
class DevSet:
    """Queries, passages and grades to choose weights by; empty where there is no label to choose by.

    `num_human_labels`: grades above 0 in it that people gave; 0 where the LLM's labels take their place.
    """

    queries: dict[str, str]
    passages: dict[str, str]
    qrels: dict[str, dict[str, int]]
    num_human_labels: int = 0


def dev_set(
    dataset: Dataset, annotations: Mapping[str, Annotation], config: TrainConfig, *, human_share: float = 1.0
) -> DevSet:
    """A seeded draw of dev queries with a positive, and passages to tell it from.

    The passages are those judged for the queries; the pools of these queries, where they were annotated; then those
    that BM25 ranks first for them, up to three quarters of the room that is left; then a seeded draw of the corpus.

    Args:
        dataset: Queries, grades and passages.
        annotations: The LLM's verdicts by query id, of all splits.
        config: Sizes and seed.
        human_share: Share of the judged dev queries whose labels may be known, nested as the human share of a stage;
            where it leaves none, the LLM's labels of dev queries choose.
    """
    judged = share_of(dataset.positives("dev"), human_share, seed=config.seed, asked=dataset.asked_ids)
    qrels = {query_id: dataset.qrels("dev")[query_id] for query_id in judged}
    if not qrels:
        dev_ids = {query.query_id for query in dataset.queries("dev")}
        qrels = {
            query_id: dict.fromkeys(annotation.with_label("positive"), 1)
            for query_id, annotation in annotations.items()
            if query_id in dev_ids and "positive" in annotation.labels
        }
    draw = random.Random(config.seed)
    chosen = sorted(draw.sample(sorted(qrels), min(config.dev_queries, len(qrels))))
    if not chosen:
        return DevSet({}, {}, {})
    queries = {query_id: dataset.query(query_id).text for query_id in chosen}
    wanted = dict.fromkeys(p for query_id in chosen for p in qrels[query_id])
    pooled = [p for query_id in chosen if query_id in annotations for p in annotations[query_id].passage_ids]
    wanted |= dict.fromkeys(_distractors(dataset, list(queries.values()), pooled, wanted, draw, config))
    by_people = [query_id for query_id in chosen if judged and query_id not in dataset.asked_ids]
    num_human = sum(grade > 0 for query_id in by_people for grade in qrels[query_id].values())
    return DevSet(queries, {p: dataset.passage(p).full_text for p in wanted}, {i: qrels[i] for i in chosen}, num_human)


def _distractors(
    dataset: Dataset,
    queries: Sequence[str],
    pooled: Sequence[str],
    known: Mapping[str, None],
    draw: random.Random,
    config: TrainConfig,
) -> list[str]:
    """Passages beside the judged ones, as many as the config's number leaves room for."""
    room = min(config.dev_passages, dataset.num_passages) - len(known)
    if room <= 0:
        return []
    num_hard = round(_HARD_SHARE * room)
    # A query's judged passages are among its own hits, so a few more are looked for than there is room for.
    depth = 10 + -(-2 * num_hard // len(queries))
    hits = hardest_passages(dataset, queries, depth=depth, seed=config.seed)
    hard = [p for p in dict.fromkeys([*pooled, *hits]) if p not in known][:num_hard]
    rows = draw.sample(range(dataset.num_passages), min(room + len(known), dataset.num_passages))
    drawn = (dataset.passage_id_at(row) for row in rows)
    return list(dict.fromkeys([*hard, *(p for p in drawn if p not in known)]))[:room]


@torch.inference_mode()
def measure_dev(model: DualEncoder, dev: DevSet) -> float:
    """nDCG@10 of the model on the dev set; the training mode of the model is restored."""
    training = model.training
    model.eval()
    queries = _vectors(model, model.tokenize_queries(list(dev.queries.values())))
    passages = _vectors(model, model.tokenize_passages(list(dev.passages.values())))
    columns = (queries @ passages.T).topk(min(_CUTOFF, len(dev.passages))).indices.tolist()
    model.train(training)
    ids = list(dev.passages)
    gains = (
        ndcg([ids[column] for column in ranked], dev.qrels[query_id])
        for query_id, ranked in zip(dev.queries, columns, strict=True)
    )
    return sum(gains) / len(dev.queries)


def ndcg(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    """NDCG at the number of ranked passages wanted (10), gain = grade, ideal from the grades.

    Source: trec_eval's ndcg_cut; evaluate uses ir-measures, which this image does not hold.
    """
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:_CUTOFF]
    ranked_gains = [max(0, grades.get(passage_id, 0)) for passage_id in ranked[:_CUTOFF]]
    return _discounted(ranked_gains) / _discounted(best)


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _vectors(model: DualEncoder, token_ids: list[list[int]]) -> torch.Tensor:
    vectors = torch.empty(len(token_ids), model.dimension)
    for rows in length_sorted_batches([len(ids) for ids in token_ids], batch_tokens=1024):
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows])).float().cpu()
    return vectors
