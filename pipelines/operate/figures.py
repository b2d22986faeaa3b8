"""What came of a run, as far as this machine can read it: the gate's verdict with its reasons, and what was measured.

On Argo the evaluation lies in the artifact root; on Kubeflow the run left a record of its outcome beside its state.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from components.shared.contract.outcome import read_record
from components.shared.contract.verdict import VERDICT, read_verdict
from components.shared.manifest import read_manifest
from pipelines import argo, flow
from pipelines.cluster.places import STATE
from pipelines.operate.runs import Run

# A person waits, and a bucket that only pods can reach answers never.
_STORE_SECONDS = "15"
_EVALUATION = "evaluation"
_RECORDED = "run_"


def figures(run: Run) -> list[str]:
    """Lines about what the run came to; one that says why where that cannot be read from here."""
    where = str(run.parameters.get(argo.ROOT) or run.parameters.get(STATE) or "")
    if not where:
        return []
    try:
        with _little_patience():
            return list(_of_artifacts(where) if argo.ROOT in run.parameters else _of_record(where, run))
    except (OSError, ValueError) as error:
        return [f"figures: cannot be read from here ({error})"]


def _of_artifacts(root: str) -> Iterator[str]:
    uri = f"{root.rstrip('/')}/{_EVALUATION}"
    metrics = read_manifest(uri).metrics
    if VERDICT in metrics:
        verdict = read_verdict(uri)
        yield f"gate: {verdict.word}"
        yield from (f"- {reason}" for reason in verdict.reasons)
    yield from _measured(metrics)
    yield f"report: {uri}/report.html"


def _of_record(state_uri: str, run: Run) -> Iterator[str]:
    outcome = read_record(f"{state_uri.rstrip('/')}/records", f"runs/{run.identifier}/outcome")
    if outcome is None:
        yield "figures: the run left no record of its outcome"
        return
    if outcome["reason"]:
        yield f"reason: {outcome['reason']}"
    metrics = {name.removeprefix(_RECORDED): value for name, value in outcome.items() if name.startswith(_RECORDED)}
    if "gate_passed" in metrics:
        yield f"gate: {'pass' if metrics['gate_passed'] else 'fail'}"
    yield from _measured(metrics)


def _measured(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The numbers that a platform's page shows of the evaluation too."""
    shown = next(task.shown for task in flow.FLOW if task.makes == _EVALUATION)
    for name in shown:
        if isinstance(value := metrics.get(name), int | float) and name != "gate_passed":
            yield f"{name}: {value:.4g}"


@contextmanager
def _little_patience() -> Iterator[None]:
    variable = "RETRIEVER_STORE_SECONDS"
    before = os.environ.get(variable)
    os.environ.setdefault(variable, _STORE_SECONDS)
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
