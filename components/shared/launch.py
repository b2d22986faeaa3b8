"""How every job starts and ends: flags -> config -> job, exit codes, and the executor output that Kubeflow reads.

Exit codes: 0 done, 2 usage, 65 bad data, 75 transient (retry), 143 ended by SIGTERM. `--executor-input` is the JSON
that a KFP container component passes as `{{$}}`; local KFP collects output artifacts only from the file it names. A
flag whose value is `executor-input` takes the paths of all artifacts of its input from there: KFP renders only the
first one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, get_type_hints

import orjson
import tyro

from components.shared import log
from components.shared.durable import storage
from components.shared.manifest import BusyError, Config, compute_identity, input_digests, is_finished, read_manifest
from components.shared.telemetry import JobTelemetry

EXIT_OK, EXIT_USAGE, EXIT_BAD_DATA, EXIT_TRANSIENT, EXIT_TERMINATED = 0, 2, 65, 75, 143
_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN)

# Set by a local run to its process id: a job whose parent is gone has nobody to work for, and its locks stand in the
# way.
PARENT_VARIABLE = "RETRIEVER_PARENT_PID"
_PR_SET_PDEATHSIG = 1

FROM_EXECUTOR_INPUT = "executor-input"
_WHOLE = re.compile(r"-?\d+\.0+")

AnyConfig = TypeVar("AnyConfig", bound=Config)


class TransientError(OSError):
    """Something outside failed that may work later: an endpoint, a disk. Work done so far is kept."""


def launch(
    component: str,
    config_class: Callable[..., AnyConfig],
    job: Callable[[AnyConfig], None],
    argv: Sequence[str] | None = None,
) -> None:
    """Runs a job from command-line flags and exits with a code that says whether a retry can help."""
    arguments, executor_input = _split_executor_input(list(sys.argv[1:] if argv is None else argv))
    config = parse_flags(component, config_class, arguments, executor_input)
    log.silence_libraries()
    signal.signal(signal.SIGTERM, stop_on_sigterm)
    die_with_parent()
    if os.environ.get("RANK", "0") != "0":
        # One of several processes of a job: the first one speaks for all.
        sys.exit(_run(component, config, job))
    # Left by an exception or by SIGTERM, it pushes a failure.
    with JobTelemetry(component, is_shard=getattr(config, "num_shards", 1) > 1) as telemetry:
        code = _run(component, config, job)
        metrics = _metrics(config) if code == EXIT_OK else {}
        telemetry.finish(succeeded=code == EXIT_OK, metrics=metrics)
    if code == EXIT_OK and executor_input:
        write_executor_output(executor_input, metrics)
    sys.exit(code)


def parse_flags(
    component: str,
    config_class: Callable[..., AnyConfig],
    arguments: Sequence[str],
    executor_input: Mapping[str, Any] | None = None,
) -> AnyConfig:
    """The config that the flags of a job say; values as KFP renders them are understood.

    Exits with code 2 and the usage where a flag is unknown, missing or of a wrong type.
    """
    types = get_type_hints(config_class)
    resolved = [_resolve(argument, types, executor_input or {}) for argument in arguments]
    return tyro.cli(config_class, args=resolved, prog=f"python -m components.{component}", use_underscores=False)


def _resolve(argument: str, types: Mapping[str, type], executor_input: Mapping[str, Any]) -> str:
    flag, equals, value = argument.partition("=")
    field = flag.removeprefix("--").replace("-", "_")
    if not equals or field not in types:
        return argument
    if value == FROM_EXECUTOR_INPUT:
        return f"{flag}={','.join(_input_paths(executor_input, field.removesuffix('_uri')))}"
    # Kubeflow keeps every number as a double: an int from a list or a loop may arrive as 7.0.
    if types[field] is int and _WHOLE.fullmatch(value):
        return f"{flag}={value.partition('.')[0]}"
    return argument


def _input_paths(executor_input: Mapping[str, Any], name: str) -> list[str]:
    artifacts = executor_input.get("inputs", {}).get("artifacts", {})
    if name not in artifacts:
        print(f"the executor input has no artifacts {name!r}; it has {sorted(artifacts)}", file=sys.stderr)  # noqa: T201 - usage
        sys.exit(EXIT_USAGE)
    return [_local_path(artifact["uri"]) for artifact in artifacts[name]["artifacts"]]


def _local_path(uri: str) -> str:
    # Where KFP's launcher puts what it downloads; it tells nobody.
    # Source: LocalPathForURI in the launcher of Kubeflow Pipelines; kfp.dsl.Artifact.path says the same.
    for scheme, folder in (("gs://", "/gcs/"), ("minio://", "/minio/"), ("s3://", "/s3/")):
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    return uri


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
        log.error(
            f"{component} stopped",
            problem=str(error),
            remedy="free the disk or wait, then run it again; finished work is kept",
        )
        return EXIT_TRANSIENT
    except KeyboardInterrupt:
        log.error(f"{component} stopped", problem="interrupted", remedy="run it again; finished work is kept")
        return EXIT_TERMINATED
    return EXIT_OK


def write_executor_output(executor_input: Mapping[str, Any], metrics: dict[str, float]) -> None:
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


def _split_executor_input(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    if "--executor-input" not in arguments:
        return arguments, {}
    position = arguments.index("--executor-input")
    executor_input: dict[str, Any] = orjson.loads(arguments[position + 1])
    return arguments[:position] + arguments[position + 2 :], executor_input


def _metrics(config: Config) -> dict[str, float]:
    recorded = read_manifest(config.output_uri).metrics
    return {name: float(value) for name, value in recorded.items() if isinstance(value, int | float)}


def die_with_parent() -> None:
    """SIGTERM for this process when the one that PARENT_VARIABLE names dies; nothing where it names none."""
    parent = os.environ.get(PARENT_VARIABLE)
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        # It died before the line above.
        raise SystemExit(EXIT_TERMINATED)


def stop_on_sigterm(_signal: int, _frame: FrameType | None) -> None:
    """Signal handler: ends the process with SIGTERM's exit code."""
    # Unwinds through the context managers, which flush journals and release locks, then exits with SIGTERM's code.
    log.warning("SIGTERM: stopping; finished work is kept", pid=os.getpid())
    raise SystemExit(EXIT_TERMINATED)
