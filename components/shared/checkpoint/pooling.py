"""From the states of a text's tokens to one vector: every way of pooling that sentence-transformers knows.

The tokens that are pooled can be fewer than those that the transformer reads: a model may leave out its prompt.
Padding is on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

PoolingMode = Literal["cls", "mean", "last", "max", "mean_sqrt_len", "weighted_mean"]

States = Float[Tensor, "text token dimension"]
Mask = Int64[Tensor, "text token"]
Vectors = Float[Tensor, "text dimension"]

# So small that it changes no sum of weights, and no vector is divided by zero where every token is left out.
_SMALLEST = 1e-9


def pool(states: States, pooled: Mask, pooling: str) -> Float[Tensor, "text joined"]:
    """One vector a text; where `pooling` joins several ways by "+", their vectors one after the other.

    Args:
        states: Last hidden states.
        pooled: 1 for each token that is pooled, 0 for padding and for what is left out.
        pooling: Names of POOLINGS, joined by "+".

    Source: Pooling of sentence-transformers 6.2.
    """
    return torch.cat([_POOLINGS[mode](states, pooled) for mode in pooling.split("+")], dim=-1)


def _first(states: States, pooled: Mask) -> Vectors:
    return _at(states, pooled.to(torch.int32).argmax(1))


def _last(states: States, pooled: Mask) -> Vectors:
    # The place of the largest number among the places that are pooled; -1 where there is none becomes the first token,
    # whose state is masked to zeros.
    places = torch.arange(1, pooled.shape[1] + 1, device=pooled.device) * pooled
    return _at(states * pooled[:, :, None].to(states.dtype), (places.amax(1) - 1).clamp_min(0))


def _at(states: States, token: Int64[Tensor, " text"]) -> Vectors:
    return states.gather(1, token[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)


def _max(states: States, pooled: Mask) -> Vectors:
    return states.masked_fill(pooled[:, :, None] == 0, -torch.inf).amax(1)


def _mean(states: States, pooled: Mask) -> Vectors:
    weights = pooled[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(_SMALLEST)


def _mean_sqrt_len(states: States, pooled: Mask) -> Vectors:
    weights = pooled[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(_SMALLEST).sqrt()


def _weighted_mean(states: States, pooled: Mask) -> Vectors:
    # A token's weight is its place in the text, counted from 1; what is left out keeps its place.
    places = torch.arange(1, pooled.shape[1] + 1, device=pooled.device)
    weights = (places * pooled)[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(_SMALLEST)


_POOLINGS: dict[str, Callable[[States, Mask], Vectors]] = {
    "cls": _first,
    "mean": _mean,
    "last": _last,
    "max": _max,
    "mean_sqrt_len": _mean_sqrt_len,
    "weighted_mean": _weighted_mean,
}
