"""What stands in a folder of documents more than once: the same passage, nearly the same one, and boilerplate.

The same: equal characters, whatever their case and the white space between them. Nearly the same: at least 80 % of the
runs of five words of both together are in both (Jaccard), estimated by MinHash with 64 functions; candidates come from
16 bands of 4, which miss a pair at 80 % once in 5,000. Boilerplate: a passage of which at least half stands in blocks
that many documents have.

Passages are compared by numbers of fixed size in arrays (8 bytes a passage, 12 a block, and 256 a passage on disk), so
a corpus may be larger than memory. A hash table as libraries for MinHash keep it takes kilobytes a passage.

Source: Broder 1997 (resemblance), Leskovec, Rajaraman and Ullman 2014, chapter 3 (bands).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt32, UInt64

from components.shared.language.words import normalise, words

SHINGLE_WORDS = 5
NUM_FUNCTIONS, BAND_ROWS = 64, 4
SAME_SHARE = 0.8
BOILERPLATE_SHARE = 0.5
_DRAW = np.random.default_rng(20_504)
_FACTORS = _DRAW.integers(1, 2**63, NUM_FUNCTIONS, dtype=np.uint64) | np.uint64(1)
_SUMMANDS = _DRAW.integers(0, 2**63, NUM_FUNCTIONS, dtype=np.uint64)
# Odd numbers that make the order of the words of a run count.
_PLACES = _DRAW.integers(1, 2**63, SHINGLE_WORDS, dtype=np.uint64) | np.uint64(1)

Hashes = UInt64[np.ndarray, " passage"]
Rows = Int64[np.ndarray, " passage"]
Signature = UInt32[np.ndarray, " function"]


def hash_of(text: str) -> int:
    """64 bits of a text; two of ten million texts share them with a chance below 3 in a million."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def compared(text: str) -> tuple[int, Signature]:
    """The hash by which a text equals another, and its MinHash signature."""
    # Not the hash of the words: they leave out single digits, and "Release 1" is not "Release 2".
    same = hash_of(" ".join(normalise(text).split()))
    sequence = words(text) or [text.strip()]
    numbers = np.fromiter((zlib.crc32(word.encode()) for word in sequence), np.uint64, len(sequence))
    count = max(len(numbers) - SHINGLE_WORDS + 1, 1)
    shingles = np.zeros(count, np.uint64)
    for offset in range(min(SHINGLE_WORDS, len(numbers))):
        shingles += numbers[offset : offset + count] * _PLACES[offset]
    # The upper half of a product modulo 2**64 is a good hash of a number (Dietzfelbinger and others 1997).
    mixed = (shingles[:, None] * _FACTORS[None, :] + _SUMMANDS[None, :]) >> np.uint64(32)
    return same, mixed.min(axis=0).astype(np.uint32)


def first_rows(hashes: Hashes, is_kept: Bool[np.ndarray, " passage"]) -> Rows:
    """The row of the first kept passage that is the same as each; a row that is not kept stands for itself."""
    rows = np.arange(len(hashes), dtype=np.int64)
    kept = rows[is_kept]
    _, first, inverse = np.unique(hashes[kept], return_index=True, return_inverse=True)
    firsts = rows.copy()
    firsts[kept] = kept[first[inverse]]
    return firsts


def count_near(signatures: Path, rows: Rows) -> int:
    """How many of the passages are nearly the same as an earlier one.

    Args:
        signatures: File of the signatures of all passages, one behind the other.
        rows: Those that are compared, ascending.
    """
    if len(rows) < 2:
        return 0
    table = np.memmap(signatures, np.uint32, "r").reshape(-1, NUM_FUNCTIONS)
    is_near = np.zeros(len(rows), dtype=bool)
    for first in range(0, NUM_FUNCTIONS, BAND_ROWS):
        bands = np.ascontiguousarray(table[rows, first : first + BAND_ROWS])
        keys = bands.view(np.dtype((np.void, bands.dtype.itemsize * BAND_ROWS))).ravel()
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
        # Each passage is compared with the first of those that share the band.
        heads = np.repeat(order[starts], np.diff(np.r_[starts, len(order)]))
        for later, earlier in _blocks(order, heads, is_near):
            equal = (table[rows[later]] == table[rows[earlier]]).mean(axis=1)
            is_near[later[equal >= SAME_SHARE]] = True
    return int(is_near.sum())


def _blocks(
    order: Rows, heads: Rows, is_near: Bool[np.ndarray, " passage"], size: int = 8192
) -> Iterator[tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]]:
    """Pairs that are still to be compared, later and earlier, so many at a time that they fit into memory."""
    is_open = (order != heads) & ~is_near[order]
    later, earlier = order[is_open], heads[is_open]
    for start in range(0, len(later), size):
        yield later[start : start + size], earlier[start : start + size]


def boilerplate_rows(
    hashes: UInt64[np.ndarray, " block"],
    sizes: UInt32[np.ndarray, " block"],
    passages: Int64[np.ndarray, " block"],
    documents: Int64[np.ndarray, " passage"],
    *,
    min_documents: int,
) -> Bool[np.ndarray, " passage"]:
    """Whether at least half of the characters of each passage stand in blocks that many documents have.

    Args:
        hashes: Of each block of each passage.
        sizes: Characters of it that the passage has.
        passages: Row of the passage.
        documents: Number of each passage's document.
        min_documents: Documents that a block must stand in.
    """
    pairs = np.unique(np.stack([hashes, documents[passages].astype(np.uint64)]), axis=1)
    blocks, counts = np.unique(pairs[0], return_counts=True)
    is_common = (counts >= min_documents)[np.searchsorted(blocks, hashes)] if len(blocks) else np.zeros(0, dtype=bool)
    total = np.bincount(passages, weights=sizes, minlength=len(documents))
    common = np.bincount(passages, weights=sizes * is_common, minlength=len(documents))
    return (common >= BOILERPLATE_SHARE * total) & (total > 0)
