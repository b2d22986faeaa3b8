"""The recipe of check: before a run, at its end, and after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson

from components.check.addresses import too_large, unreadable, unset, unwritable
from components.check.config import CheckConfig
from components.shared import log
from components.shared.contract.outcome import failures_since, read_record, write_record
from components.shared.durable import storage
from components.shared.hashing import lines_digest
from components.shared.manifest import artifact_writer, read_manifest


def check(config: CheckConfig) -> None:
    """Looks at the run from outside, at the moment that the config says.

    Raises:
        ValueError: Before a run, naming everything that would stop it.
        OSError: Where a store or the hub did not answer as long as we waited.
    """
    findings = {"before": _before, "end": _at_end, "after": _after}[config.moment](config)
    with artifact_writer("check", config) as artifact:
        name = "outcome.json" if config.moment == "after" else "checks.json"
        (artifact.path / name).write_bytes(orjson.dumps(findings, option=orjson.OPT_INDENT_2))
        artifact.metrics.update(findings)


def _before(config: CheckConfig) -> dict[str, Any]:
    write_problems = list(unwritable(config.writable, config.run_id))
    if problems := [*write_problems, *_problems(config)]:
        raise ValueError("; ".join(problems))
    write_record(config.records_uri, f"runs/{config.run_id}/started", {"run_id": config.run_id})
    log.event("everything that the run needs is there", readable=config.readable, writable=config.writable)
    digests = [storage.digest_or_absent(uri) for uri in config.watched.split()]
    return {"digest": digests[0] if len(digests) == 1 else lines_digest(digests) if digests else ""}


def _problems(config: CheckConfig) -> Iterator[str]:
    yield from unreadable(config.readable)
    yield from unset(config.variables)
    yield from too_large(config.llm, config.gpu_gib)


def _at_end(config: CheckConfig) -> dict[str, Any]:
    recorded = read_manifest(config.evaluation_uri).metrics if config.evaluation_uri else {}
    metrics = {name: value for name, value in recorded.items() if isinstance(value, int | float)}
    write_record(config.records_uri, f"runs/{config.run_id}/finished", {"metrics": metrics})
    return metrics


def _after(config: CheckConfig) -> dict[str, Any]:
    """Whether all came through, and if not, why: by what the tasks left, or by a platform whose word can be trusted."""
    name = f"runs/{config.run_id}"
    started = read_record(config.records_uri, f"{name}/started")
    finished = read_record(config.records_uri, f"{name}/finished")
    # A run that failed before its start was written left its reason a little earlier.
    begin = float(started["time"]) if started else time.time() - 3600
    succeeded = config.status == "Succeeded" if config.status else finished is not None
    failures = [] if succeeded else failures_since(config.records_uri, begin)
    outcome: dict[str, Any] = {
        "run_succeeded": int(succeeded),
        "run_seconds": round((float(finished["time"]) if finished else time.time()) - begin, 1),
        "reason": "; ".join(f"{record['task']}: {record['reason']}" for record in failures)
        or _unnamed(config, succeeded=succeeded),
        **{f"run_{name}": value for name, value in (finished or {}).get("metrics", {}).items()},
    }
    write_record(config.records_uri, f"{name}/outcome", outcome)
    report = log.event if succeeded else log.error
    report("the run is over", **outcome)
    return outcome


def _unnamed(config: CheckConfig, *, succeeded: bool) -> str:
    """Why a run failed that left no reason of its own."""
    if succeeded:
        return ""
    if config.status:
        return f"the workflow {config.run_id} ended with {config.status}; its failed nodes say why"
    return "no task left a reason: a pod was lost, ran out of memory or time, or never started"
