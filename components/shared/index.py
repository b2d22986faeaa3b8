"""PassageIndex: FAISS file + passage ids, bound to the encoder that made it.

FAISS loads a damaged file without a word, so size and digest of the file are checked by the artifact's manifest; the binding
to the encoder is checked here, whenever an index meets an encoder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from components.shared import log
from components.shared.records import Hit

INDEX_NAME, IDS_NAME, SETTINGS_NAME = "index.faiss", "passage_ids.arrow", "index.json"
_SCHEMA = pa.schema([("passage_id", pa.string())])

# Any number of rows: blocks, sample and queries of one call differ in it.
Vectors = Float32[np.ndarray, "_ dimension"]


@dataclass(frozen=True)
class IndexSettings:
    """What an index says of itself; scores are inner products."""

    encoder_digest: str
    dimension: int
    factory: str
    search_parameters: str
    num_passages: int


class PassageIndex:
    """A searchable index; row i of FAISS is passage_ids[i]."""

    def __init__(self, index: faiss.Index, passage_ids: pa.ChunkedArray, settings: IndexSettings) -> None:
        """Takes the parts; `build` and `open` make them."""
        if index.ntotal != len(passage_ids) or index.ntotal != settings.num_passages or index.d != settings.dimension:
            held = f"{index.ntotal} vectors of {index.d} dimensions for {len(passage_ids)} passage ids"
            raise ValueError(f"index holds {held}, its settings say {settings}; build it again")
        self._index, self._passage_ids, self.settings = index, passage_ids, settings
        self._direct_map_lock = threading.Lock()
        if settings.search_parameters:
            # FAISS's stubs know one overload only.
            parameters: Any = settings.search_parameters
            faiss.ParameterSpace().set_index_parameters(index, parameters)

    @classmethod
    def build(
        cls,
        blocks: Iterable[Vectors],
        passage_ids: Iterable[str],
        *,
        sample: Vectors,
        settings: IndexSettings,
    ) -> PassageIndex:
        """Trains on the sample and adds the blocks in order; on a GPU where faiss-gpu finds one.

        Raises:
            ValueError: Where the factory string or the search parameters are not FAISS's.
        """
        try:
            index = faiss.index_factory(settings.dimension, settings.factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ValueError(
                f"factory {settings.factory!r}: FAISS refuses it ({_first_line(error)}); see the FAISS index factory's documentation"
            ) from error
        if not index.is_trained:
            _train(index, sample, settings.factory)
        for block in blocks:
            index.add(np.ascontiguousarray(block))
        ids = pa.chunked_array([pa.array(list(passage_ids), type=pa.string())])
        try:
            return cls(index, ids, settings)
        except RuntimeError as error:
            raise ValueError(f"search parameters {settings.search_parameters!r}: FAISS refuses them ({_first_line(error)})") from error

    @classmethod
    def open(cls, folder: Path, *, encoder_digest: str) -> PassageIndex:
        """Loads an index for the encoder with this digest.

        Raises:
            ValueError: Where another encoder made the index, or the folder is not an index.
        """
        try:
            settings = IndexSettings(**orjson.loads((folder / SETTINGS_NAME).read_bytes()))
        except (FileNotFoundError, TypeError, orjson.JSONDecodeError) as error:
            raise ValueError(f"{folder / SETTINGS_NAME}: not the settings of an index ({error}); build it again") from error
        if settings.encoder_digest != encoder_digest:
            raise ValueError(
                f"{folder}: made by encoder {settings.encoder_digest[:12]}, asked to serve encoder {encoder_digest[:12]}; "
                "their vectors do not mix: use the encoder that made it, or build the index again"
            )
        index = faiss.read_index(str(folder / INDEX_NAME), faiss.IO_FLAG_MMAP_IFC)
        ids = pa.ipc.open_file(pa.memory_map(str(folder / IDS_NAME))).read_all().column("passage_id")
        return cls(index, ids, settings)

    def save(self, folder: Path) -> None:
        """Writes the three files into an existing folder."""
        faiss.write_index(self._index, str(folder / INDEX_NAME))
        with pa.OSFile(str(folder / IDS_NAME), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_table(pa.table([self._passage_ids], schema=_SCHEMA))
        (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(self.settings), option=orjson.OPT_INDENT_2))

    @property
    def num_passages(self) -> int:
        """Passages in the index."""
        return self.settings.num_passages

    def search(self, queries: Vectors, depth: int) -> list[list[Hit]]:
        """The best `depth` passages of each query, best first; equal scores in passage-id order."""
        scores, rows = self.search_rows(queries, depth)
        return [self._hits(its_scores, its_rows) for its_scores, its_rows in zip(scores, rows, strict=True)]

    def search_rows(self, queries: Vectors, depth: int) -> tuple[Float32[np.ndarray, "query depth"], Int64[np.ndarray, "query depth"]]:
        """Scores and rows, best first; row -1 where FAISS found fewer."""
        scores, rows = self._index.search(np.ascontiguousarray(queries), min(depth, self.num_passages))
        return scores, rows

    def rows_of(self, passage_ids: Sequence[str]) -> Int64[np.ndarray, " found"]:
        """Rows of those passage ids that the index holds, ascending; one pass over all ids, 30 ms a million."""
        is_wanted = pc.is_in(self._passage_ids, value_set=pa.array(passage_ids, type=pa.string()))
        return np.flatnonzero(is_wanted.to_numpy()).astype(np.int64)

    def search_among(self, queries: Vectors, rows: Int64[np.ndarray, " row"], depth: int) -> list[list[Hit]]:
        """The best `depth` of the given rows, best first; every row is scored, so a narrow choice loses nothing to nprobe or efSearch."""
        vectors = self._reconstructed(rows)
        scores = queries @ vectors.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return [self._hits(its_scores[its_best], rows[its_best]) for its_scores, its_best in zip(scores, best, strict=True)]

    def _reconstructed(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dimension"]:
        ivf = faiss.try_extract_index_ivf(self._index)
        if ivf is not None and not isinstance(self._index, faiss.IndexRefine):
            # Where each row lies in the lists, 8 bytes a row: made by the first call, a look afterwards.
            with self._direct_map_lock:
                ivf.make_direct_map()
        vectors: Float32[np.ndarray, "row dimension"] = self._index.reconstruct_batch(rows)
        return vectors

    def _hits(self, scores: Float32[np.ndarray, " depth"], rows: Int64[np.ndarray, " depth"]) -> list[Hit]:
        found = rows >= 0
        # One gather instead of a look-up for each hit: 0.5 instead of 8 ms for 1,000 hits.
        passage_ids = self._passage_ids.take(pa.array(rows[found])).to_pylist()
        hits = [Hit(passage_id, score) for passage_id, score in zip(passage_ids, scores[found].tolist(), strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.passage_id))


def exact_rows(blocks: Iterable[Vectors], queries: Vectors, depth: int) -> Int64[np.ndarray, "query depth"]:
    """Rows of the exact best `depth`, a block of vectors in memory at a time."""
    heap = faiss.ResultHeap(len(queries), depth, keep_max=True)
    first = 0
    for block in blocks:
        scores, rows = faiss.knn(queries, np.ascontiguousarray(block), min(depth, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(scores, rows + first)
        first += len(block)
    heap.finalize()
    found: Int64[np.ndarray, "query depth"] = heap.I
    return found


def recall(found: Int64[np.ndarray, "query depth"], exact: Int64[np.ndarray, "query depth"]) -> float:
    """Share of the exact rows that were found, averaged over queries."""
    shares = [
        len(set(a[a >= 0].tolist()) & set(b[b >= 0].tolist())) / max(1, int((b >= 0).sum())) for a, b in zip(found, exact, strict=True)
    ]
    return float(np.mean(shares))


def set_threads(num_threads: int) -> None:
    """Threads that FAISS uses in this process."""
    faiss.omp_set_num_threads(num_threads)


def _train(index: faiss.Index, sample: Vectors, factory: str) -> None:
    try:
        if getattr(faiss, "get_num_gpus", lambda: 0)() > 0:
            ivf = faiss.try_extract_index_ivf(index)
            if ivf is not None:
                # k-means is nearly all of the training time; the index itself stays on the CPU, where it will be searched.
                ivf.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(ivf.d))
        log.event("training the index", factory=factory, vectors=len(sample))
        index.train(np.ascontiguousarray(sample))
    except RuntimeError as error:
        raise ValueError(
            f"factory {factory!r}: FAISS cannot be trained on {len(sample)} vectors ({_first_line(error)}); use fewer clusters or Flat"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200]


def iter_blocks(paths: Sequence[Path]) -> Iterator[Vectors]:
    """Vectors of .npy shards, memory-mapped, in the order given."""
    for path in paths:
        yield np.load(path, mmap_mode="r")
