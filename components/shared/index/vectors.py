"""The shape that all of an index's files speak of."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

# Any number of rows: blocks, sample and queries of one call differ in it.
Vectors = Float32[np.ndarray, "_ dimension"]
