"""Dev nDCG@10 during training, over a part of the corpus that is small enough to encode again and again."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from components.shared.batches import length_sorted_batches
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.records import Annotation
from components.train.config import TrainConfig

_CUTOFF = 10


@dataclass(frozen=True)
class DevSet:
    """Queries, passages and grades to choose weights by; empty where nobody judged a dev query."""

    queries: dict[str, str]
    passages: dict[str, str]
    qrels: dict[str, dict[str, int]]


def dev_set(dataset: Dataset, annotations: Mapping[str, Annotation], config: TrainConfig) -> DevSet:
    """A seeded draw of judged dev queries; passages: their judged ones, then annotated pools, then a seeded draw.

    Where no person judged a dev query, the LLM's labels of dev queries take their place.
    """
    qrels = {
        query_id: grades
        for query_id, grades in dataset.qrels("dev").items()
        if any(grade > 0 for grade in grades.values())
    }
    if not qrels:
        dev_ids = {query.query_id for query in dataset.queries("dev")}
        qrels = {
            i: dict.fromkeys(a.with_label("positive"), 1)
            for i, a in annotations.items()
            if i in dev_ids and "positive" in a.labels
        }
    random_draw = random.Random(config.seed)
    chosen = sorted(random_draw.sample(sorted(qrels), min(config.dev_queries, len(qrels))))
    wanted = dict.fromkeys(p for query_id in chosen for p in qrels[query_id])
    wanted.update(
        dict.fromkeys(_fill(dataset, annotations.values(), random_draw, config.dev_passages - len(wanted), wanted))
    )
    passages = {p: dataset.passage(p).full_text for p in wanted} if chosen else {}
    return DevSet({i: dataset.query(i).text for i in chosen}, passages, {i: qrels[i] for i in chosen})


def _fill(
    dataset: Dataset, annotations: Iterable[Annotation], draw: random.Random, room: int, known: Mapping[str, None]
) -> list[str]:
    if room <= 0:
        return []
    pooled = [p for annotation in annotations for p in annotation.passage_ids if p not in known]
    rows = draw.sample(range(dataset.num_passages), min(room, dataset.num_passages))
    drawn = [
        passage_id for passage_id in (dataset.passage_at(row).passage_id for row in rows) if passage_id not in known
    ]
    # Half of the room for hard passages at most: with nothing else the measure would depend on few queries' pools.
    hard = list(dict.fromkeys(pooled))[: room // 2]
    return list(dict.fromkeys([*hard, *drawn]))[:room]


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
        ndcg([ids[column] for column in its], dev.qrels[query_id])
        for query_id, its in zip(dev.queries, columns, strict=True)
    )
    return sum(gains) / len(dev.queries)


def ndcg(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    """NDCG at the number of ranked passages wanted (10), gain = grade, ideal from the grades.

    Source: trec_eval's ndcg_cut; evaluate uses ir-measures, which this image does not hold.
    """
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:_CUTOFF]
    found = [max(0, grades.get(passage_id, 0)) for passage_id in ranked[:_CUTOFF]]
    return _discounted(found) / _discounted(best)


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _vectors(model: DualEncoder, token_ids: list[list[int]]) -> torch.Tensor:
    vectors = torch.empty(len(token_ids), model.dimension)
    for rows in length_sorted_batches([len(ids) for ids in token_ids], batch_tokens=1024):
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows])).float().cpu()
    return vectors
