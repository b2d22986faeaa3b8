"""PassageIndex: FAISS file + passage ids, bound to the encoder that made it.

FAISS loads a damaged file without a word, so size and digest of the file are checked by the artifact's manifest; the
binding to the encoder is checked here, whenever an index meets an encoder.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Float64, Int64

from components.shared import log
from components.shared.records import Hit

INDEX_NAME, IDS_NAME, SETTINGS_NAME = "index.faiss", "passage_ids.arrow", "index.json"
_SCHEMA = pa.schema([("passage_id", pa.string())])
_IDS_A_BATCH, _WRITE_BYTES = 65_536, 1 << 20
# A factory string is looked at before the encoder's dimension is known: this one is divisible by every usual number of PQ codes.
_DIVISIBLE_DIMENSION = 3072

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
    vector_dtype: str = "float32"
    variant: str = "fp32"


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
            self.set_search_parameters(settings.search_parameters)

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
        index = trained(settings.factory, settings.dimension, sample)
        for block in blocks:
            index.add(np.ascontiguousarray(block, dtype=np.float32))
        return cls(index, _id_column(passage_ids), settings)

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
    ) -> PassageIndex:
        """As `build`, from vectors on disk and resumable: the trained index and each finished part lie in `scratch`.

        A part is a list of .npy shards. `like` is the folder of an index whose training is taken over.
        Parts of an index that FAISS cannot merge (HNSW) are added again from the first.

        Raises:
            ValueError: Where the factory string or the search parameters are not FAISS's.
        """
        empty = scratch / "trained.faiss"
        index = _kept(empty, lambda: _emptied(like) if like else trained(settings.factory, settings.dimension, sample))
        for number, paths in enumerate(parts):
            if len(parts) == 1 or not _mergeable(index):
                _add(index, paths)
                continue
            _merge(index, _kept(scratch / f"part-{number:06d}.faiss", functools.partial(_part, empty, paths)))
            log.event("part of the index added", part=number + 1, parts=len(parts), passages=index.ntotal)
        _clear_padding(index)
        return cls(index, _id_column(passage_ids), settings)

    @classmethod
    def open(cls, folder: Path, *, encoder_digest: str) -> PassageIndex:
        """Loads an index for the encoder with this digest.

        Raises:
            ValueError: Where another encoder made the index, or the folder is not an index.
        """
        try:
            settings = IndexSettings(**orjson.loads((folder / SETTINGS_NAME).read_bytes()))
        except (FileNotFoundError, TypeError, orjson.JSONDecodeError) as error:
            raise ValueError(
                f"{folder / SETTINGS_NAME}: not the settings of an index ({error}); build it again"
            ) from error
        if settings.encoder_digest != encoder_digest:
            raise ValueError(
                f"{folder}: made by encoder {settings.encoder_digest[:12]}, asked to serve encoder {encoder_digest[:12]}; "
                "their vectors do not mix: use the encoder that made it, or build the index again"
            )
        try:
            index = faiss.read_index(str(folder / INDEX_NAME), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ValueError(
                f"{folder / INDEX_NAME}: FAISS cannot read it ({_first_line(error)}); build it again"
            ) from error
        ids = pa.ipc.open_file(pa.memory_map(str(folder / IDS_NAME))).read_all().column("passage_id")
        return cls(index, ids, settings)

    def save(self, folder: Path) -> None:
        """Writes the three files into an existing folder."""
        _write(self._index, folder / INDEX_NAME)
        with pa.OSFile(str(folder / IDS_NAME), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
            writer.write_table(pa.table([self._passage_ids], schema=_SCHEMA))
        (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(self.settings), option=orjson.OPT_INDENT_2))

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
                f"search parameters {search_parameters!r}: FAISS refuses them ({_first_line(error)})"
            ) from error
        self.settings = replace(self.settings, search_parameters=search_parameters)

    def structure(self) -> dict[str, int]:
        """What can be searched more or less deeply, each with its largest value, and the bytes of a code where there are lists."""
        base = faiss.downcast_index(self._index)
        found: dict[str, int] = {}
        if isinstance(base, faiss.IndexRefine):
            found["k_factor_rf"] = self.num_passages
            base = faiss.downcast_index(base.base_index)
        if isinstance(base, faiss.IndexIVF):
            found |= {"nprobe": base.nlist, "code_bytes": base.code_size}
        if isinstance(base, faiss.IndexHNSW):
            found["efSearch"] = self.num_passages
        return found

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
        return [self._hits(its_scores, its_rows) for its_scores, its_rows in zip(scores, rows, strict=True)]

    def search_rows(
        self, queries: Vectors, depth: int
    ) -> tuple[Float32[np.ndarray, "query depth"], Int64[np.ndarray, "query depth"]]:
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
        return [
            self._hits(its_scores[its_best], rows[its_best]) for its_scores, its_best in zip(scores, best, strict=True)
        ]

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
        scores, rows = faiss.knn(
            queries, np.ascontiguousarray(block), min(depth, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, rows + first)
        first += len(block)
    heap.finalize()
    found: Int64[np.ndarray, "query depth"] = heap.I
    return found


def recall(found: Int64[np.ndarray, "query depth"], exact: Int64[np.ndarray, "query depth"]) -> float:
    """Share of the exact rows that were found, averaged over queries."""
    return float(np.mean(recalls(found, exact)))


def recalls(
    found: Int64[np.ndarray, "query depth"], exact: Int64[np.ndarray, "query depth"]
) -> Float64[np.ndarray, " query"]:
    """Share of the exact rows that were found, a query."""
    pairs = zip(found, exact, strict=True)
    return np.array(
        [len(set(a[a >= 0].tolist()) & set(b[b >= 0].tolist())) / max(1, int((b >= 0).sum())) for a, b in pairs]
    )


def set_threads(num_threads: int) -> None:
    """Threads that FAISS uses in this process."""
    faiss.omp_set_num_threads(num_threads)


def factory_problem(factory: str) -> str:
    """What FAISS says against a factory string; empty where it can make such an index."""
    try:
        faiss.index_factory(_DIVISIBLE_DIMENSION, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        return f"FAISS refuses it ({_first_line(error)}); see the FAISS index factory's documentation"
    return ""


def trained(factory: str, dimension: int, sample: Vectors) -> faiss.Index:
    """An empty index of a factory string, trained on the sample where it needs that; k-means on a GPU where faiss-gpu finds one.

    Raises:
        ValueError: Where FAISS refuses the factory string or the sample.
    """
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"factory {factory!r}: FAISS refuses it ({_first_line(error)}); see the FAISS index factory's documentation"
        ) from error
    if index.is_trained:
        return index
    try:
        if getattr(faiss, "get_num_gpus", lambda: 0)() > 0:
            ivf = faiss.try_extract_index_ivf(index)
            if ivf is not None:
                # k-means is nearly all of the training time; the index itself stays on the CPU, where it will be
                # searched.
                ivf.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(ivf.d))
        log.event("training the index", factory=factory, vectors=len(sample))
        index.train(np.ascontiguousarray(sample))
    except RuntimeError as error:
        raise ValueError(
            f"factory {factory!r}: FAISS cannot be trained on {len(sample)} vectors ({_first_line(error)}); use fewer clusters or Flat"
        ) from error
    return index


def _emptied(folder: Path) -> faiss.Index:
    index = faiss.read_index(str(folder / INDEX_NAME))
    index.reset()
    return index


def _kept(path: Path, make: Callable[[], faiss.Index]) -> faiss.Index:
    """The index in the file, made first where no earlier attempt has left it there.

    Always as read: FAISS gives a flat index another class when it reads it, and merges equal classes only.
    """
    if not path.exists():
        partial = path.with_suffix(".partial")
        _write(make(), partial)
        partial.rename(path)
    return faiss.read_index(str(path))


def _write(index: faiss.Index, path: Path) -> None:
    """Writes and waits for the disk.

    Raises:
        OSError: Where the disk is full.
    """
    with path.open("wb") as file:
        # Through Python's file: its error on a full disk has a number, FAISS's own has not.
        # FAISS's stubs do not know the class.
        writer: Any = vars(faiss)["PyCallbackIOWriter"](file.write, _WRITE_BYTES)
        faiss.write_index(index, writer)
        file.flush()
        os.fsync(file.fileno())


def _add(index: faiss.Index, paths: Sequence[Path]) -> faiss.Index:
    for block in iter_blocks(paths):
        index.add(np.ascontiguousarray(block, dtype=np.float32))
    return index


def _part(empty: Path, paths: Sequence[Path]) -> faiss.Index:
    return _add(faiss.read_index(str(empty)), paths)


def _mergeable(index: faiss.Index) -> bool:
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        return _mergeable(index.base_index) and _mergeable(index.refine_index)
    return isinstance(index, faiss.IndexIVF | faiss.IndexFlatCodes)


def _merge(index: faiss.Index, part: faiss.Index) -> None:
    """Moves the vectors of a part behind those of the index; FAISS itself does not merge what refines."""
    # Under names of their own: what downcast_index gives does not keep alive what it was given.
    into, moved = faiss.downcast_index(index), faiss.downcast_index(part)
    if isinstance(into, faiss.IndexRefine) and isinstance(moved, faiss.IndexRefine):
        _merge(into.base_index, moved.base_index)
        _merge(into.refine_index, moved.refine_index)
        into.ntotal = into.base_index.ntotal
    elif isinstance(into, faiss.IndexIVF):
        into.merge_from(moved, into.ntotal)
    else:
        into.merge_from(moved)


def _clear_padding(index: faiss.Index) -> None:
    """Zeros where the last block of a fast-scan list holds no vector.

    A merge leaves there what lay in memory; no search reads it, but the same index must be the same bytes.
    """
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None:
        return
    # FAISS's stubs do not know the lists of fast-scan.
    invlists: Any = ivf.invlists
    lists: Any = faiss.downcast_InvertedLists(invlists)
    if not hasattr(lists, "packer"):
        return
    nothing = np.zeros(ivf.code_size, dtype=np.uint8)
    for number in range(lists.nlist):
        num_full, num_last = divmod(lists.list_size(number), lists.n_per_block)
        if num_last:
            blocks = faiss.rev_swig_ptr(lists.get_codes(number), (num_full + 1) * lists.block_size)
            for offset in range(num_last, lists.n_per_block):
                lists.packer.pack_1(nothing, offset, blocks[None, num_full * lists.block_size :])


def _id_column(passage_ids: Iterable[str]) -> pa.ChunkedArray:
    ids = iter(passage_ids)
    batches = iter(lambda: list(itertools.islice(ids, _IDS_A_BATCH)), [])
    # Batch by batch: a list of all ids would take ten times their bytes.
    return pa.chunked_array([pa.array(batch, type=pa.string()) for batch in batches], type=pa.string())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200]


def iter_blocks(paths: Sequence[Path]) -> Iterator[Vectors]:
    """Vectors of .npy shards (float32 or float16), memory-mapped, in the order given."""
    for path in paths:
        block = np.load(path, mmap_mode="r")
        yield block if block.dtype == np.float32 else block.astype(np.float32)
