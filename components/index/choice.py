"""Which FAISS structure suits a corpus: from its size, the memory it may take, and the recall that is wanted.

Flat while exact search is cheap; then inverted lists of 4-bit product codes scanned in registers, whose best are scored
again with better vectors; HNSW where nearly everything must be found. On 200,000 clustered vectors of 384 dimensions
the second is 20 to 50 times as fast as Flat, three times as quick to build as HNSW, and its memory can be a quarter of
Flat's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

AUTO = "auto"
# Below, exact search of one query takes about a millisecond on one core: nothing to win, and nothing to lose.
_FLAT_PASSAGES = 30_000
# A graph pays where lists and codes would have to look at nearly everything.
_HNSW_RECALL = 0.985
_HNSW_PASSAGES = 5_000_000
# Enough for k-means: FAISS itself warns below 39 vectors a list.
_TRAINING_VECTORS_A_LIST = 64
_SMALLEST_TRAINING = 65_536


@dataclass(frozen=True)
class Candidate:
    """A structure that could be built.

    Attributes:
        factory: FAISS factory string.
        memory_bytes: What it takes when it is searched.
        training_vectors: How large a sample is worth training on.
        like: An index whose training is taken over; None: it is trained anew.
    """

    factory: str
    memory_bytes: int
    training_vectors: int
    like: Path | None = None


def candidates(
    num_passages: int, dimension: int, *, min_recall: float, memory_bytes: int = 0, in_milvus: bool = False
) -> list[Candidate]:
    """Structures that fit the memory, the most promising first; the next is tried where one cannot reach the recall.

    Args:
        num_passages: Vectors to hold.
        dimension: Of a vector.
        min_recall: recall@10 that is wanted.
        memory_bytes: What the index may take when it is searched; 0: any amount.
        in_milvus: Only structures that Milvus has too.

    Raises:
        ValueError: Where nothing fits, naming what the smallest needs.
    """
    by_promise = _of_milvus(num_passages, dimension) if in_milvus else _by_promise(num_passages, dimension, min_recall)
    all_of_them = list(by_promise)
    fitting = [candidate for candidate in all_of_them if not memory_bytes or candidate.memory_bytes <= memory_bytes]
    if not fitting:
        smallest = min(all_of_them, key=lambda candidate: candidate.memory_bytes)
        raise ValueError(
            f"memory budget of {memory_bytes >> 20} MiB: {num_passages} vectors of {dimension} dimensions need at "
            f"least {math.ceil(smallest.memory_bytes / 2**20)} MiB ({smallest.factory}); raise memory_mib, or cut "
            "the corpus"
        )
    return fitting


def _by_promise(num_passages: int, dimension: int, min_recall: float) -> Iterator[Candidate]:
    flat, hnsw = _flat(num_passages, dimension), _hnsw(num_passages, dimension)
    if num_passages <= _FLAT_PASSAGES:
        yield flat
        return
    if min_recall > _HNSW_RECALL and num_passages <= _HNSW_PASSAGES:
        yield hnsw
    num_lists = lists_for(num_passages)
    training_vectors = max(_TRAINING_VECTORS_A_LIST * num_lists, _SMALLEST_TRAINING)
    num_codes = _codes(dimension)
    # Codes of half a byte, an id of eight; and the centroids.
    lists_bytes = num_passages * (num_codes / 2 + 8) + 4 * dimension * num_lists
    for refinement, bytes_a_component in (("RFlat", 4), ("Refine(SQ8)", 1)):
        factory = f"IVF{num_lists},PQ{num_codes}x4fs,{refinement}"
        yield Candidate(factory, round(lists_bytes) + bytes_a_component * dimension * num_passages, training_vectors)
    if min_recall <= _HNSW_RECALL and num_passages <= _HNSW_PASSAGES:
        yield hnsw
    yield flat


def _of_milvus(num_passages: int, dimension: int) -> Iterator[Candidate]:
    """A graph, which Milvus builds best; a quarter of its memory in lists of bytes."""
    if num_passages > _FLAT_PASSAGES:
        num_lists = lists_for(num_passages)
        yield _hnsw(num_passages, dimension)
        yield Candidate(f"IVF{num_lists},SQ8", (dimension + 8) * num_passages + 4 * dimension * num_lists, 0)
    yield _flat(num_passages, dimension)


def _flat(num_passages: int, dimension: int) -> Candidate:
    return Candidate("Flat", 4 * dimension * num_passages, 0)


def _hnsw(num_passages: int, dimension: int) -> Candidate:
    # Two rows of 32 links and what FAISS keeps beside them: 273 bytes a vector were seen.
    return Candidate("HNSW32,Flat", (4 * dimension + 276) * num_passages, 0)


def lists_for(num_passages: int) -> int:
    """Inverted lists: the power of two nearest to three times the square root of the corpus."""
    return int(2 ** round(math.log2(3 * math.sqrt(num_passages))))


def _codes(dimension: int) -> int:
    """Product codes of a vector: one for four components, or as near as divides the dimension."""
    return max((codes for codes in range(1, max(dimension // 4, 1) + 1) if dimension % codes == 0), default=1)
