"""Loss and gradients of one step over a tiny collection; run as a module it is one of several processes that share it.

RANK=.. WORLD_SIZE=.. python -m tests.components.train.gradients_of <inputs folder> <held rows> <output file>
"""

import sys
from functools import partial
from pathlib import Path

import torch

from components.shared.dataset import Dataset
from components.train.curriculum import Stage
from components.train.labels.data import Batch, batches
from components.train.labels.groups import TrainingGroup
from components.train.loop.gradients import accumulate_gradients
from components.train.loop.model import base_model
from components.train.loop.processes import Processes, joined_processes
from components.train.loss import batch_loss
from tests.components.train.learnable import config

STAGE = Stage("llm", "llm")
# 6 queries and their 18 distinct passages.
NUM_ROWS = 24


def make_batch(inputs: Path) -> Batch:
    groups = [TrainingGroup(f"q{n}", (f"p{n}",), (f"p{n + 6}", f"p{n + 12}")) for n in range(6)]
    (batch,) = batches(groups, Dataset(inputs / "dataset"), stage=STAGE, epoch=0, batch_queries=6, group_size=3, seed=0)
    assert len(batch.queries) + len(batch.passages) == NUM_ROWS
    return batch


def gradients_of(
    inputs: Path, *, processes: Processes | None = None, dropout: bool = True, step: int = 0, **settings: object
) -> tuple[float, torch.Tensor]:
    """The loss and all gradients as one vector."""
    its = config(inputs, **settings)
    model = base_model(its).train(dropout)
    loss = partial(
        batch_loss, "disj_infonce", targets=make_batch(inputs).targets, loss_temperature=0.1, utility_temperature=1.0
    )
    value, _ = accumulate_gradients(
        model, make_batch(inputs), loss, config=its, processes=processes or Processes(), step=step
    )
    return value, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


if __name__ == "__main__":
    with joined_processes() as processes:
        # One row a slice, so that every process has some.
        found = gradients_of(Path(sys.argv[1]), processes=processes, held_rows=int(sys.argv[2]), encode_rows=1)
        torch.save(found, f"{sys.argv[3]}-{processes.rank}")
