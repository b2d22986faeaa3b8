"""FAISS structures: what a factory string makes, trained, filled in parts that resume, and joined again."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from components.shared import log
from components.shared.index.exact import iter_blocks
from components.shared.index.vectors import Vectors

INDEX_NAME = "index.faiss"
_WRITE_BYTES = 1 << 20
# A factory string is looked at before the encoder's dimension is known: this one is divisible by every usual number of
# PQ codes.
_DIVISIBLE_DIMENSION = 3072


def set_threads(num_threads: int) -> None:
    """Threads that FAISS uses in this process."""
    faiss.omp_set_num_threads(num_threads)


def factory_problem(factory: str) -> str:
    """What FAISS says against a factory string; empty where it can make such an index."""
    try:
        faiss.index_factory(_DIVISIBLE_DIMENSION, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        return f"FAISS refuses it ({first_line(error)}); see the FAISS index factory's documentation"
    return ""


def trained(factory: str, dimension: int, sample: Vectors) -> faiss.Index:
    """An empty index of a factory string, trained on the sample where it needs that, on a GPU where there is one.

    Raises:
        ValueError: Where FAISS refuses the factory string or the sample.
    """
    try:
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"factory {factory!r}: FAISS refuses it ({first_line(error)}); see the FAISS index factory's documentation"
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
            f"factory {factory!r}: FAISS cannot be trained on {len(sample)} vectors ({first_line(error)}); use fewer "
            "clusters or Flat"
        ) from error
    return index


def emptied(folder: Path) -> faiss.Index:
    """The trained index of a folder, without its vectors."""
    index = faiss.read_index(str(folder / INDEX_NAME))
    index.reset()
    return index


def kept(path: Path, make: Callable[[], faiss.Index]) -> faiss.Index:
    """The index in the file, made first where no earlier attempt has left it there.

    Always as read: FAISS gives a flat index another class when it reads it, and merges equal classes only.
    """
    if not path.exists():
        partial = path.with_suffix(".partial")
        write(make(), partial)
        partial.rename(path)
    return faiss.read_index(str(path))


def write(index: faiss.Index, path: Path) -> None:
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


def add(index: faiss.Index, paths: Sequence[Path]) -> faiss.Index:
    """The index with the vectors of the shards behind its own."""
    for block in iter_blocks(paths):
        index.add(np.ascontiguousarray(block, dtype=np.float32))
    return index


def part_of(empty: Path, paths: Sequence[Path]) -> faiss.Index:
    """A copy of an empty index with the vectors of the shards."""
    return add(faiss.read_index(str(empty)), paths)


def is_mergeable(index: faiss.Index) -> bool:
    """Whether parts of such an index can be joined."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        return is_mergeable(index.base_index) and is_mergeable(index.refine_index)
    return isinstance(index, faiss.IndexIVF | faiss.IndexFlatCodes)


def merge(index: faiss.Index, part: faiss.Index) -> None:
    """Moves the vectors of a part behind those of the index; FAISS itself does not merge what refines."""
    # Under names of their own: what downcast_index gives does not keep alive what it was given.
    into, moved = faiss.downcast_index(index), faiss.downcast_index(part)
    if isinstance(into, faiss.IndexRefine) and isinstance(moved, faiss.IndexRefine):
        merge(into.base_index, moved.base_index)
        merge(into.refine_index, moved.refine_index)
        into.ntotal = into.base_index.ntotal
    elif isinstance(into, faiss.IndexIVF):
        into.merge_from(moved, into.ntotal)
    else:
        into.merge_from(moved)


def clear_padding(index: faiss.Index) -> None:
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


def first_line(error: Exception) -> str:
    """What FAISS says, without its stack of C++ names."""
    return str(error).strip().splitlines()[-1][:200]
