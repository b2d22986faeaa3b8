"""An index of an earlier state of the corpus: its vectors of unchanged passages, and its trained structure.

FAISS's own removal leaves holes that slow a search down, and HNSW has none. Nearly all of the time goes into encoding,
so it is the vectors that are worth keeping: they are read back from the old index, exactly, and added again in the new
corpus's order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from components.shared.dataset import Dataset
from components.shared.encoding.encoder import Encoder
from components.shared.encoding.engines.records import Maker
from components.shared.index import FaissIndex, open_index
from components.shared.manifest import open_artifact
from components.shared.records import Passage

HASHES_NAME = "passage_hashes.npy"

Hashes = UInt64[np.ndarray, " passage"]


def passage_hash(passage: Passage) -> int:
    """64 bits of a passage's id and text.

    The chance that any two of ten million passages share them is below 3 in a million.
    """
    content = f"{passage.passage_id}\0{passage.full_text}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def write_hashes(folder: Path, dataset: Dataset) -> None:
    """Writes beside an index what its passages were, so that a later one can tell what changed."""
    hashes = np.fromiter(
        (passage_hash(passage) for passage in dataset.iter_passages()), dtype=np.uint64, count=dataset.num_passages
    )
    np.save(folder / HASHES_NAME, hashes)


class PreviousIndex:
    """Vectors by the content of their passages."""

    def __init__(self, uri: str, encoder: Encoder) -> None:
        """Opens and checks the index.

        Raises:
            ValueError: Where another encoder or another graph of it made the index, or it does not keep vectors
                exactly.
        """
        self.folder = open_artifact(uri)
        self._index = open_index(self.folder, encoder_digest=encoder.digest)
        self.settings = self._index.settings
        made_by = Maker(self.settings.engine, self.settings.variant)
        if made_by != encoder.maker:
            raise ValueError(
                f"{uri}: its passages were encoded by {made_by}, now by {encoder.maker}; build a new index"
            )
        if not self._index.keeps_vectors():
            raise ValueError(
                f"{uri}: {self.settings.factory} keeps no exact vectors to go on from; leave previous_uri out, "
                "or choose a factory that does (Flat, HNSW, RFlat)"
            )
        hashes = np.load(self.folder / HASHES_NAME)
        self._rows = np.argsort(hashes, kind="stable")
        self._sorted = hashes[self._rows]

    @property
    def trained(self) -> Path | None:
        """Folder of the index whose training another one can take over; None where FAISS has not trained it."""
        return self.folder if isinstance(self._index, FaissIndex) else None

    def find(self, passages: Sequence[Passage]) -> Int64[np.ndarray, " passage"]:
        """The row of each passage in the earlier index; -1 where it is new or was changed."""
        hashes = np.array([passage_hash(passage) for passage in passages], dtype=np.uint64)
        ranks = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        return np.where(self._sorted[ranks] == hashes, self._rows[ranks], -1)

    def vectors(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dimension"]:
        """The vectors of rows, as they were encoded."""
        return self._index.vectors_of(rows)
