"""The training loop, and the state from which a killed one continues bit for bit.

The order of the data is a pure function of (seed, stage, epoch), so the state is: weights, optimiser, random generators, and
where we are. Dropout draws from torch's generator, which is why that is part of it.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from components.shared import log, storage
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.telemetry import MetricLines
from components.train.config import TrainConfig
from components.train.curriculum import Stage
from components.train.data import Batch, batches, num_batches
from components.train.dev import DevSet, measure_dev
from components.train.groups import TrainingGroup
from components.train.loss import batch_loss

_NO_DECAY = ("bias", "LayerNorm.weight", "layer_norm.weight", "norm.weight")


@dataclass
class Position:
    """Where training is: `batch` batches of this epoch of this stage are done."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_ndcg: float = -math.inf
    best_step: int = 0


class Trainer:
    """Runs stages over their groups; keeps the best weights by dev nDCG@10 (the last ones where nothing can be measured)."""

    def __init__(
        self, model: DualEncoder, dataset: Dataset, dev: DevSet, config: TrainConfig, *, state_uri: str, best_path: Path, lines: MetricLines
    ) -> None:
        """Takes what training needs; `state_uri` is a file, local or gs://, that need not exist yet."""
        self._model, self._dataset, self._dev, self._config = model, dataset, dev, config
        self._state_uri, self._best_path, self._lines = state_uri, best_path, lines
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)
        self.position = Position()

    def run(self, stages: Sequence[tuple[Stage, list[TrainingGroup]]]) -> None:
        """Trains all stages in order, from the saved state where there is one; leaves the best weights in the model."""
        torch.manual_seed(self._config.seed)
        saved = self._read_state()
        if saved is None:
            self._evaluate("untrained")
        total = sum(stage.epochs * num_batches(len(groups), self._config.batch_queries) for stage, groups in stages)
        with log.Progress("training", total=total, unit="steps", done=self.position.step) as bar:
            for number, (stage, groups) in enumerate(stages):
                if number >= self.position.stage:
                    self._run_stage(stage, groups, saved, bar)
                    saved = None
                    self.position = Position(stage=number + 1, **self._lasting())
        if self._best_path.exists():
            self._model.load_state_dict(torch.load(self._best_path, map_location=self._device, weights_only=True))

    def _run_stage(self, stage: Stage, groups: list[TrainingGroup], saved: dict[str, Any] | None, bar: log.Progress) -> None:
        config = self._config
        per_epoch = num_batches(len(groups), config.batch_queries)
        optimizer = torch.optim.AdamW(_parameter_groups(self._model, config.weight_decay), lr=stage.learning_rate)
        schedule = _schedule(optimizer, stage.epochs * per_epoch, config.warmup_share)
        if saved is not None:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        evaluate_every = max(1, per_epoch // config.evaluations_per_epoch)
        self._model.train()
        for epoch in range(self.position.epoch, stage.epochs):
            for batch in self._batches(stage, groups, epoch):
                values = self._step(stage, batch, optimizer, schedule)
                self.position.epoch, self.position.batch, self.position.step = epoch, self.position.batch + 1, self.position.step + 1
                self._lines.write(step=self.position.step, stage=stage.name, epoch=epoch, **values)
                bar.add(loss=values["loss"], dev_ndcg_10=self.position.best_ndcg)
                if self.position.batch == per_epoch or self.position.batch % evaluate_every == 0:
                    self._evaluate(stage.name)
                    self._write_state(optimizer, schedule)
                elif self.position.step % config.checkpoint_steps == 0:
                    self._write_state(optimizer, schedule)
            self.position.batch = 0

    def _batches(self, stage: Stage, groups: list[TrainingGroup], epoch: int) -> Iterator[Batch]:
        config = self._config
        return batches(
            groups,
            self._dataset,
            stage=stage,
            epoch=epoch,
            batch_queries=config.batch_queries,
            group_size=config.group_size,
            seed=config.seed,
            skip=self.position.batch,
        )

    def _step(
        self, stage: Stage, batch: Batch, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler
    ) -> dict[str, float]:
        start, learning_rate = time.monotonic(), optimizer.param_groups[0]["lr"]
        query_ids, passage_ids = self._model.tokenize_queries(batch.queries), self._model.tokenize_passages(batch.passages)
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._config.precision == "bf16"):
            queries, passages = self.encode(query_ids), self.encode(passage_ids)
        # The scores too are fp32: in bf16 the inner products of a close race are equal.
        scores = queries.float() @ passages.float().T
        temperatures = {"loss_temperature": self._config.loss_temperature, "utility_temperature": stage.utility_temperature}
        loss = batch_loss(stage.loss, scores, batch.targets.to(self._device), **temperatures)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        tokens = sum(map(len, query_ids)) + sum(map(len, passage_ids))
        return {
            "loss": float(loss.detach()),
            "gradient_norm": float(norm),
            "learning_rate": learning_rate,
            "positives_per_query": float(batch.targets.is_positive.sum(-1).float().mean()),
            "masked_pairs": batch.num_masked,
            "masked_share": batch.masked_share,
            "tokens_per_second": round(tokens / (time.monotonic() - start), 1),
        }

    def encode(self, token_ids: list[list[int]]) -> Float[Tensor, "text dimension"]:
        """Vectors in the texts' order, encoded in rows of similar length: half the time of one padded batch on a CPU."""
        order = sorted(range(len(token_ids)), key=lambda row: -len(token_ids[row]))
        slices = [order[start : start + self._config.encode_rows] for start in range(0, len(order), self._config.encode_rows)]
        vectors = torch.cat([self._model(*self._model.pad([token_ids[row] for row in rows])) for rows in slices])
        inverse = torch.empty(len(order), dtype=torch.long)
        inverse[torch.tensor(order)] = torch.arange(len(order))
        return vectors[inverse.to(vectors.device)]

    def _evaluate(self, stage_name: str) -> None:
        if not self._dev.queries:
            return
        ndcg = measure_dev(self._model, self._dev)
        self._lines.write(step=self.position.step, stage=stage_name, dev_ndcg_10=ndcg)
        log.event("dev", stage=stage_name, step=self.position.step, dev_ndcg_10=ndcg, queries=len(self._dev.queries))
        if ndcg > self.position.best_ndcg:
            self.position.best_ndcg, self.position.best_step = ndcg, self.position.step
            partial = self._best_path.with_suffix(".partial")
            torch.save(self._model.state_dict(), partial)
            partial.rename(self._best_path)

    def _lasting(self) -> dict[str, Any]:
        return {"step": self.position.step, "best_ndcg": self.position.best_ndcg, "best_step": self.position.best_step}

    def _write_state(self, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
        buffer = io.BytesIO()
        state = {
            "position": vars(self.position),
            "model": self._model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self._device.type == "cuda" else [],
            "best": self._best_path.read_bytes() if self._best_path.exists() else b"",
        }
        torch.save(state, buffer)
        storage.write_bytes(self._state_uri, buffer.getvalue())

    def _read_state(self) -> dict[str, Any] | None:
        if not storage.exists(self._state_uri):
            return None
        # Our own file, bound to this job's identity; it holds bytes beside tensors.
        state: dict[str, Any] = torch.load(io.BytesIO(storage.read_bytes(self._state_uri)), map_location="cpu", weights_only=True)
        self.position = Position(**state["position"])
        self._model.load_state_dict(state["model"])
        torch.set_rng_state(state["random"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if state["best"]:
            self._best_path.write_bytes(state["best"])
        log.event("resuming training", step=self.position.step, stage=self.position.stage, epoch=self.position.epoch)
        return state


def _parameter_groups(model: DualEncoder, weight_decay: float) -> list[dict[str, Any]]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [p for name, p in named if not name.endswith(_NO_DECAY)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if name.endswith(_NO_DECAY)], "weight_decay": 0.0},
    ]


def _schedule(optimizer: torch.optim.Optimizer, num_steps: int, warmup_share: float) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear rise over the warm-up, then linear fall to zero at the stage's end."""
    warmup = max(1, round(warmup_share * num_steps))

    def factor(step: int) -> float:
        return (step + 1) / warmup if step < warmup else max(0.0, (num_steps - step) / max(1, num_steps - warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
