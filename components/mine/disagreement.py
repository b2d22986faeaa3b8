"""What the base and the fine-tuned encoder say of each query: their scores over the union of their first hits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson
from jaxtyping import Float32

from components.mine.selection import Disagreement, deviation_of, uncertainty_of
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.durable import storage
from components.shared.encoding.encoder import Encoder
from components.shared.index import PassageIndex
from components.shared.manifest import ArtifactWriter
from components.shared.records import Hit, Query

_BLOCK_QUERIES = 256


class Retriever:
    """An encoder and its index, and the scores that they give."""

    def __init__(self, dataset: Dataset, encoder: Encoder, index: PassageIndex) -> None:
        """Takes what was opened."""
        self._dataset, self._encoder, self._index = dataset, encoder, index

    def search(
        self, texts: Sequence[str], depth: int
    ) -> tuple[Float32[np.ndarray, "query dimension"], list[list[Hit]]]:
        """The queries' vectors, and their first hits."""
        vectors = self._encoder.encode_queries(texts)
        return vectors, self._index.search(vectors, depth)

    def scores(
        self,
        vectors: Float32[np.ndarray, "query dimension"],
        hits: Sequence[Sequence[Hit]],
        wanted: Sequence[Sequence[str]],
    ) -> list[Float32[np.ndarray, " passage"]]:
        """The scores of some passages for each query; what its own hits do not hold is encoded, each passage once."""
        known = [{hit.passage_id: hit.score for hit in of_query} for of_query in hits]
        missing = [[p for p in ids if p not in scores] for ids, scores in zip(wanted, known, strict=True)]
        rows = {passage_id: row for row, passage_id in enumerate(dict.fromkeys(p for ids in missing for p in ids))}
        if rows:
            encoded = self._encoder.encode_passages([self._dataset.passage(passage_id) for passage_id in rows])
            for scores, ids, vector in zip(known, missing, vectors, strict=True):
                scores.update({passage_id: float(encoded[rows[passage_id]] @ vector) for passage_id in ids})
        return [
            np.array([scores[passage_id] for passage_id in ids], dtype=np.float32)
            for scores, ids in zip(known, wanted, strict=True)
        ]


def disagreements(
    queries: Sequence[Query], base: Retriever, finetuned: Retriever, *, depth: int, artifact: ArtifactWriter
) -> Mapping[str, Disagreement]:
    """What both encoders say, by query id; each block of queries is a file before the next one begins.

    Args:
        queries: Whose disagreement is wanted.
        base: Before the warm-up.
        finetuned: After it.
        depth: Number of first hits of each, and of differences that count.
        artifact: Whose scratch folder keeps finished blocks.
    """
    said: dict[str, Disagreement] = {}
    with log.Progress("asking both encoders", total=len(queries), unit="queries") as bar:
        for start in range(0, len(queries), _BLOCK_QUERIES):
            block, path = queries[start : start + _BLOCK_QUERIES], artifact.scratch / f"said-{start:09d}.json"
            if not path.is_file():
                rows = [[one.deviation, one.uncertainty] for one in _of_block(block, base, finetuned, depth)]
                storage.write_bytes(str(path), orjson.dumps(rows))
            rows = orjson.loads(path.read_bytes())
            said |= {query.query_id: Disagreement(*row) for query, row in zip(block, rows, strict=True)}
            bar.add(len(block))
    return said


def _of_block(queries: Sequence[Query], base: Retriever, finetuned: Retriever, depth: int) -> Iterator[Disagreement]:
    texts = [query.text for query in queries]
    (vectors, hits), (tuned_vectors, tuned_hits) = (one.search(texts, depth) for one in (base, finetuned))
    union = [
        sorted({hit.passage_id for hit in [*by_base, *by_tuned]})
        for by_base, by_tuned in zip(hits, tuned_hits, strict=True)
    ]
    of_base, of_tuned = base.scores(vectors, hits, union), finetuned.scores(tuned_vectors, tuned_hits, union)
    for scores, tuned in zip(of_base, of_tuned, strict=True):
        yield Disagreement(deviation_of(scores, tuned, depth), uncertainty_of(tuned))
