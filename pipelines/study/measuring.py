"""nDCG@10 of a retriever on the test queries of a small collection, over a part of its passages.

The part holds what people judged for the test queries, also as not useful, and then BM25's first hits for them: so it
is small and still hard, and it is the same for every condition. Figures over it stand beside each other only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import numpy as np
import torch
from ir_measures import nDCG
from jaxtyping import Float

from components.evaluate.judgements import find_judgements
from components.evaluate.measures import per_query
from components.evaluate.runs import strictly_decreasing
from components.shared.bm25 import BM25
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.encoding.batches import length_sorted_batches
from components.shared.records import Hit

_CUTOFF, _DEPTH = 10, 100


@dataclass
class TestSet:
    """The test split of a dataset, tokenised once for all cells: every model of the study has the same tokenizer."""

    __test__ = False

    dataset: Dataset
    num_passages: int
    grades: Mapping[str, Mapping[str, int]] = field(init=False)
    passage_ids: list[str] = field(init=False)
    _bm25: BM25 = field(init=False)
    _tokens: tuple[list[list[int]], list[list[int]]] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        judgements = find_judgements(self.dataset, split="test", annotation_folders=[], min_grade=1)
        useless = set(judgements.without_relevant(min_grade=1))
        self.grades = {query_id: judged for query_id, judged in judgements.grades.items() if query_id not in useless}
        self._bm25 = BM25(self.dataset)
        judged = dict.fromkeys(p for grades in self.grades.values() for p in grades)
        rankings = ([hit.passage_id for hit in hits] for hits in self._bm25.search(self._queries, _DEPTH))
        by_rank = (p for p in chain.from_iterable(zip_longest(*rankings)) if p is not None)
        self.passage_ids = list(dict.fromkeys([*judged, *by_rank]))[: max(self.num_passages, len(judged))]

    @property
    def _queries(self) -> list[str]:
        return [self.dataset.query(query_id).text for query_id in self.grades]

    def measure_bm25(self) -> dict[str, float]:
        """nDCG@10 of BM25 by query id."""
        rows = np.array([self.dataset.row(passage_id) for passage_id in self.passage_ids], dtype=np.int64)
        scores = self._bm25.scores_of(self._queries, [rows] * len(self.grades))
        return self._measure(torch.from_numpy(np.stack(scores)))

    @torch.inference_mode()
    def measure(self, model: DualEncoder) -> dict[str, float]:
        """nDCG@10 of exact search by query id."""
        model.eval()
        if self._tokens is None:
            passages = [self.dataset.passage(passage_id).full_text for passage_id in self.passage_ids]
            self._tokens = (model.tokenize_queries(self._queries), model.tokenize_passages(passages))
        queries, passages_vectors = (_vectors(model, tokens) for tokens in self._tokens)
        return self._measure(queries @ passages_vectors.T)

    def _measure(self, scores: Float[torch.Tensor, "query passage"]) -> dict[str, float]:
        best, rows = scores.topk(min(_CUTOFF, len(self.passage_ids)))
        hits = [
            [Hit(self.passage_ids[row], score) for row, score in zip(*pair, strict=True)]
            for pair in zip(rows.tolist(), best.tolist(), strict=True)
        ]
        runs = {query_id: strictly_decreasing(ranking) for query_id, ranking in zip(self.grades, hits, strict=True)}
        values = per_query(runs, grades=self.grades, measures=[nDCG @ _CUTOFF])[:, 0]
        return dict(zip(self.grades, values.tolist(), strict=True))


def _vectors(model: DualEncoder, token_ids: Sequence[list[int]]) -> torch.Tensor:
    vectors = torch.empty(len(token_ids), model.dimension)
    for rows in length_sorted_batches([len(ids) for ids in token_ids], batch_tokens=1024):
        vectors[rows] = model(*model.pad([token_ids[row] for row in rows]))
    return vectors
