"""A block of queries -> their pools: both searches, scores for filter and audit, and what makes passages the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial

from jaxtyping import Float32
from numpy import ndarray

from components.mine.config import MineConfig
from components.mine.pools import ASKED, HUMAN, Mined, make_pool
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder
from components.shared.index import PassageIndex
from components.shared.own_passage import is_own_passage, same_text
from components.shared.records import Hit, Pool, Query

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
        for query, by_words, by_vector, scored in zip(queries, lexical, dense, scores, strict=True):
            yield make_pool(
                query.query_id,
                bm25=by_words,
                dense=by_vector,
                positives=self._positives.get(query.query_id, ()),
                config=self._config,
                text_of=self._text_of,
                scores=scored,
                is_own=partial(self._is_own, query, same_text(query.text)),
                known_as=ASKED if query.query_id in self._dataset.asked_ids else HUMAN,
            )

    def num_tokens(self, query: Query, pool: Pool) -> int:
        """Tokens of a query and its pool, as the encoder splits them, with nothing cut."""
        passages = [self._dataset.passage(passage_id).full_text for passage_id in pool.passage_ids]
        token_ids = self._encoder.tokenize_queries([query.text], truncate=False)
        token_ids += self._encoder.tokenize_passages(passages, truncate=False)
        return sum(map(len, token_ids))

    def _is_own(self, query: Query, asked: str, passage_id: str) -> bool:
        # The cached text says of almost every passage that it is another one.
        return asked in self._text_of(passage_id) and is_own_passage(query, self._dataset.passage(passage_id))

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
        scores = [{hit.passage_id: hit.score for hit in hits} for hits in dense]
        wanted: list[list[str]] = []
        for query, by_words, scored in zip(queries, lexical, scores, strict=True):
            known = list(self._positives.get(query.query_id, ()))
            num_candidates = (
                self._config.num_bm25 + _SPARE_CANDIDATES if self._config.relative_margin > 0 and known else 0
            )
            candidates = known + [hit.passage_id for hit in by_words[:num_candidates]]
            wanted.append([passage_id for passage_id in candidates if passage_id not in scored])
        distinct = dict.fromkeys(passage_id for passage_ids in wanted for passage_id in passage_ids)
        rows = {passage_id: row for row, passage_id in enumerate(distinct)}
        if rows:
            encoded = self._encoder.encode_passages([self._dataset.passage(passage_id) for passage_id in rows])
            for scored, passage_ids, vector in zip(scores, wanted, vectors, strict=True):
                scored.update({passage_id: float(encoded[rows[passage_id]] @ vector) for passage_id in passage_ids})
        return scores
