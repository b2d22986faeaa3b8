"""The loss and the gradients of one step: the same whatever fits into memory and however many processes share the work.

Three facts make that so. Texts are encoded in slices of similar length, whose rows depend on the batch only. A slice's
dropout is seeded by (seed, step, slice), so encoding it again, or in another process, gives the same vectors. And the
loss is computed from all vectors of the step in every process, after which each encoder pass needs only the gradient of
its own vectors (GradCache).

Source: GradCache, arXiv 2101.06983.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from components.shared.checkpoint import DualEncoder
from components.shared.encoding.matryoshka import parse_weights
from components.shared.hashing import content_key
from components.train.config import TrainConfig
from components.train.labels.data import Batch
from components.train.loop.cuts import loss_over_cuts
from components.train.loop.processes import Processes

# Gradients travel in blocks of this many numbers: large enough for the network, small beside a model.
_BLOCK_NUMBERS = 1 << 24


@dataclass(frozen=True)
class Slice:
    """Texts that are encoded together; `rows` are their places among all texts of the step, queries first."""

    rows: list[int]
    token_ids: list[list[int]]
    seed: int


def accumulate_gradients(
    model: DualEncoder,
    batch: Batch,
    loss: Callable[[Float[Tensor, "query passage"]], Float[Tensor, ""]],
    *,
    config: TrainConfig,
    processes: Processes,
    step: int,
) -> tuple[float, int]:
    """Adds the gradients of the whole step, over all processes, to the model's; returns loss and number of tokens.

    Of each process's texts `config.held_rows` keep their activations from the first pass (0: all); the others are
    encoded without, and once more for their gradients, one slice at a time.
    """
    queries = model.tokenize_queries(batch.queries)
    passages = model.tokenize_passages(batch.passages, max_tokens=config.train_passage_tokens)
    slices = step_slices(queries, passages, encode_rows=config.encode_rows, seed=config.seed, step=step)
    mine = slices[processes.rank :: processes.count]
    held = _num_held(mine, config.held_rows)
    vectors = torch.zeros(len(queries) + len(passages), model.dimension, device=processes.device)
    graphs: list[Tensor | None] = []
    for number, piece in enumerate(mine):
        with torch.set_grad_enabled(number < held):
            encoded = encode_slice(model, piece, config.precision)
        vectors[piece.rows] = encoded.detach()
        graphs.append(encoded if number < held else None)
    processes.sum_up(vectors)
    vectors.requires_grad_()
    value = loss_over_cuts(
        vectors, len(queries), loss, settings=model.settings, weights=parse_weights(config.matryoshka_weights)
    )
    torch.autograd.backward(value)
    assert vectors.grad is not None
    for number, piece in enumerate(mine):
        # Out of the list before the backward pass, so that its activations are given back after it.
        graph, graphs[number] = graphs[number], None
        torch.autograd.backward(
            encode_slice(model, piece, config.precision) if graph is None else graph, vectors.grad[piece.rows]
        )
    _sum_gradients(model, processes)
    return float(value.detach()), sum(map(len, queries)) + sum(map(len, passages))


def step_slices(
    queries: Sequence[list[int]], passages: Sequence[list[int]], *, encode_rows: int, seed: int, step: int
) -> list[Slice]:
    """Queries, then passages, longest first in slices of `encode_rows`: half the time of one padded batch on a CPU."""
    slices: list[Slice] = []
    for first_row, token_ids in ((0, queries), (len(queries), passages)):
        order = sorted(range(len(token_ids)), key=lambda row, row_ids=token_ids: -len(row_ids[row]))  # type: ignore[misc]
        for start in range(0, len(order), encode_rows):
            rows = order[start : start + encode_rows]
            dropout = int(content_key(seed, "dropout", step, len(slices))[:15], 16)
            slices.append(Slice([first_row + row for row in rows], [token_ids[row] for row in rows], dropout))
    return slices


def _num_held(slices: Sequence[Slice], held_rows: int) -> int:
    """Slices, from the first, whose activations stay: queries and the longest passages, which cost most."""
    if held_rows == 0:
        return len(slices)
    number = total = 0
    while number < len(slices) and (total := total + len(slices[number].rows)) <= held_rows:
        number += 1
    return number


def encode_slice(model: DualEncoder, piece: Slice, precision: str) -> Float[Tensor, "text dimension"]:
    """Vectors of a slice, in fp32 however they were computed, with its own dropout."""
    torch.manual_seed(piece.seed)
    ids, mask = model.pad(piece.token_ids)
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        vectors: Tensor = model(ids, mask)
    return vectors.float()


def _sum_gradients(model: DualEncoder, processes: Processes) -> None:
    if processes.count == 1:
        return
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # A process without a slice has no gradient at all; a weight that nobody used must stay without one, as in one
    # process.
    used = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=processes.device)
    processes.sum_up(used)
    block: list[Tensor] = []
    for parameter, count in zip(trained, used.tolist(), strict=True):
        if not count:
            continue
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        block.append(parameter.grad)
        if sum(gradient.numel() for gradient in block) >= _BLOCK_NUMBERS:
            _sum_block(block, processes)
            block = []
    if block:
        _sum_block(block, processes)


def _sum_block(block: Sequence[Tensor], processes: Processes) -> None:
    flat = torch.cat([gradient.flatten() for gradient in block])
    processes.sum_up(flat)
    sums = torch.split(flat, [gradient.numel() for gradient in block])
    for gradient, summed in zip(block, sums, strict=True):
        gradient.copy_(summed.view_as(gradient))
