"""A block of queries -> their pools: both searches, scores for filter and audit, and what makes passages the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from jaxtyping import Float32
from numpy import ndarray

from components.mine.config import MineConfig
from components.mine.pools import Mined, make_pool, same_text
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.encoder import Encoder
from components.shared.index import PassageIndex
from components.shared.records import Hit, Query

# Lexical candidates scored beyond the wanted ones, for the places of those that the margin drops.
_SPARE_CANDIDATES = 10
_CACHED_TEXTS = 65_536


class Miner:
    """Everything that pools are made from, opened once."""

    def __init__(
        self,
        dataset: Dataset,
        bm25: BM25,
        encoder: Encoder,
        index: PassageIndex,
        positives: Mapping[str, Sequence[str]],
        config: MineConfig,
    ) -> None:
        """Takes the opened parts; `positives` are the known ones of all splits."""
        self._dataset, self._bm25, self._encoder, self._index = dataset, bm25, encoder, index
        self._positives, self._config = positives, config
        self._text_of = lru_cache(_CACHED_TEXTS)(lambda passage_id: same_text(dataset.passage(passage_id).full_text))

    def mine(self, queries: Sequence[Query]) -> Iterator[Mined]:
        """A pool for each query, in order."""
        texts = [query.text for query in queries]
        vectors = self._encoder.encode_queries(texts)
        lexical, dense = self._bm25.search(texts, self._config.depth), self._index.search(vectors, self._config.depth)
        scores = self._scores(queries, vectors, lexical, dense)
        for query, its_bm25, its_dense, its_scores in zip(queries, lexical, dense, scores, strict=True):
            yield make_pool(
                query.query_id,
                bm25=its_bm25,
                dense=its_dense,
                positives=self._positives.get(query.query_id, ()),
                config=self._config,
                text_of=self._text_of,
                scores=its_scores,
            )

    def _scores(
        self,
        queries: Sequence[Query],
        vectors: Float32[ndarray, "query dimension"],
        lexical: list[list[Hit]],
        dense: list[list[Hit]],
    ) -> list[dict[str, float]]:
        """Dense scores of the dense hits and the known positives; with a margin of the lexical candidates too.

        What the index did not return is encoded here, each passage once a block.
        """
        scores = [{hit.passage_id: hit.score for hit in its} for its in dense]
        wanted: list[list[str]] = []
        for query, its_lexical, its_scores in zip(queries, lexical, scores, strict=True):
            known = list(self._positives.get(query.query_id, ()))
            num_candidates = (
                self._config.num_bm25 + _SPARE_CANDIDATES if self._config.relative_margin > 0 and known else 0
            )
            candidates = known + [hit.passage_id for hit in its_lexical[:num_candidates]]
            wanted.append([passage_id for passage_id in candidates if passage_id not in its_scores])
        rows = {passage_id: row for row, passage_id in enumerate(dict.fromkeys(p for its in wanted for p in its))}
        if rows:
            encoded = self._encoder.encode_passages([self._dataset.passage(passage_id) for passage_id in rows])
            for its_scores, its_wanted, vector in zip(scores, wanted, vectors, strict=True):
                its_scores.update({passage_id: float(encoded[rows[passage_id]] @ vector) for passage_id in its_wanted})
        return scores
