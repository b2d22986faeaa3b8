"""Where training is, and the file from which a killed job continues bit for bit.

The order of the data and every dropout mask are pure functions of (seed, stage, epoch, step), so a state is: position,
trained weights, optimiser, learning-rate schedule, the best weights so far, the metric lines up to here, and the
precision they were computed in. Weights that are not trained (under LoRA) come from the base model again.
"""

from __future__ import annotations

import io
import math
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.shared.durable import storage


@dataclass
class Position:
    """`batch` batches of this epoch of this stage are done; `base_ndcg` is dev nDCG@10 before the first step."""

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_ndcg: float = -math.inf
    best_step: int = 0
    base_ndcg: float = -math.inf


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Name -> weight of all that training can change."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    return {name: weight for name, weight in model.state_dict().items() if name not in frozen}


def load_trained_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """The reverse of `trained_weights`."""
    assert set(weights) == set(trained_weights(model)), "the state is of another model"
    model.load_state_dict(weights, strict=False)


def write_weights(path: Path, model: nn.Module) -> None:
    """The trained weights as a file; the old one stays whole when this fails."""
    storage.write_bytes(str(path), _packed(trained_weights(model)))


def read_weights(path: Path, model: nn.Module) -> None:
    """The weights of a file into the model."""
    load_trained_weights(model, torch.load(path, map_location="cpu", weights_only=True))


def write_state(
    uri: str,
    position: Position,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    *,
    best_path: Path,
    lines_path: Path,
    precision: str,
) -> None:
    """Writes the state, or leaves the last one whole.

    Raises:
        OSError: Where there is no room for it.
    """
    content = {
        "position": asdict(position),
        "model": trained_weights(model),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "best": _as_tensor(best_path.read_bytes() if best_path.exists() else b""),
        "lines": _as_tensor(lines_path.read_bytes()),
        "precision": precision,
    }
    storage.write_bytes(uri, _packed(content))


def read_state(uri: str) -> bytes | None:
    """The packed state, where there is one."""
    return storage.read_bytes(uri) if storage.exists(uri) else None


def unpack_state(content: bytes, uri: str, *, precision: str) -> dict[str, Any]:
    """The state that `write_state` wrote.

    Raises:
        ValueError: Where it is no state of ours, or of another precision; names it and the remedy.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        files = {name: state[name].numpy().tobytes() for name in ("best", "lines")}
        unpacked = {**state, **files, "position": Position(**state["position"]), "precision": state["precision"]}
    except (RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{uri}: no training state ({type(error).__name__}); delete it to train from the start"
        ) from error
    if unpacked["precision"] != precision:
        raise ValueError(
            f"{uri}: a state of training in {unpacked['precision']}, and this run trains in {precision}; delete it to "
            "train from the start"
        )
    return unpacked


def _as_tensor(content: bytes) -> Tensor:
    # torch's safe loader reads no bytes object that is empty.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)


def _packed(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
