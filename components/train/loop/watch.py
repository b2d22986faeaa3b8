"""What a person sees of a running training: JSON lines that survive kill -9, Prometheus gauges, a bar, TensorBoard."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Protocol, runtime_checkable

import orjson
import torch

from components.shared import log
from components.shared.telemetry import JobTelemetry, MetricLines


@runtime_checkable
class _Writer(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Watch:
    """Every fact of a step goes everywhere under one name; of several processes only the first has a `lines_path`."""

    def __init__(self, lines_path: Path | None, *, tensorboard: bool = False) -> None:
        """Appends to the lines; TensorBoard's files lie beside them."""
        self.lines_path = lines_path
        self._lines = None if lines_path is None else MetricLines(lines_path)
        self._tensorboard = (
            _tensorboard(lines_path.parent / "tensorboard") if lines_path is not None and tensorboard else None
        )
        self._bar: log.Progress | None = None
        self.masked_pairs = 0

    def start(self, *, total: int, done: int) -> None:
        """Starts the bar."""
        if self._lines is not None:
            self._bar = log.Progress("training", total=total, unit="steps", done=done)

    def step(self, *, step: int, stage: str, epoch: int, dev_ndcg_10: float, **values: float | int) -> None:
        """One optimiser update; `dev_ndcg_10` is the best so far, for the bar only."""
        self.masked_pairs += int(values["masked_pairs"])
        self._write(step, {"stage": stage, "epoch": epoch}, values)
        if self._bar is not None:
            self._bar.add(loss=values["loss"], dev_ndcg_10=dev_ndcg_10, tokens_per_second=values["tokens_per_second"])

    def dev(self, *, step: int, stage: str, dev_ndcg_10: float) -> None:
        """A measure on the dev queries."""
        self._write(step, {"stage": stage}, {"dev_ndcg_10": dev_ndcg_10})

    def restart(self, lines: bytes) -> None:
        """Goes back to the lines of a state: a killed attempt wrote steps that its successor repeats."""
        if self.lines_path is None:
            return
        assert self._lines is not None
        self._lines.close()
        self.lines_path.write_bytes(lines)
        self._lines = MetricLines(self.lines_path)
        self.masked_pairs = sum(orjson.loads(line).get("masked_pairs", 0) for line in lines.splitlines())

    def close(self) -> None:
        """Ends bar and files."""
        for output in (self._bar, self._lines, self._tensorboard):
            if output is not None:
                output.close()

    def _write(self, step: int, names: dict[str, object], values: dict[str, float | int]) -> None:
        if self._lines is not None:
            self._lines.write(step=step, **names, **values)
            for name, value in {"step": step, **values}.items():
                JobTelemetry.show(f"train_{name}", value)
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)
            self._tensorboard.flush()


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held at once so far: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _tensorboard(folder: Path) -> _Writer:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ValueError(
            "tensorboard=yes needs the package; run `pip install 'retriever-pipeline[tensorboard]'`"
        ) from error
    writer: _Writer = SummaryWriter(str(folder))
    return writer
