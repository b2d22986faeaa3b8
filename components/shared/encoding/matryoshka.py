"""Vectors that may be cut: of a Matryoshka model the first components of a vector are a smaller vector.

A cut vector of unit length has to be scaled again. Cutting, then scaling gives the same whether the whole vector was
scaled before or not, so vectors of one encoder can be cut at any time.

Source: Matryoshka representation learning, arXiv 2205.13147.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

AUTO, NONE = "auto", "none"
# Names under which settings files hold the numbers of dimensions that vectors may be cut to: ours and that of model
# cards first, then that of vLLM and of models on the hub.
DECLARED_NAMES = ("matryoshka_dims", "matryoshka_dimensions")
_SMALLEST_NORM = 1e-12


def parse_cuts(text: str) -> tuple[int, ...] | None:
    """Numbers of dimensions as a setting has them, the largest first; None where the model's folder decides.

    Raises:
        ValueError: Where it holds something else.
    """
    if text in (AUTO, NONE):
        return None if text == AUTO else ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ValueError(f"matryoshka {text!r}: write {AUTO}, {NONE}, or numbers of dimensions such as 256,128")
    return tuple(sorted({int(part) for part in parts}, reverse=True))


def parse_weights(text: str) -> tuple[float, ...]:
    """Weights of the whole vector and of its cuts in a loss; none where all weigh alike.

    Raises:
        ValueError: Where they are no numbers above 0.
    """
    try:
        weights = tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        weights = (0.0,)
    if not all(weight > 0 and math.isfinite(weight) for weight in weights):
        raise ValueError(f"matryoshka_weights {text!r}: write numbers above 0, such as 1,0.5,0.5, or nothing")
    return weights


def declared_cuts(path: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The numbers of dimensions that a settings file says vectors may be cut to, the largest first.

    Raises:
        ValueError: Where they are no numbers.
    """
    name = next((name for name in DECLARED_NAMES if config.get(name)), "")
    values = config[name] if name else []
    if not isinstance(values, list) or not all(type(value) is int and value > 0 for value in values):
        raise ValueError(f"{path}: {name} {values!r}: not a list of numbers of dimensions; save the model again")
    return tuple(sorted(set(values), reverse=True))


def declare_cuts(config: object, cuts: Sequence[int]) -> None:
    """Writes into a model's config, which other servers read, what vectors may be cut to; no cuts take it away."""
    for name in DECLARED_NAMES:
        if hasattr(config, name):
            delattr(config, name)
    if cuts:
        setattr(config, DECLARED_NAMES[1], list(cuts))


def cut(
    vectors: Float32[np.ndarray, "text dimension"], dimensions: int, *, normalise: bool
) -> Float32[np.ndarray, "text kept"]:
    """The first components of vectors, scaled to unit length where the encoder scales."""
    kept = vectors[:, :dimensions]
    if not normalise:
        return kept
    scaled: Float32[np.ndarray, "text kept"] = kept / np.maximum(
        np.linalg.norm(kept, axis=1, keepdims=True), _SMALLEST_NORM
    )
    return scaled
