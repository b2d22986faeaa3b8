"""FaissIndex: FAISS file + passage ids, bound to the encoder that made it.

FAISS loads a damaged file without a word, so size and digest of the file are checked by the artifact's manifest; the
binding to the encoder is checked by `open_index`, whenever an index meets an encoder.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int64

from components.shared import log
from components.shared.index.passage_ids import PassageIds
from components.shared.index.settings import IndexSettings, write_settings
from components.shared.index.structure import (
    INDEX_NAME,
    add,
    clear_padding,
    emptied,
    first_line,
    is_mergeable,
    kept,
    merge,
    part_of,
    trained,
    write,
)
from components.shared.index.vectors import Vectors
from components.shared.records import Hit


class FaissIndex:
    """A FaissIndex in the memory of this process; row i of FAISS is passage_ids[i]."""

    def __init__(self, index: faiss.Index, passage_ids: PassageIds, settings: IndexSettings) -> None:
        """Takes the parts; `build` and `open` make them."""
        if index.ntotal != len(passage_ids) or index.ntotal != settings.num_passages or index.d != settings.dimension:
            held = f"{index.ntotal} vectors of {index.d} dimensions for {len(passage_ids)} passage ids"
            raise ValueError(f"index holds {held}, its settings say {settings}; build it again")
        self._index, self._passage_ids, self.settings = index, passage_ids, settings
        self._direct_map_lock = threading.Lock()
        if settings.search_parameters:
            self.set_search_parameters(settings.search_parameters)

    @classmethod
    def build(
        cls,
        blocks: Iterable[Vectors],
        passage_ids: Iterable[str],
        *,
        sample: Vectors,
        settings: IndexSettings,
    ) -> FaissIndex:
        """Trains on the sample and adds the blocks in order; on a GPU where faiss-gpu finds one.

        Raises:
            ValueError: Where the factory string or the search parameters are not FAISS's.
        """
        index = trained(settings.factory, settings.dimension, sample)
        for block in blocks:
            index.add(np.ascontiguousarray(block, dtype=np.float32))
        return cls(index, PassageIds.of(passage_ids), settings)

    @classmethod
    def assemble(
        cls,
        parts: Sequence[Sequence[Path]],
        passage_ids: Iterable[str],
        *,
        sample: Vectors,
        settings: IndexSettings,
        scratch: Path,
        like: Path | None = None,
    ) -> FaissIndex:
        """As `build`, from vectors on disk and resumable: the trained index and each finished part lie in `scratch`.

        A part is a list of .npy shards. `like` is the folder of an index whose training is taken over.
        Parts of an index that FAISS cannot merge (HNSW) are added again from the first.

        Raises:
            ValueError: Where the factory string or the search parameters are not FAISS's.
        """
        empty = scratch / "trained.faiss"
        index = kept(empty, lambda: emptied(like) if like else trained(settings.factory, settings.dimension, sample))
        for number, paths in enumerate(parts):
            if len(parts) == 1 or not is_mergeable(index):
                add(index, paths)
                continue
            merge(index, kept(scratch / f"part-{number:06d}.faiss", functools.partial(part_of, empty, paths)))
            log.event("part of the index added", part=number + 1, parts=len(parts), passages=index.ntotal)
        clear_padding(index)
        return cls(index, PassageIds.of(passage_ids), settings)

    @classmethod
    def read(cls, folder: Path, settings: IndexSettings) -> FaissIndex:
        """Loads the index of a folder with its settings: see `open_index`.

        Raises:
            ValueError: Where FAISS cannot read it.
        """
        try:
            index = faiss.read_index(str(folder / INDEX_NAME), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ValueError(
                f"{folder / INDEX_NAME}: FAISS cannot read it ({first_line(error)}); build it again"
            ) from error
        return cls(index, PassageIds.read(folder), settings)

    def save(self, folder: Path) -> None:
        """Writes the three files into an existing folder."""
        write(self._index, folder / INDEX_NAME)
        self._passage_ids.write(folder)
        write_settings(folder, self.settings)

    def set_search_parameters(self, search_parameters: str) -> None:
        """Changes how deep the index searches.

        Raises:
            ValueError: Where the text is not a list of FAISS's parameters for this index.
        """
        # FAISS's stubs know one overload only.
        parameters: Any = search_parameters
        try:
            faiss.ParameterSpace().set_index_parameters(self._index, parameters)
        except RuntimeError as error:
            raise ValueError(
                f"search parameters {search_parameters!r}: FAISS refuses them ({first_line(error)})"
            ) from error
        self.settings = replace(self.settings, search_parameters=search_parameters)

    def structure(self) -> dict[str, int]:
        """What can be searched more or less deeply, with its largest value, and the bytes of a list's codes."""
        base = faiss.downcast_index(self._index)
        structure: dict[str, int] = {}
        if isinstance(base, faiss.IndexRefine):
            structure["k_factor_rf"] = self.num_passages
            base = faiss.downcast_index(base.base_index)
        if isinstance(base, faiss.IndexIVF):
            structure |= {"nprobe": base.nlist, "code_bytes": base.code_size}
        if isinstance(base, faiss.IndexHNSW):
            structure["efSearch"] = self.num_passages
        return structure

    def keeps_vectors(self) -> bool:
        """True where the vectors that were added can be had back bit by bit."""
        index = faiss.downcast_index(self._index)
        if isinstance(index, faiss.IndexRefine):
            index = faiss.downcast_index(index.refine_index)
        return isinstance(index, faiss.IndexFlat | faiss.IndexHNSWFlat | faiss.IndexIVFFlat)

    def vectors_of(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dimension"]:
        """The vectors of rows as the index keeps them: see `keeps_vectors`."""
        return self._reconstructed(rows)

    @property
    def num_passages(self) -> int:
        """Passages in the index."""
        return self.settings.num_passages

    def search(self, queries: Vectors, depth: int) -> list[list[Hit]]:
        """The best `depth` passages of each query, best first; equal scores in passage-id order."""
        scores, rows = self.search_rows(queries, depth)
        return [self.hits(its_scores, its_rows) for its_scores, its_rows in zip(scores, rows, strict=True)]

    def search_rows(
        self, queries: Vectors, depth: int
    ) -> tuple[Float32[np.ndarray, "query depth"], Int64[np.ndarray, "query depth"]]:
        """Scores and rows, best first; row -1 where FAISS found fewer."""
        scores, rows = self._index.search(np.ascontiguousarray(queries), min(depth, self.num_passages))
        return scores, rows

    def rows_of(self, passage_ids: Sequence[str]) -> Int64[np.ndarray, " found"]:
        """Rows of those passage ids that the index holds, ascending; one pass over all ids, 30 ms a million."""
        return self._passage_ids.rows_of(passage_ids)

    def search_among(self, queries: Vectors, rows: Int64[np.ndarray, " row"], depth: int) -> list[list[Hit]]:
        """The best `depth` of the given rows, best first; every row is scored, whatever nprobe or efSearch is."""
        return self._passage_ids.best_among(queries, rows, self._reconstructed(rows), depth)

    def _reconstructed(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dimension"]:
        ivf = faiss.try_extract_index_ivf(self._index)
        if ivf is not None and not isinstance(self._index, faiss.IndexRefine):
            # Where each row lies in the lists, 8 bytes a row: made by the first call, a look afterwards.
            with self._direct_map_lock:
                ivf.make_direct_map()
        vectors: Float32[np.ndarray, "row dimension"] = self._index.reconstruct_batch(rows)
        return vectors

    def holds(self, passage_ids: pa.Array) -> bool:
        """True where these are the passage ids of the rows, in order."""
        return self._passage_ids.equal(passage_ids)

    def hits(self, scores: Float[np.ndarray, " depth"], rows: Int64[np.ndarray, " depth"]) -> list[Hit]:
        """Scores and rows as hits, best first; equal scores in passage-id order, row -1 left out."""
        return self._passage_ids.hits(scores, rows)
