"""What every engine must know of an encoder's graph: the names in it, and the cores to compute it with."""

from __future__ import annotations

import os

INPUT_NAMES, OUTPUT_NAME = ("input_ids", "attention_mask"), "vectors"
# Of a graph's metadata: the settings it was exported with.
CONTRACT_KEY = "retriever.encoder"


def num_cores() -> int:
    """Cores this process may use; in a container that can be fewer than the host has."""
    return len(os.sched_getaffinity(0))
