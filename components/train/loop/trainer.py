"""The training loop: stages in order, each with its own optimiser; states to resume from, and the best weights kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from components.shared import log
from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.train.config import TrainConfig
from components.train.curriculum import Stage
from components.train.labels.data import Batch, batches, num_batches
from components.train.labels.dev import DevSet, measure_dev
from components.train.labels.groups import TrainingGroup
from components.train.labels.teacher import Teacher
from components.train.loop.gradients import accumulate_gradients
from components.train.loop.processes import Processes
from components.train.loop.state import (
    Position,
    load_trained_weights,
    read_state,
    read_weights,
    unpack_state,
    write_state,
    write_weights,
)
from components.train.loop.watch import Watch, peak_memory_bytes
from components.train.loss import batch_loss

_NO_DECAY = ("bias", "norm.weight")


class Trainer:
    """Runs stages over their groups; keeps the best weights by dev nDCG@10, or the last where nothing can be measured.

    Of several processes each has a trainer; the first one measures, writes states and has the best weights.
    """

    def __init__(
        self,
        model: DualEncoder,
        dataset: Dataset,
        dev: DevSet,
        config: TrainConfig,
        *,
        state_uri: str,
        best_path: Path | None,
        watch: Watch,
        processes: Processes,
        teachers: Mapping[str, Teacher] | None = None,
    ) -> None:
        """Takes what training needs.

        Args:
            model: Moved to the process's device.
            dataset: Texts of the groups.
            dev: What weights are chosen by; looked at in the first process only.
            config: Sizes, seed, precision.
            state_uri: A file, local or gs://, that need not exist yet.
            best_path: Where the first process keeps the best weights; None in all others.
            watch: Where the numbers go; its lines are part of the state.
            processes: Who shares the work.
            teachers: By the name of the stage that learns from one.
        """
        self._teachers = teachers or {}
        self._model, self._dataset, self._dev, self._config = model, dataset, dev, config
        self._state_uri, self._best_path, self._watch, self._processes = state_uri, best_path, watch, processes
        self._model.to(processes.device)
        self.position = Position()

    def run(self, stages: Sequence[tuple[Stage, list[TrainingGroup]]]) -> None:
        """Trains all stages in order, from the saved state where there is one.

        Leaves the best weights in the first process's model.
        """
        saved = self._resume()
        if saved is None:
            self._evaluate("untrained")
        total = sum(stage.epochs * num_batches(len(groups), self._config.batch_queries) for stage, groups in stages)
        self._watch.start(total=total, done=self.position.step)
        for number, (stage, groups) in enumerate(stages):
            if number >= self.position.stage:
                self._run_stage(stage, groups, saved)
                saved = None
                self.position = replace(self.position, stage=number + 1, epoch=0, batch=0)
        if self._best_path is not None and self._best_path.exists():
            read_weights(self._best_path, self._model)

    def _run_stage(self, stage: Stage, groups: list[TrainingGroup], saved: dict[str, Any] | None) -> None:
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
                self.position.epoch, self.position.batch, self.position.step = (
                    epoch,
                    self.position.batch + 1,
                    self.position.step + 1,
                )
                best = self.position.best_ndcg
                self._watch.step(step=self.position.step, stage=stage.name, epoch=epoch, dev_ndcg_10=best, **values)
                measured = self.position.batch == per_epoch or self.position.batch % evaluate_every == 0
                if measured:
                    self._evaluate(stage.name)
                if measured or self.position.step % config.checkpoint_steps == 0:
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
            teacher=self._teachers.get(stage.name),
        )

    def _step(
        self,
        stage: Stage,
        batch: Batch,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> dict[str, float | int]:
        config, start, learning_rate = self._config, time.monotonic(), optimizer.param_groups[0]["lr"]
        loss = partial(
            batch_loss,
            stage.loss,
            targets=batch.targets.to(self._processes.device),
            loss_temperature=config.loss_temperature,
            utility_temperature=stage.utility_temperature,
        )
        optimizer.zero_grad(set_to_none=True)
        value, tokens = accumulate_gradients(
            self._model, batch, loss, config=config, processes=self._processes, step=self.position.step
        )
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.max_gradient_norm)
        optimizer.step()
        schedule.step()
        return {
            "loss": value,
            "gradient_norm": float(norm),
            "learning_rate": learning_rate,
            "positives_per_query": float(batch.targets.is_positive.sum(-1).float().mean()),
            "masked_pairs": batch.num_masked,
            "masked_share": batch.masked_share,
            "tokens_per_second": round(tokens / (time.monotonic() - start), 1),
            "peak_memory_bytes": peak_memory_bytes(self._processes.device),
        }

    def _evaluate(self, stage_name: str) -> None:
        if not self._dev.queries or self._best_path is None:
            return
        ndcg = measure_dev(self._model, self._dev)
        self._watch.dev(step=self.position.step, stage=stage_name, dev_ndcg_10=ndcg)
        log.event("dev", stage=stage_name, step=self.position.step, dev_ndcg_10=ndcg, queries=len(self._dev.queries))
        if self.position.step == 0:
            self.position.base_ndcg = ndcg
        if ndcg > self.position.best_ndcg:
            self.position.best_ndcg, self.position.best_step = ndcg, self.position.step
            write_weights(self._best_path, self._model)

    def _write_state(self, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
        if self._best_path is not None and self._watch.lines_path is not None:
            places = {"best_path": self._best_path, "lines_path": self._watch.lines_path}
            write_state(
                self._state_uri,
                self.position,
                self._model,
                optimizer,
                schedule,
                precision=self._config.precision,
                **places,
            )

    def _resume(self) -> dict[str, Any] | None:
        """The saved state, put into model and position of every process; None where training starts."""
        packed = self._processes.from_first(read_state(self._state_uri) if self._processes.is_first else None)
        if packed is None:
            return None
        state = unpack_state(packed, self._state_uri, precision=self._config.precision)
        self.position = state["position"]
        load_trained_weights(self._model, state["model"])
        if self._best_path is not None and state["best"]:
            self._best_path.write_bytes(state["best"])
        self._watch.restart(state["lines"])
        log.event("resuming training", **asdict(self.position))
        return state


def _parameter_groups(model: DualEncoder, weight_decay: float) -> list[dict[str, Any]]:
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    plain = [parameter for name, parameter in named if name.lower().endswith(_NO_DECAY)]
    decayed = [parameter for name, parameter in named if not name.lower().endswith(_NO_DECAY)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _schedule(
    optimizer: torch.optim.Optimizer, num_steps: int, warmup_share: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear rise over the warm-up, then linear fall to zero at the stage's end."""
    warmup = max(1, round(warmup_share * num_steps))

    def factor(step: int) -> float:
        return (step + 1) / warmup if step < warmup else max(0.0, (num_steps - step) / max(1, num_steps - warmup))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
