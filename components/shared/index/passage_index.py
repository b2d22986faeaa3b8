"""PassageIndex: what every index can do, whichever engine searches it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, Int64

from components.shared.index.settings import IndexSettings
from components.shared.index.vectors import Vectors
from components.shared.records import Hit


# Checked at run time in tests only, where shapes are.
@runtime_checkable
class PassageIndex(Protocol):
    """A searchable index; row i is the passage with the i-th id of the corpus."""

    @property
    def settings(self) -> IndexSettings:
        """What it says of itself."""
        ...

    @property
    def num_passages(self) -> int:
        """Passages in the index."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the index's files into an existing folder; an engine elsewhere is told that it is complete."""
        ...

    def set_search_parameters(self, search_parameters: str) -> None:
        """Changes how deep the index searches, in FAISS's words: nprobe=32, efSearch=64.

        Raises:
            ValueError: Where this index has no such parameters.
        """
        ...

    def structure(self) -> dict[str, int]:
        """What can be searched more or less deeply, with its largest value, and the bytes of a list's codes."""
        ...

    def keeps_vectors(self) -> bool:
        """True where the vectors that were added can be had back bit by bit."""
        ...

    def vectors_of(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dimension"]:
        """The vectors of rows as the index keeps them: see `keeps_vectors`."""
        ...

    def search(self, queries: Vectors, depth: int) -> list[list[Hit]]:
        """The best `depth` passages of each query, best first; equal scores in passage-id order."""
        ...

    def search_rows(
        self, queries: Vectors, depth: int
    ) -> tuple[Float32[np.ndarray, "query depth"], Int64[np.ndarray, "query depth"]]:
        """Scores and rows, best first; row -1 where fewer were found."""
        ...

    def rows_of(self, passage_ids: Sequence[str]) -> Int64[np.ndarray, " found"]:
        """Rows of those passage ids that the index holds, ascending."""
        ...

    def search_among(self, queries: Vectors, rows: Int64[np.ndarray, " row"], depth: int) -> list[list[Hit]]:
        """The best `depth` of the given rows, best first; every row is scored, whatever nprobe or efSearch is."""
        ...

    def holds(self, passage_ids: pa.Array) -> bool:
        """True where these are the passage ids of the rows, in order."""
        ...

    def hits(self, scores: Float[np.ndarray, " depth"], rows: Int64[np.ndarray, " depth"]) -> list[Hit]:
        """Scores and rows as hits, best first; equal scores in passage-id order, row -1 left out."""
        ...
