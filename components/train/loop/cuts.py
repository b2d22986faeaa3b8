"""The loss of a model whose vectors may be cut: at the whole vector and at every cut, so that each of them is taught.

Source: Matryoshka representation learning, arXiv 2205.13147, which adds the losses; here their weighted mean is taken,
so that a learning rate and a printed loss mean the same with and without cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from components.shared.checkpoint import DualEncoder, DualEncoderSettings
from components.shared.checkpoint.head import normalised


def loss_over_cuts(
    vectors: Float[Tensor, "text dimension"],
    num_queries: int,
    loss: Callable[[Float[Tensor, "query passage"]], Float[Tensor, ""]],
    *,
    settings: DualEncoderSettings,
    weights: Sequence[float],
) -> Float[Tensor, ""]:
    """Weighted mean of the losses at the whole vectors and at the cuts of the settings.

    Args:
        vectors: Of the queries, then of the passages.
        num_queries: How many of them are of queries.
        loss: Of the scores.
        settings: Of the encoder; say to what vectors may be cut, and whether they are scaled.
        weights: Of the whole vectors, then of each cut; none weighs all alike.

    """
    widths = (vectors.shape[1], *settings.matryoshka)
    weights = weights or [1.0] * len(widths)
    values = [
        weight * loss(_scores(vectors, num_queries, width, settings))
        for width, weight in zip(widths, weights, strict=True)
    ]
    total: Tensor = sum(values[1:], start=values[0]) / sum(weights)
    return total


def check_weights(weights: Sequence[float], model: DualEncoder) -> None:
    """Refuses weights that are not one for each number of dimensions that a model is taught at.

    Raises:
        ValueError: Naming these numbers.
    """
    widths = (model.dimension, *model.settings.matryoshka)
    if weights and len(weights) != len(widths):
        raise ValueError(
            f"matryoshka_weights: {len(weights)} weights, but the model is taught at {len(widths)} numbers of "
            f"dimensions ({', '.join(map(str, widths))}); give as many, or none"
        )


def _scores(
    vectors: Float[Tensor, "text dimension"], num_queries: int, width: int, settings: DualEncoderSettings
) -> Float[Tensor, "query passage"]:
    if width < vectors.shape[1]:
        vectors = normalised(vectors[:, :width]) if settings.normalise else vectors[:, :width]
    # fp32 also under bf16: there the inner products of a close race are equal.
    return vectors[:num_queries] @ vectors[num_queries:].T
