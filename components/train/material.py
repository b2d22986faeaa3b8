"""What a run learns from, and one training over it: the same in every process, and for every kappa that is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.shared.checkpoint import DualEncoder
from components.shared.dataset import Dataset
from components.shared.records import Annotation
from components.train.config import TrainConfig
from components.train.labels.clicks import Clicks
from components.train.labels.dev import DevSet
from components.train.loop.model import base_model
from components.train.loop.processes import Processes
from components.train.loop.state import Position
from components.train.loop.teaching import Staged, Taught, teach
from components.train.loop.trainer import Trainer
from components.train.loop.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is learnt from, the same in every process; `known_share` is all that the run knows of the human labels.

    `kappas`: what is tried on dev, the default first; none where no stage leaves it open. `restaged`: the stages and
    their groups under a kappa.
    """

    config: TrainConfig
    dataset: Dataset
    annotations: dict[str, Annotation]
    dev: DevSet
    staged: Staged
    known_share: float
    clicks: Clicks | None
    kappas: tuple[float, ...]
    restaged: Callable[[float], Staged]


@dataclass(frozen=True)
class Fitted:
    """A trained model, where its training ended, and what its teachers were."""

    model: DualEncoder
    position: Position
    taught: Taught


def fit(
    material: Material,
    processes: Processes,
    *,
    watch: Watch,
    state_uri: str = "",
    best_path: Path | None = None,
    cache_path: Path | None = None,
) -> Fitted:
    """Trains a base model over all stages, from the saved state where there is one.

    Args:
        material: The stages, and what chooses the best weights.
        processes: Who shares the work; all but the first only encode, and write and measure nothing.
        watch: Where the numbers go.
        state_uri: Of the first process: a file that need not exist yet.
        best_path: Of the first process: where the best weights are kept.
        cache_path: Of the first process: where the vectors of the untrained encoder are kept for a teacher.
    """
    model = base_model(material.config)
    taught = teach(
        material.staged,
        model,
        material.dataset,
        material.dev,
        material.annotations,
        config=material.config,
        known_share=material.known_share,
        processes=processes,
        cache_path=cache_path,
    )
    trainer = Trainer(
        model,
        material.dataset,
        material.dev if processes.is_first else DevSet({}, {}, {}),
        material.config,
        state_uri=state_uri,
        best_path=best_path,
        watch=watch,
        processes=processes,
        teachers=taught.teachers,
    )
    trainer.run(taught.staged)
    return Fitted(model, trainer.position, taught)
