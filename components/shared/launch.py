"""How every job starts and ends: flags -> config -> job, exit codes, and the executor output that Kubeflow reads.

Exit codes: 0 done, 2 usage, 65 bad data, 75 transient (retry), 143 ended by SIGTERM. `--executor-input` is the JSON
that a KFP container component passes as `{{$}}`; local KFP collects output artifacts only from the file it names.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import orjson
import tyro

from components.shared import log, storage
from components.shared.manifest import BusyError, Config, compute_identity, input_digests, is_finished, read_manifest
from components.shared.telemetry import JobTelemetry

EXIT_OK, EXIT_USAGE, EXIT_BAD_DATA, EXIT_TRANSIENT, EXIT_TERMINATED = 0, 2, 65, 75, 143
_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN)

AnyConfig = TypeVar("AnyConfig", bound=Config)


class TransientError(OSError):
    """Something outside failed that may work later: an endpoint, a disk. Work done so far is kept."""


def launch(component: str, config_class: type[AnyConfig], job: Callable[[AnyConfig], None], argv: Sequence[str] | None = None) -> None:
    """Runs a job from command-line flags and exits with a code that says whether a retry can help."""
    arguments, executor_input = _split_executor_input(list(sys.argv[1:] if argv is None else argv))
    config = tyro.cli(config_class, args=arguments, prog=f"python -m components.{component}", use_underscores=False)
    signal.signal(signal.SIGTERM, _terminate)
    telemetry = JobTelemetry(component)
    code = _run(component, config, job)
    metrics = _metrics(config) if code == EXIT_OK else {}
    telemetry.finish(succeeded=code == EXIT_OK, metrics=metrics)
    if code == EXIT_OK and executor_input:
        write_executor_output(orjson.loads(executor_input), metrics)
    sys.exit(code)


def _run(component: str, config: AnyConfig, job: Callable[[AnyConfig], None]) -> int:
    try:
        if is_finished(config.output_uri, compute_identity(component, config, input_digests(config))):
            log.event(f"{component}: unchanged, nothing to do", artifact=config.output_uri)
        else:
            job(config)
    except (TransientError, BusyError) as error:
        log.error(f"{component} stopped", problem=str(error), remedy="run it again; finished work is kept")
        return EXIT_TRANSIENT
    except ValueError as error:
        log.error(f"{component} stopped", problem=str(error))
        return EXIT_BAD_DATA
    except FileNotFoundError as error:
        log.error(f"{component} stopped", problem=str(error), remedy="check the path")
        return EXIT_BAD_DATA
    except OSError as error:
        if error.errno not in _TRANSIENT:
            raise
        log.error(f"{component} stopped", problem=str(error), remedy="free the disk or wait, then run it again; finished work is kept")
        return EXIT_TRANSIENT
    except KeyboardInterrupt:
        log.error(f"{component} stopped", problem="interrupted", remedy="run it again; finished work is kept")
        return EXIT_TERMINATED
    return EXIT_OK


def write_executor_output(executor_input: dict[str, Any], metrics: dict[str, float]) -> None:
    """Writes the JSON in which KFP's local runner looks for output artifacts, with the job's metrics as metadata."""
    outputs = executor_input["outputs"]
    artifacts = {}
    for name, listed in outputs.get("artifacts", {}).items():
        (first,) = listed["artifacts"]
        artifacts[name] = {"artifacts": [{"name": first.get("name", name), "uri": first["uri"], "metadata": metrics}]}
    content = orjson.dumps({"artifacts": artifacts, "parameterValues": {}}, option=orjson.OPT_SERIALIZE_NUMPY)
    path = Path(outputs["outputFile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(str(path), content)


def _split_executor_input(arguments: list[str]) -> tuple[list[str], str]:
    if "--executor-input" not in arguments:
        return arguments, ""
    position = arguments.index("--executor-input")
    return arguments[:position] + arguments[position + 2 :], arguments[position + 1]


def _metrics(config: Config) -> dict[str, float]:
    recorded = read_manifest(config.output_uri).metrics
    return {name: float(value) for name, value in recorded.items() if isinstance(value, int | float)}


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # Unwinds through the context managers, which flush journals and release locks, then exits with SIGTERM's code.
    log.warning("SIGTERM: stopping; finished work is kept", pid=os.getpid())
    raise SystemExit(EXIT_TERMINATED)
