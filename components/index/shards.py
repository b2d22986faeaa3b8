"""The corpus as vectors on disk, shard by shard: indexing can be resumed and divided, and its memory stays flat.

A file is named for its first row. It appears under its name when its bytes are on the disk, so whatever lies there is
whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from jaxtyping import Int64

from components.index.config import IndexConfig
from components.index.previous import PreviousIndex
from components.shared import log
from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder, NotFiniteError, Vectors, num_cores
from components.shared.manifest import open_artifact, read_manifest

CONTRACT_NAME = "vectors.json"


def encode_shards(
    dataset: Dataset, encoder: Encoder, folder: Path, config: IndexConfig, previous: PreviousIndex | None = None
) -> list[Path]:
    """One .npy file of vectors a shard, in corpus order; a shard that lies there from an earlier attempt is kept.

    Within a shard passages are encoded sorted by length, so that little is spent on padding. The next shard is
    tokenised while this one is encoded. Passages that `previous` knows are not encoded again.

    Raises:
        ValueError: Naming the first passage whose vector holds nan or inf.
    """
    if not 0 <= config.shard < config.num_shards:
        raise ValueError(f"shard {config.shard} of {config.num_shards}: must lie between 0 and {config.num_shards - 1}")
    folder.mkdir(exist_ok=True)
    starts = range(0, dataset.num_passages, config.shard_passages)[config.shard :: config.num_shards]
    paths = {start: folder / shard_name(start) for start in starts}
    sizes = {start: min(config.shard_passages, dataset.num_passages - start) for start in starts}
    missing = [start for start in starts if not paths[start].exists()]
    done = sum(sizes.values()) - sum(sizes[start] for start in missing)
    num_workers = config.num_threads or num_cores()
    with (
        log.Progress("encoding the corpus", total=sum(sizes.values()), unit="passages", done=done) as bar,
        ThreadPoolExecutor(1) as ahead,
    ):
        for start, shard in zip(
            missing, _read_ahead(ahead, dataset, encoder, missing, config.shard_passages, previous), strict=True
        ):
            vectors = np.empty((len(shard.rows), encoder.dimension), dtype=np.float32)
            known = shard.rows >= 0
            if previous is not None and known.any():
                vectors[known] = previous.vectors(shard.rows[known])
                bar.add(int(known.sum()))
            try:
                vectors[~known] = encoder.encode_tokens(
                    shard.token_ids, batch_tokens=config.batch_tokens, num_workers=num_workers, on_batch=bar.add
                )
            except NotFiniteError as error:
                row = start + int(np.flatnonzero(~known)[error.row])
                raise NotFiniteError(error.row, f"passage {dataset.passage_id_at(row)}") from None
            save_vectors(paths[start], in_dtype(vectors, config, dataset, start))
    return list(paths.values())


def in_dtype(vectors: Vectors, config: IndexConfig, dataset: Dataset, start: int) -> np.ndarray:
    """The vectors of the rows from `start` as they are kept.

    Raises:
        ValueError: Naming a passage whose vector the type cannot hold; half precision ends at 65504.
    """
    with np.errstate(over="ignore"):
        kept = vectors.astype(config.vector_dtype, copy=False)
    if (row := _first_not_finite(kept)) is not None:
        raise ValueError(
            f"passage {dataset.passage_id_at(start + row)}: its vector is too long for {config.vector_dtype}; "
            "set vector_dtype to float32"
        )
    return kept


def _first_not_finite(vectors: np.ndarray) -> int | None:
    rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    return int(rows[0]) if len(rows) else None


def shard_name(start: int) -> str:
    """File name of the shard that begins with this row; names sort as rows do."""
    return f"vectors-{start:012d}.npy"


@dataclass(frozen=True)
class _Shard:
    """Rows in the previous index, -1 where there is none; the token ids of those passages."""

    rows: Int64[np.ndarray, " passage"]
    token_ids: list[list[int]]


def _read_ahead(
    ahead: ThreadPoolExecutor,
    dataset: Dataset,
    encoder: Encoder,
    starts: Sequence[int],
    num_passages: int,
    previous: PreviousIndex | None,
) -> Iterator[_Shard]:
    def read(start: int) -> _Shard:
        passages = list(dataset.iter_passages(start, start + num_passages))
        rows = previous.find(passages) if previous is not None else np.full(len(passages), -1, dtype=np.int64)
        unknown = [passage.full_text for passage, row in zip(passages, rows, strict=True) if row < 0]
        return _Shard(rows, encoder.tokenize_passages(unknown))

    # One ahead and no more: memory stays that of two shards.
    coming = ahead.submit(read, starts[0]) if starts else None
    for number in range(len(starts)):
        assert coming is not None
        shard = coming.result()
        coming = ahead.submit(read, starts[number + 1]) if number + 1 < len(starts) else None
        yield shard


def save_vectors(path: Path, vectors: np.ndarray) -> None:
    """Writes a .npy file that is whole once it has its name."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, np.lib.format.header_data_from_array_1_0(vectors))
        # Not np.save, whose error on a full disk has no number that says so.
        file.write(np.ascontiguousarray(vectors).data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def write_contract(folder: Path, encoder: Encoder, config: IndexConfig) -> None:
    """Says beside a job's vectors what made them, so that those of several jobs cannot be mixed up."""
    (folder / CONTRACT_NAME).write_bytes(orjson.dumps(_contract(encoder, config), option=orjson.OPT_INDENT_2))


def _contract(encoder: Encoder, config: IndexConfig) -> dict[str, object]:
    return {
        "dataset": read_manifest(config.dataset_uri).digest,
        "encoder": encoder.digest,
        "variant": encoder.variant,
        "engine": encoder.engine,
        "dimension": encoder.dimension,
        "vector_dtype": config.vector_dtype,
        "shard_passages": config.shard_passages,
    }


def gather_vectors(config: IndexConfig, dataset: Dataset, encoder: Encoder) -> list[Path]:
    """The shards of several jobs, in corpus order.

    Raises:
        ValueError: Naming what does not fit: another encoder, corpus, dtype or shard size, a shard that is missing or
            there twice, or a passage whose vector holds nan or inf.
    """
    wanted = _contract(encoder, config)
    shards: dict[str, Path] = {}
    for uri in config.vectors_uri.split(","):
        folder = open_artifact(uri)
        for name, value in orjson.loads((folder / CONTRACT_NAME).read_bytes()).items():
            if value != wanted.get(name, value):
                raise ValueError(
                    f"{uri}: made with {name} {value}, this job has {name} {wanted[name]}; encode the corpus again"
                )
        for path in sorted(folder.glob("vectors-*.npy")):
            if path.name in shards:
                raise ValueError(
                    f"{path}: the same rows lie in {shards[path.name]}; name each shard's job once in vectors_uri"
                )
            shards[path.name] = path
    starts = range(0, dataset.num_passages, config.shard_passages)
    if missing := [shard_name(start) for start in starts if shard_name(start) not in shards]:
        raise ValueError(
            f"{config.vectors_uri}: {len(missing)} of {len(starts)} shards are missing, the first is {missing[0]}"
        )
    for start in starts:
        path = shards[shard_name(start)]
        if (row := _first_not_finite(np.load(path, mmap_mode="r"))) is not None:
            raise ValueError(
                f"{path}: the vector of passage {dataset.passage_id_at(start + row)} is not finite (nan or inf); "
                "encode the corpus again"
            )
    return [shards[shard_name(start)] for start in starts]


def sample_rows(paths: Sequence[Path], num_rows: int, seed: int, *, dimension: int) -> np.ndarray:
    """A seeded sample of the vectors without replacement; all of them where there are no more."""
    shards = [np.load(path, mmap_mode="r") for path in paths]
    total = sum(map(len, shards))
    chosen = np.sort(np.random.default_rng(seed).choice(total, size=min(num_rows, total), replace=False))
    return np.concatenate([np.empty((0, dimension), np.float32), *_taken(shards, chosen)]).astype(
        np.float32, copy=False
    )


def _taken(shards: Sequence[np.ndarray], chosen: np.ndarray) -> Iterator[np.ndarray]:
    first = 0
    for shard in shards:
        rows = chosen[(chosen >= first) & (chosen < first + len(shard))] - first
        yield shard[rows]
        first += len(shard)
