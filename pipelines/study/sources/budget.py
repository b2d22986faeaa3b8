"""A budget of labels spent at random, by uncertainty or by deviation: from a warm-up on, at the same cost in tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch

from components.mine.selection import SELECTORS, TAKEN, Disagreement, deviation_of, in_order, uncertainty_of
from components.shared import checkpoint
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.encoding.batches import length_sorted_batches
from components.shared.records import Annotation, Query
from pipelines.study.measuring import TestSet
from pipelines.study.sources.config import SourcesConfig
from pipelines.study.sources.labelling import Pools, by_people, by_simulated_llm
from pipelines.study.sources.training import UNTRAINED, Cell, fit, make_backbone, make_dataset, make_pools, stage

ARMS = ("random", "uncertainty", "deviation")
LABELS = ("people", "LLM")
# First hits of each encoder that are compared; mine's default.
_DEPTH, _NEAR_DUPLICATE = 20, 0.8


def name_of(arm: str, labels: str, budget: int) -> str:
    """What a cell is called."""
    return f"{labels}, {budget}, {arm}"


@dataclass(frozen=True)
class _Collection:
    dataset: Dataset
    queries: Sequence[Query]
    pools: Pools
    tokens: dict[str, int]
    searched: Sequence[str]


class BudgetStudy:
    """The materials of the study, and its cells."""

    def __init__(self, config: SourcesConfig) -> None:
        """Makes the datasets, the base encoder and the pools."""
        self._config = config
        names = (*config.budget_collections, config.other_collection)
        datasets = {name: make_dataset(config, config.data / name) for name in names}
        self._base = checkpoint.load(str(make_backbone(config)))
        self.tests = {name: TestSet(dataset, config.num_test_passages) for name, dataset in datasets.items()}
        self._collections = {name: self._collection(datasets[name]) for name in config.budget_collections}
        # A warm-up serves every budget of its seed.
        self._said = lru_cache(maxsize=4)(self._disagreements)

    def cells(self) -> list[Cell]:
        """The untrained encoder, then with people's labels and with the LLM's, seed after seed, all arms."""
        planned = [Cell(UNTRAINED, "", 0, lambda: {"values": self._measure(self._base)})]
        for labels in LABELS:
            for seed in range(1, self._config.num_seeds + 1):
                for collection in self._collections:
                    planned += [
                        Cell(
                            name_of(arm, labels, budget),
                            collection,
                            seed,
                            partial(self._spend, collection, labels, arm, budget, seed),
                        )
                        for budget in self._config.budgets
                        for arm in ARMS
                    ]
        return planned

    def _spend(self, collection: str, labels: str, arm: str, budget: int, seed: int) -> dict[str, Any]:
        """Selects, has the selection labelled, trains and measures."""
        chosen, tokens = self._selected(collection, labels, arm, budget, seed)
        annotations = [one for one in self._labelled(collection, labels, seed) if one.query_id in chosen]
        model, metrics = self._fit(collection, annotations, seed)
        return {
            "values": self._measure(model),
            "num_queries": len(chosen),
            "tokens": tokens,
            "num_positives": sum(len(one.with_label("positive")) for one in annotations),
            "num_steps": metrics["num_steps"],
        }

    def _selected(self, collection: str, labels: str, arm: str, budget: int, seed: int) -> tuple[frozenset[str], int]:
        """As many queries of the arm's order as the tokens of the random arm's first ones pay for."""
        material = self._collections[collection]
        by_chance = self._order(collection, labels, "random", seed)[:budget]
        left = paid = sum(material.tokens[query_id] for query_id in by_chance)
        chosen = []
        for query_id in self._order(collection, labels, arm, seed):
            if material.tokens[query_id] > left:
                break
            left -= material.tokens[query_id]
            chosen.append(query_id)
        return frozenset(chosen), paid - left

    def _order(self, collection: str, labels: str, arm: str, seed: int) -> list[str]:
        said = self._said(collection, labels, seed) if SELECTORS[arm].needs_finetuned else {}
        candidates = in_order(
            self._collections[collection].queries,
            SELECTORS[arm],
            said,
            num_warmup=self._config.warmup_queries,
            near_duplicate=_NEAR_DUPLICATE,
            seed=seed,
        )
        return [candidate.query_id for candidate in candidates if candidate.outcome in TAKEN]

    def _labelled(self, collection: str, labels: str, seed: int) -> list[Annotation]:
        material, config = self._collections[collection], self._config
        grades = material.dataset.qrels("train")
        if labels == "people":
            return by_people(material.pools, grades)
        return by_simulated_llm(material.pools, grades, precision=config.precision, recall=config.recall, seed=seed)

    def _fit(self, collection: str, annotations: Sequence[Annotation], seed: int) -> tuple[DualEncoder, dict[str, Any]]:
        stages, dataset = [stage(self._config, "llm")], self._collections[collection].dataset
        # What people said of the queries beyond the budget is nobody's knowledge.
        return fit(self._config, dataset, annotations, stages, seed=seed, denominators="own_labels")

    def _disagreements(self, collection: str, labels: str, seed: int) -> dict[str, Disagreement]:
        """What the base and the encoder of the warm-up say of every candidate."""
        material = self._collections[collection]
        first = set(self._order(collection, labels, "random", seed)[: self._config.warmup_queries])
        annotations = [one for one in self._labelled(collection, labels, seed) if one.query_id in first]
        tuned, _ = self._fit(collection, annotations, seed)
        texts = [material.dataset.passage(passage_id).full_text for passage_id in material.searched]
        before, after = (_scores(model, material.queries, texts) for model in (self._base, tuned))
        said = {}
        for row, query in enumerate(material.queries):
            hits = (scores[row].topk(_DEPTH).indices.tolist() for scores in (before, after))
            union = sorted({place for of_model in hits for place in of_model})
            pair = (before[row][union].numpy(), after[row][union].numpy())
            said[query.query_id] = Disagreement(deviation_of(*pair, _DEPTH), uncertainty_of(pair[1]))
        return said

    def _measure(self, model: DualEncoder) -> dict[str, dict[str, float]]:
        return {name: tests.measure(model) for name, tests in self.tests.items()}

    def _collection(self, dataset: Dataset) -> _Collection:
        config, draw = self._config, random.Random(self._config.data_seed)
        able = sorted(dataset.positives("train"))
        chosen = sorted(draw.sample(able, min(config.num_candidates, len(able))))
        pools = make_pools(dataset, chosen, num_hits=config.pool_passages)
        passages = sorted({passage_id for pool in pools.values() for passage_id in pool})
        texts = [dataset.passage(passage_id).full_text for passage_id in passages]
        # What the annotator reads, not what the encoder is cut to.
        lengths = dict(zip(passages, map(len, self._base.tokenize_passages(texts, max_tokens=512)), strict=True))
        tokens = {query_id: sum(lengths[p] for p in pool) for query_id, pool in pools.items()}
        searched = sorted(draw.sample(passages, min(config.num_searched, len(passages))))
        return _Collection(dataset, [dataset.query(query_id) for query_id in chosen], pools, tokens, searched)


@torch.inference_mode()
def _scores(model: DualEncoder, queries: Sequence[Query], texts: Sequence[str]) -> torch.Tensor:
    model.eval()
    asked, read = (
        _vectors(model, token_ids)
        for token_ids in (model.tokenize_queries([query.text for query in queries]), model.tokenize_passages(texts))
    )
    return asked @ read.T


def _vectors(model: DualEncoder, token_ids: Sequence[list[int]]) -> torch.Tensor:
    vectors = torch.empty(len(token_ids), model.dimension)
    for rows in length_sorted_batches([len(ids) for ids in token_ids], batch_tokens=1024):
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows]))
    return vectors
