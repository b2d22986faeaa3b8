"""Click logs as tests write them."""

from collections.abc import Sequence

import numpy as np

from components.shared.clicks import ClickLog

# Session, query, passage, rank, clicked, dwell seconds.
Row = tuple[str, str, str, int, int, float]


def click_log(rows: Sequence[Row]) -> ClickLog:
    """The log of these rows."""
    ids, codes = [], []
    for column in range(3):
        names = list(dict.fromkeys(str(row[column]) for row in rows))
        ids.append(tuple(names))
        codes.append(np.array([names.index(str(row[column])) for row in rows], dtype=np.int32))
    return ClickLog(
        *ids,
        *codes,
        np.array([row[3] for row in rows], dtype=np.int32),
        np.array([row[4] for row in rows], dtype=bool),
        np.array([row[5] for row in rows], dtype=np.float32),
    )
