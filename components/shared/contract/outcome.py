"""What really happened in a run, kept beside its state: when it began, which tasks failed, that it came through.

A platform's own word on a run cannot be trusted (Kubeflow says RUNNING of a run whose condition was not taken, and
gives no reason for a failure). So a failing job leaves its reason, and the last task that all came through.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import orjson

from components.shared import log
from components.shared.durable import storage

# Folder of the records, set by the runner of a cluster for every task.
RECORDS_VARIABLE = "RETRIEVER_RECORDS"


def write_record(records_uri: str, name: str, facts: Mapping[str, Any]) -> None:
    """Writes a record of a run with the time, replacing an earlier one of this name."""
    content = {"time": time.time(), **facts}
    storage.write_bytes(f"{records_uri.rstrip('/')}/{name}.json", orjson.dumps(content, option=orjson.OPT_INDENT_2))


def read_record(records_uri: str, name: str) -> dict[str, Any] | None:
    """A record of a run; None where there is none."""
    try:
        record: dict[str, Any] = orjson.loads(storage.read_bytes(f"{records_uri.rstrip('/')}/{name}.json"))
    except FileNotFoundError:
        return None
    return record


def leave_failure(component: str, code: int, reason: str) -> None:
    """Leaves why this task failed where the end of the run looks for it; never fails, and does nothing elsewhere."""
    records_uri = os.environ.get(RECORDS_VARIABLE, "")
    if not records_uri:
        return
    task = os.environ.get("RETRIEVER_TASK", component)
    # One a pod: shards of a task fail side by side.
    name = f"failures/{_plain(task)}-{_plain(os.environ.get('HOSTNAME', '0'))}"
    try:
        write_record(records_uri, name, {"task": task, "code": code, "reason": reason})
    except (OSError, ValueError) as error:
        log.warning("the failure could not be recorded", records=records_uri, problem=str(error))


def failures_since(records_uri: str, start: float) -> list[dict[str, Any]]:
    """Failures that tasks left at or after a time, in seconds since the epoch, oldest first."""
    folder = f"{records_uri.rstrip('/')}/failures"
    records = [read_record(folder, name.removesuffix(".json")) for name in storage.list_files(folder)]
    return sorted(
        (record for record in records if record is not None and record["time"] >= start),
        key=lambda record: float(record["time"]),
    )


def _plain(text: str) -> str:
    return "".join(character if character.isalnum() or character == "-" else "-" for character in text)
