"""Makes the teacher of a run: what the untrained encoder says of every query and passage that will be asked about.

This costs one forward pass over these texts, shared by the processes and kept beside the state, so that a job which
continues does not pay for it again.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.shared import log
from components.shared.bm25 import BM25
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.encoding.batches import length_sorted_batches
from components.shared.records import Annotation
from components.train.config import TrainConfig
from components.train.curriculum import Stage
from components.train.labels.dev import DevSet
from components.train.labels.groups import TrainingGroup, share_of, utilities_of
from components.train.labels.teacher import JudgedPool, Teacher, Vectors, Voices, tune
from components.train.loop.processes import Processes

Staged = list[tuple[Stage, list[TrainingGroup]]]

# Passages in which the lowest score of each query is looked for.
_SAMPLE_PASSAGES = 2048
_BATCH_TOKENS = {"cpu": 1024, "cuda": 65_536}
_BLOCK_TEXTS = 2048


@dataclass(frozen=True)
class Taught:
    """The stages with their pools in the teacher's order, the teachers by stage name, and how they were tuned."""

    staged: Staged
    teachers: Mapping[str, Teacher] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


def teach(
    staged: Staged,
    model: DualEncoder,
    dataset: Dataset,
    dev: DevSet,
    annotations: Mapping[str, Annotation],
    *,
    config: TrainConfig,
    known_share: float,
    processes: Processes,
    cache_path: Path | None,
) -> Taught:
    """Teachers for the stages that have one; all others stay as they are.

    Args:
        staged: Stages with their groups.
        model: Untrained.
        dataset: Texts.
        dev: What BM25's share is tuned on; the same in every process.
        annotations: The LLM's verdicts on train queries, by query id.
        config: Precision and seed.
        known_share: Share of the human labels that may tune the LLM's share.
        processes: Who shares the encoding.
        cache_path: Where the first process keeps the vectors; None in all others.
    """
    if not any(stage.uses_teacher for stage, _ in staged):
        return Taught(staged)
    groups = [group for stage, those in staged if stage.uses_teacher for group in those]
    voices = _voices(groups, model, dataset, dev, config=config, processes=processes, cache_path=cache_path)
    scores = {
        query_id: dict(zip(annotation.passage_ids, utilities_of(annotation), strict=True))
        for query_id, annotation in annotations.items()
        if annotation.scores
    }
    pools, dev = _judged_pools(scores, groups, dataset, known_share, config.seed), _judged_by_people(dev, dataset)
    taught, teachers, metrics = [], {}, {}
    for stage, those in staged:
        if stage.uses_teacher:
            tuned = tune(voices, dev, pools, bm25_share=stage.bm25_share, llm_share=stage.llm_share)
            teachers[stage.name] = teacher = Teacher(voices, tuned.shares, scores)
            those, metrics[stage.name] = [teacher.ordered(group) for group in those], asdict(tuned)
        taught.append((stage, those))
    return Taught(taught, teachers, metrics)


def _judged_by_people(dev: DevSet, dataset: Dataset) -> DevSet:
    """The dev set without queries that an LLM wrote: BM25 had to lead each back to its passage, so they favour BM25."""
    return replace(dev, queries={q: text for q, text in dev.queries.items() if q not in dataset.asked_ids})


def _judged_pools(
    scores: Mapping[str, Mapping[str, float]],
    groups: Sequence[TrainingGroup],
    dataset: Dataset,
    known_share: float,
    seed: int,
) -> dict[str, JudgedPool]:
    """The pools that the LLM has scored and of which a known human label says what is best."""
    known = share_of(dataset.human_positives("train"), known_share, seed=seed)
    learnt = {group.query_id: {*group.positives, *group.hard_negatives} for group in groups}
    judged: dict[str, JudgedPool] = {}
    for query_id, passages in scores.items():
        pool = {p: score for p, score in passages.items() if p in learnt.get(query_id, ())}
        grades = dict.fromkeys(set(known.get(query_id, ())).intersection(pool), 1)
        if grades and len(pool) > len(grades):
            judged[query_id] = (pool, grades)
    return judged


def _voices(
    groups: Sequence[TrainingGroup],
    model: DualEncoder,
    dataset: Dataset,
    dev: DevSet,
    *,
    config: TrainConfig,
    processes: Processes,
    cache_path: Path | None,
) -> Voices:
    queries = {group.query_id: dataset.query(group.query_id).text for group in groups} | dev.queries
    rows = random.Random(config.seed).sample(range(dataset.num_passages), min(_SAMPLE_PASSAGES, dataset.num_passages))
    sampled = dict.fromkeys(dataset.passage_id_at(row) for row in sorted(rows))
    asked = dict.fromkeys(p for group in groups for p in (*group.positives, *group.hard_negatives)) | dict.fromkeys(
        dev.passages
    )
    passage_ids = [p for p in asked if p not in sampled] + list(sampled)
    vectors = _kept(cache_path, processes)
    if vectors is None:
        texts = [dataset.passage(passage_id).full_text for passage_id in passage_ids]
        token_ids = model.tokenize_queries(list(queries.values())) + model.tokenize_passages(texts)
        # Not within inference mode: weights that are moved there can never be trained again.
        model.to(processes.device).eval()
        vectors = _encoded(model, token_ids, config=config, processes=processes)
        if cache_path is not None:
            content = io.BytesIO()
            np.save(content, vectors)
            storage.write_bytes(str(cache_path), content.getvalue())
    voices = Voices(
        BM25(dataset),
        dataset,
        queries=queries,
        query_vectors=vectors[: len(queries)],
        passage_ids=passage_ids,
        passage_vectors=vectors[len(queries) :],
        num_sampled=len(sampled),
    )
    for group in groups:
        if pool := (*group.positives, *group.hard_negatives):
            voices.knows_best_of(group.query_id, pool)
    return voices


def _kept(cache_path: Path | None, processes: Processes) -> Vectors | None:
    content = cache_path.read_bytes() if cache_path is not None and cache_path.is_file() else None
    content = processes.from_first(content)
    return None if content is None else np.load(io.BytesIO(content))


@torch.inference_mode()
def _encoded(
    model: DualEncoder, token_ids: Sequence[list[int]], *, config: TrainConfig, processes: Processes
) -> Vectors:
    """Vectors of the untrained encoder, as half floats; each process encodes its part of every block."""
    vectors = np.empty((len(token_ids), model.dimension), dtype=np.float16)
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    with log.Progress("asking the untrained encoder", total=len(order), unit="texts") as bar:
        for start in range(0, len(order), _BLOCK_TEXTS):
            rows = order[start : start + _BLOCK_TEXTS]
            block = torch.zeros(len(rows), model.dimension, device=processes.device)
            own = range(processes.rank, len(rows), processes.count)
            for batch in length_sorted_batches(
                [len(token_ids[rows[place]]) for place in own], batch_tokens=_BATCH_TOKENS[processes.device.type]
            ):
                places = [own[number] for number in batch]
                ids, mask = model.pad([token_ids[rows[place]] for place in places])
                with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=config.precision == "bf16"):
                    encoded = model(ids, mask)
                block[places] = encoded.float()
            processes.sum_up(block)
            vectors[rows] = block.cpu().numpy()
            bar.add(len(rows))
    return vectors
