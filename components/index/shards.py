"""The corpus as vectors on disk, shard by shard: what makes indexing resumable and keeps memory flat."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from components.shared import log
from components.shared.dataset import Dataset
from components.shared.encoder import Encoder


def encode_shards(dataset: Dataset, encoder: Encoder, folder: Path, *, shard_passages: int, batch_tokens: int) -> list[Path]:
    """One .npy file of vectors a shard, in corpus order; a shard that lies there from an earlier attempt is kept.

    Within a shard passages are encoded sorted by length, so that little is spent on padding.
    """
    folder.mkdir(exist_ok=True)
    starts = range(0, dataset.num_passages, shard_passages)
    paths = [folder / f"vectors-{start:012d}.npy" for start in starts]
    done = sum(min(shard_passages, dataset.num_passages - start) for start, path in zip(starts, paths, strict=True) if path.exists())
    with log.Progress("encoding the corpus", total=dataset.num_passages, unit="passages", done=done) as bar:
        for start, path in zip(starts, paths, strict=True):
            if path.exists():
                continue
            passages = list(dataset.iter_passages(start, start + shard_passages))
            vectors = encoder.encode_passages(passages, batch_tokens=batch_tokens, on_batch=bar.add)
            _save(path, vectors)
    return paths


def _save(path: Path, vectors: np.ndarray) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, vectors)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def sample_rows(paths: list[Path], num_rows: int, seed: int) -> np.ndarray:
    """A seeded sample of the vectors without replacement; all of them where there are no more."""
    shards = [np.load(path, mmap_mode="r") for path in paths]
    total = sum(map(len, shards))
    chosen = np.sort(np.random.default_rng(seed).choice(total, size=min(num_rows, total), replace=False))
    return np.concatenate(list(_taken(shards, chosen))).astype(np.float32)


def _taken(shards: list[np.ndarray], chosen: np.ndarray) -> Iterator[np.ndarray]:
    first = 0
    for shard in shards:
        its = chosen[(chosen >= first) & (chosen < first + len(shard))] - first
        yield shard[its]
        first += len(shard)
