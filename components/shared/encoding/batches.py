"""Texts of similar length go together: what little is spent on padding decides the speed of every encoder here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def length_sorted_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Rows in batches of similar length whose padded size stays within `batch_tokens`; one row beyond that is a batch.

    The longest come first, so that memory peaks at the start and an estimate of the time left is never too short.
    """
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
