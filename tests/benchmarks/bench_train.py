"""Training steps against sentence-transformers, and GradCache's memory against the batch size.

Run: python tests/benchmarks/bench_train.py [--model FOLDER] [--steps 8] [--queries 16] [--passages 8] [--memory-queries
8,16,32]

Speed: the same model, texts, batches, loss (InfoNCE with in-batch negatives, the other groups' hard negatives among
them), optimiser and machine; both sides take turns step by step, so that what else the machine does meets both.
sentence-transformers runs its own MultipleNegativesRankingLoss and tokenisation in the trainer's layout: one padded
column for queries, one a passage slot. Memory: a process of its own for each point, its peak resident size above what
it had before the first step. Times are medians.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from components.shared import checkpoint
from components.train.config import TrainConfig
from components.train.labels.data import Batch
from components.train.loop.gradients import accumulate_gradients
from components.train.loop.processes import Processes
from components.train.loss import Targets, batch_loss
from pipelines.packaged import find_encoder

_WORDS = (
    "the",
    "river",
    "valley",
    "ice",
    "carves",
    "stone",
    "water",
    "light",
    "slowly",
    "under",
    "mountain",
    "forest",
    "glacier",
    "wind",
)
# Words of a passage: lognormal, mean about 75 tokens cut at 128, like web passages; a query has 4 to 12.
_MEAN_LOG, _DEVIATION_LOG, _LONGEST = 4.1, 0.5, 128
_TEMPERATURE, _LEARNING_RATE = 0.05, 1e-5
Texts = list[list[str]]


def make_columns(num_queries: int, num_passages: int, seed: int) -> Texts:
    """Column 0: queries; column 1: their positives; then a hard negative each."""
    random = np.random.default_rng(seed)

    def text(num_words: int) -> str:
        return " ".join(random.choice(_WORDS, size=num_words))

    queries = [text(int(random.integers(4, 13))) for _ in range(num_queries)]
    lengths = random.lognormal(_MEAN_LOG, _DEVIATION_LOG, (num_passages, num_queries)).astype(int) + 3
    return [queries, *([text(length) for length in column] for column in lengths)]


def make_batch(columns: Texts) -> Batch:
    """The same texts as a batch of ours; every passage is a candidate of every query."""
    queries, passages = columns[0], [text for column in columns[1:] for text in column]
    positive = torch.zeros(len(queries), len(passages), dtype=torch.bool)
    positive[torch.arange(len(queries)), torch.arange(len(queries))] = True
    return Batch(
        queries, passages, Targets(positive, torch.ones_like(positive), torch.full(positive.shape, -torch.inf))
    )


class Ours:
    """Steps of the trainer's own code."""

    def __init__(self, folder: Path, **settings: int) -> None:
        its = {
            "dataset_uri": "",
            "annotations_uri": "",
            "checkpoint_uri": str(folder),
            "output_uri": "",
            "loss_temperature": _TEMPERATURE,
        }
        self.config = dataclasses.replace(TrainConfig(**its), **settings)
        lengths = {"query_tokens": 32, "passage_tokens": _LONGEST}
        self.model = checkpoint.load(str(folder), attention="fused", **lengths).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=_LEARNING_RATE)
        self.number = 0

    def step(self, columns: Texts) -> float:
        batch = make_batch(columns)
        temperatures = {"loss_temperature": _TEMPERATURE, "utility_temperature": 1.0}
        loss = partial(batch_loss, "infonce", targets=batch.targets, **temperatures)
        self.optimizer.zero_grad(set_to_none=True)
        value, _ = accumulate_gradients(
            self.model, batch, loss, config=self.config, processes=Processes(), step=self.number
        )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.number += 1
        return value


class Theirs:
    """Steps as SentenceTransformerTrainer makes them: its loss, its tokenisation, a padded batch a column."""

    def __init__(self, folder: Path) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

        self.model = SentenceTransformer(str(folder), device="cpu").train()
        self.model.max_seq_length = _LONGEST
        self.loss = MultipleNegativesRankingLoss(self.model, scale=1 / _TEMPERATURE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=_LEARNING_RATE)

    def step(self, columns: Texts) -> float:
        features = [self.model.preprocess(column) for column in columns]
        self.optimizer.zero_grad(set_to_none=True)
        value = self.loss(features, None)
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(value.detach())


def compare_speed(folder: Path, *, steps: int, num_queries: int, num_passages: int, seed: int) -> None:
    """Prints both sides' median step and their ratio; refuses to when they do not compute the same loss."""
    ours, theirs = Ours(folder), Theirs(folder)
    columns = make_columns(num_queries, num_passages, seed)
    ours.model.eval()
    theirs.model.eval()
    losses = ours.step(columns), theirs.step(columns)
    print(f"loss of the same batch, dropout off: ours {losses[0]:.5f}, sentence-transformers {losses[1]:.5f}")
    assert abs(losses[0] - losses[1]) < 1e-3 * max(1.0, abs(losses[1])), "the two sides train something else"
    ours.model.train()
    theirs.model.train()
    seconds: dict[str, list[float]] = {"ours": [], "sentence-transformers": []}
    for number in range(steps + 1):
        columns = make_columns(num_queries, num_passages, seed + number + 1)
        sides: list[tuple[str, Callable[[Texts], float]]] = [
            ("ours", ours.step),
            ("sentence-transformers", theirs.step),
        ]
        for name, step in sides if number % 2 else reversed(sides):
            start = time.perf_counter()
            step(columns)
            # The first turn warms up allocator and thread pools.
            if number:
                seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(its) for name, its in seconds.items()}
    for name, its in median.items():
        print(f"{name}: {its:.2f} s a step, {1 / its:.2f} steps/s, {num_queries * num_passages / its:.0f} passages/s")
    pairs = [b / a for a, b in zip(seconds["ours"], seconds["sentence-transformers"], strict=True)]
    ratio = median["sentence-transformers"] / median["ours"]
    print(f"ratio of medians {ratio:.2f}; of each pair of steps {min(pairs):.2f} to {max(pairs):.2f}")


def measure_memory(folder: Path, side: str, *, num_queries: int, num_passages: int, held_rows: int) -> float:
    """MiB of peak resident memory that one step adds, after a step over two queries has warmed up everything."""
    its = Theirs(folder) if side == "theirs" else Ours(folder, held_rows=held_rows)
    its.step(make_columns(2, num_passages, 0))
    # The kernel forgets the peak of loading the model.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_mebibytes()
    its.step(make_columns(num_queries, num_passages, 1))
    return _peak_mebibytes() - before


def _peak_mebibytes() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def compare_memory(folder: Path, *, sizes: list[int], num_passages: int) -> None:
    """Prints the memory of growing batches: sentence-transformers, all activations held, and one slice held."""
    print("queries x passages | sentence-transformers MiB | all held MiB | GradCache, 16 rows held MiB")
    for num_queries in sizes:
        cells = []
        for side, held_rows in (("theirs", 0), ("ours", 0), ("ours", 16)):
            arguments = [
                "--point",
                side,
                "--queries",
                str(num_queries),
                "--passages",
                str(num_passages),
                "--held-rows",
                str(held_rows),
            ]
            command = [sys.executable, __file__, "--model", str(folder), *arguments]
            cells.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"{num_queries} x {num_passages} | " + " | ".join(f"{cell:.0f}" for cell in cells), flush=True)


def cut(folder: Path, to: Path, num_layers: int) -> Path:
    """The first layers of a model, so that the memory of large batches is measured in seconds."""
    model = checkpoint.load(str(folder))
    model.transformer.encoder.layer = model.transformer.encoder.layer[:num_layers]
    model.transformer.config.num_hidden_layers = num_layers
    model.save(to)
    return to


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--memory-queries", default="8,16,32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--point", choices=("ours", "theirs"), default=None, help="one measurement of memory, for the script itself"
    )
    parser.add_argument("--held-rows", type=int, default=0)
    flags = parser.parse_args()
    chosen = flags.model or find_encoder()
    if flags.point:
        print(
            measure_memory(
                chosen, flags.point, num_queries=flags.queries, num_passages=flags.passages, held_rows=flags.held_rows
            )
        )
        sys.exit()
    compare_speed(chosen, steps=flags.steps, num_queries=flags.queries, num_passages=flags.passages, seed=flags.seed)
    with tempfile.TemporaryDirectory() as temporary:
        small = cut(chosen, Path(temporary), 2)
        print("peak memory that a step adds, two layers of the model:")
        compare_memory(
            small, sizes=[int(size) for size in flags.memory_queries.split(",")], num_passages=flags.passages
        )
