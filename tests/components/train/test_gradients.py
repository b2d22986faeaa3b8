"""One step's gradients: exact in bounded memory, and shared between processes, with dropout on."""

import socket
from pathlib import Path

import pytest
import torch

from components.shared import checkpoint
from components.train.loop.gradients import step_slices
from components.train.loop.model import base_model
from components.train.loss import disj_infonce
from tests.components.train.gradients_of import NUM_ROWS, gradients_of, make_batch
from tests.components.train.learnable import config
from tests.started import Started


def relative_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("encode_rows", [1, 4, 64])
def test_sorted_slices_give_the_gradients_of_one_padded_batch(inputs: Path, encode_rows: int) -> None:
    model, batch = checkpoint.load(str(inputs / "base")).eval(), make_batch(inputs)
    queries, passages = (
        model(*model.pad(tokens))
        for tokens in (model.tokenize_queries(batch.queries), model.tokenize_passages(batch.passages))
    )
    value = disj_infonce(queries @ passages.T, batch.targets.is_positive, batch.targets.is_candidate, 0.1)
    torch.autograd.backward(value)
    expected = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    loss, gradients = gradients_of(inputs, dropout=False, encode_rows=encode_rows)
    assert loss == pytest.approx(value.item(), rel=1e-5)
    assert relative_difference(gradients, expected) < 1e-5


@pytest.mark.parametrize("encode_rows", [1, 4])
def test_any_number_of_held_rows_gives_the_same_gradients_with_dropout(inputs: Path, encode_rows: int) -> None:
    loss, gradients = gradients_of(inputs, encode_rows=encode_rows)
    for held_rows in (1, 2, 5, 13, NUM_ROWS):
        again, its = gradients_of(inputs, encode_rows=encode_rows, held_rows=held_rows)
        assert again == loss
        assert relative_difference(its, gradients) < 1e-5


def test_dropout_is_on_and_of_every_step_another(inputs: Path) -> None:
    losses = {gradients_of(inputs, step=step)[0] for step in range(3)} | {gradients_of(inputs, dropout=False)[0]}
    assert len(losses) == 4
    assert gradients_of(inputs, step=1)[0] in losses


def test_gradient_checkpointing_changes_no_gradient_with_dropout(inputs: Path) -> None:
    model = base_model(config(inputs, gradient_checkpointing="yes"))
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    loss, gradients = gradients_of(inputs, gradient_checkpointing="yes")
    expected_loss, expected = gradients_of(inputs)
    assert loss == expected_loss
    assert relative_difference(gradients, expected) < 1e-5


def test_bf16_gradients_are_those_of_fp32_to_its_digits(inputs: Path) -> None:
    loss, gradients = gradients_of(inputs, precision="bf16", dropout=False)
    expected_loss, expected = gradients_of(inputs, dropout=False)
    # bf16 keeps 8 bits: 2^-8 = 0.004 a product.
    assert gradients.dtype == torch.float32
    assert loss == pytest.approx(expected_loss, rel=0.02)
    assert 1e-4 < relative_difference(gradients, expected) < 0.1


def test_slices_are_sorted_by_length_and_cover_every_row_once() -> None:
    lengths = [3, 9, 1, 7, 5]
    slices = step_slices([[0] * 2] * 3, [[0] * length for length in lengths], encode_rows=2, seed=0, step=0)
    assert [its.rows for its in slices] == [[0, 1], [2], [4, 6], [7, 3], [5]]
    assert len({its.seed for its in slices}) == len(slices)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("held_rows", [0, 2])
def test_several_processes_give_the_gradients_of_one_with_dropout(inputs: Path, count: int, held_rows: int) -> None:
    loss, gradients = gradients_of(inputs, encode_rows=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free.getsockname()[1]),
            "WORLD_SIZE": str(count),
            "OMP_NUM_THREADS": "1",
        }
    flags = (str(inputs), str(held_rows), str(inputs / "found"))
    started = [
        Started("tests.components.train.gradients_of", *flags, environment={**place, "RANK": str(rank)})
        for rank in range(count)
    ]
    assert [process.wait() for process in started] == [0] * count
    for rank in range(count):
        its_loss, its_gradients = torch.load(inputs / f"found-{rank}")
        assert its_loss == pytest.approx(loss, rel=1e-5)
        assert relative_difference(its_gradients, gradients) < 1e-5
