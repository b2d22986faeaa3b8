"""From which frequency on a query learns more from its clicks than from the LLM: kappa, chosen by dev nDCG@10.

Each value costs a whole training, so three are tried, as multiples of the median frequency: at kappa = the frequency
both sources weigh alike. What was measured is kept, so that a killed job repeats no training.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import orjson

from components.shared import log
from components.shared.durable import storage
from components.train.curriculum import Stage
from components.train.labels.clicks import Clicks
from components.train.loop.processes import Processes
from components.train.loop.watch import Watch
from components.train.material import Material, fit

# The first is the one that is taken where dev has no label to choose by.
_MULTIPLES = (1.0, 0.25, 4.0)


def kappas_to_try(stages: Sequence[Stage], clicks: Clicks | None) -> tuple[float, ...]:
    """Multiples of the median number of sessions of a query with clicks; none where every stage says its kappa."""
    if clicks is None or not any(stage.tunes_kappa for stage in stages):
        return ()
    median = statistics.median(clicks.frequencies.values()) if clicks.frequencies else 1.0
    return tuple(multiple * median for multiple in _MULTIPLES)


def with_kappa(stages: Sequence[Stage], kappa: float) -> list[Stage]:
    """The stages, with this kappa where one leaves it open."""
    return [replace(stage, kappa=kappa) if stage.tunes_kappa else stage for stage in stages]


def choose_kappa(
    material: Material, processes: Processes, *, scratch: Path | None, place: str
) -> tuple[Material, Mapping[str, float]]:
    """The material under the kappa that is best on dev, and dev nDCG@10 by kappa, as text.

    Args:
        material: With the kappas to try; with none it comes back as it is.
        processes: Who shares the work.
        scratch: Folder of the first process for weights that are not kept.
        place: Address in front of the states and results, in the first process.
    """
    if not material.kappas:
        return material, {}
    if not material.dev.queries:
        log.warning("no dev label may choose kappa: the median frequency is taken", kappa=material.kappas[0])
        return material, {}
    curve = {kappa: _measured(material, kappa, processes, scratch, place) for kappa in material.kappas}
    best = max(curve, key=lambda kappa: curve[kappa])
    named = {f"{kappa:g}": value for kappa, value in curve.items()}
    log.event("kappa chosen on dev", kappa=best, dev_ndcg_10=named)
    return replace(material, staged=material.restaged(best)), named


def _measured(material: Material, kappa: float, processes: Processes, scratch: Path | None, place: str) -> float:
    path = f"{place}-kappa-{kappa:g}.json"
    known = storage.read_bytes(path) if processes.is_first and storage.exists(path) else None
    known = processes.from_first(known)
    if known is None:
        folder = None if scratch is None else scratch / f"kappa-{kappa:g}"
        if folder is not None:
            folder.mkdir(exist_ok=True)
        with contextlib.closing(Watch(None if folder is None else folder / "lines.jsonl")) as watch:
            fitted = fit(
                replace(material, staged=material.restaged(kappa)),
                processes,
                watch=watch,
                state_uri=f"{place}-kappa-{kappa:g}.pt",
                best_path=None if folder is None else folder / "best.pt",
                cache_path=None if scratch is None else scratch / "teacher.npy",
            )
        if processes.is_first:
            known = orjson.dumps(fitted.position.best_ndcg)
            storage.write_bytes(path, known)
        known = processes.from_first(known)
    assert known is not None
    return float(orjson.loads(known))
