"""The click log of a dataset: what people were shown for a query, and what of it they clicked.

A showing is one list of results: a session and a query. A row is one passage of it. Ids are kept once and rows hold
their numbers, so a log of a hundred million rows is columns of numbers and not text.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32

CLICKS_NAME = "clicks.arrow"

_IDS = pa.dictionary(pa.int32(), pa.string())
_CLICKS = pa.schema(
    [
        ("session_id", _IDS),
        ("query_id", _IDS),
        ("passage_id", _IDS),
        ("rank", pa.int32()),
        ("clicked", pa.bool_()),
        ("dwell_seconds", pa.float32()),
    ]
)

Codes = Int32[np.ndarray, " row"]


@dataclass(frozen=True)
class ClickLog:
    """Rows as columns; `sessions`, `queries` and `passages` are numbers of the ids in the lists beside them.

    Attributes:
        session_ids: Every session once.
        query_ids: Every query once.
        passage_ids: Every passage once.
        sessions: Number of the session.
        queries: Number of the query.
        passages: Number of the passage that was shown.
        ranks: Where it stood, from 1.
        clicked: Whether it was clicked.
        dwell_seconds: How long the click lasted; 0 where nobody clicked or the log does not say.
    """

    session_ids: tuple[str, ...]
    query_ids: tuple[str, ...]
    passage_ids: tuple[str, ...]
    sessions: Codes
    queries: Codes
    passages: Codes
    ranks: Int32[np.ndarray, " row"]
    clicked: Bool[np.ndarray, " row"]
    dwell_seconds: Float32[np.ndarray, " row"]

    @property
    def num_rows(self) -> int:
        """Passages shown, over all showings."""
        return len(self.ranks)

    def rows(self, kept: Bool[np.ndarray, " row"]) -> ClickLog:
        """The log with some of its rows; the lists of ids stay as they are."""
        columns = ("sessions", "queries", "passages", "ranks", "clicked", "dwell_seconds")
        return replace(self, **{name: getattr(self, name)[kept] for name in columns})

    def of_queries(self, query_ids: Collection[str]) -> ClickLog:
        """The rows of some queries."""
        wanted = np.array([query_id in query_ids for query_id in self.query_ids], dtype=bool)
        return self.rows(wanted[self.queries])


def write_clicks(folder: Path, log: ClickLog) -> None:
    """Writes the table of a dataset's clicks."""
    ids = ((log.sessions, log.session_ids), (log.queries, log.query_ids), (log.passages, log.passage_ids))
    columns: list[pa.Array] = [
        pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string())) for codes, names in ids
    ]
    columns += [pa.array(log.ranks), pa.array(log.clicked), pa.array(log.dwell_seconds)]
    with pa.OSFile(str(folder / CLICKS_NAME), "wb") as sink, pa.ipc.new_file(sink, _CLICKS) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=_CLICKS))


def read_clicks(folder: Path) -> ClickLog | None:
    """The click log of a dataset folder; None where it has none."""
    if not (folder / CLICKS_NAME).exists():
        return None
    with pa.memory_map(str(folder / CLICKS_NAME)) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    ids: list[tuple[str, ...]] = []
    codes: list[Codes] = []
    for name in ("session_id", "query_id", "passage_id"):
        column = pa.concat_arrays(table.column(name).chunks)
        ids.append(tuple(column.dictionary.to_pylist()))
        codes.append(column.indices.to_numpy(zero_copy_only=False).astype(np.int32))
    ranks, clicked, dwell = (table.column(name).to_numpy() for name in ("rank", "clicked", "dwell_seconds"))
    return ClickLog(ids[0], ids[1], ids[2], codes[0], codes[1], codes[2], ranks, clicked, dwell)
