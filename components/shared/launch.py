"""How every job starts and ends: flags -> config -> job, an exit code, its reason, and what Kubeflow reads.

Exit codes: 0 done, 2 usage, 65 bad data, 75 transient (retry), 143 ended by SIGTERM. A flag whose value is
`executor-input` takes the paths of all artifacts of its input from the executor input: KFP renders only the first one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, get_type_hints

import tyro

from components.shared import log
from components.shared.contract.ending import EXIT_BAD_DATA as EXIT_BAD_DATA
from components.shared.contract.ending import EXIT_OK as EXIT_OK
from components.shared.contract.ending import EXIT_TERMINATED as EXIT_TERMINATED
from components.shared.contract.ending import EXIT_TRANSIENT as EXIT_TRANSIENT
from components.shared.contract.ending import EXIT_USAGE as EXIT_USAGE
from components.shared.contract.ending import TransientError as TransientError
from components.shared.contract.ending import tell_platform
from components.shared.contract.executor import (
    input_paths,
    read_executor_input,
    write_executor_output,
    write_output_files,
)
from components.shared.contract.needs import check_needs, promised
from components.shared.contract.outcome import leave_failure
from components.shared.contract.stopping import die_with_parent, heed_sigterm
from components.shared.manifest import BusyError, Config, compute_identity, input_digests, is_finished, read_manifest
from components.shared.telemetry import JobTelemetry
from components.shared.tracing.spans import fail, note, process_span

_TRANSIENT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EAGAIN)

FROM_EXECUTOR_INPUT = "executor-input"
_WHOLE = re.compile(r"-?\d+\.0+")
_BOX = re.compile(r"[\u2500-\u257f]|\x1b\[[0-9;]*m")

AnyConfig = TypeVar("AnyConfig", bound=Config)


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
    heed_sigterm()
    die_with_parent()
    if os.environ.get("RANK", "0") != "0":
        # One of several processes of a job: the first one speaks for all.
        sys.exit(_run(component, config, job))
    # Left by an exception or by SIGTERM, it pushes a failure.
    with JobTelemetry(component, is_shard=getattr(config, "num_shards", 1) > 1) as telemetry:
        with process_span(f"retriever-{component}", f"job {component}"):
            code = _run(component, config, job)
            note(exit_code=code)
            if code != EXIT_OK:
                fail()
        recorded = read_manifest(config.output_uri).metrics if code == EXIT_OK else {}
        numbers = {name: float(value) for name, value in recorded.items() if isinstance(value, int | float)}
        telemetry.finish(succeeded=code == EXIT_OK, metrics=numbers)
    if code == EXIT_OK:
        write_output_files(recorded)
        if executor_input:
            write_executor_output(executor_input, config.output_uri, recorded)
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
    try:
        resolved = [_resolve(argument, types, executor_input or {}) for argument in arguments]
    except ValueError as error:
        _refuse_usage(str(error))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                config_class, args=resolved, prog=f"python -m components.{component}", use_underscores=False
            )
    except SystemExit as stop:
        sys.stderr.write(said.getvalue())
        if stop.code == EXIT_USAGE:
            tell_platform(f"{component}: {' '.join(_BOX.sub(' ', said.getvalue()).split())}")
        raise


def _refuse_usage(problem: str) -> NoReturn:
    print(problem, file=sys.stderr)  # noqa: T201 - usage
    tell_platform(problem)
    sys.exit(EXIT_USAGE)


def _resolve(argument: str, types: Mapping[str, type], executor_input: Mapping[str, Any]) -> str:
    flag, equals, value = argument.partition("=")
    field = flag.removeprefix("--").replace("-", "_")
    if not equals or field not in types:
        return argument
    if value == FROM_EXECUTOR_INPUT:
        return f"{flag}={','.join(input_paths(executor_input, field.removesuffix('_uri')))}"
    # Kubeflow keeps every number as a double: an int from a list or a loop may arrive as 7.0.
    if types[field] is int and _WHOLE.fullmatch(value):
        return f"{flag}={value.partition('.')[0]}"
    return argument


def _run(component: str, config: AnyConfig, job: Callable[[AnyConfig], None]) -> int:
    try:
        if is_finished(config.output_uri, compute_identity(component, config, input_digests(config))):
            log.event(f"{component}: unchanged, nothing to do", artifact=config.output_uri)
        else:
            check_needs(promised())
            job(config)
    except (TransientError, BusyError) as error:
        return _stopped(component, EXIT_TRANSIENT, str(error), "run it again; finished work is kept")
    except ValueError as error:
        return _stopped(component, EXIT_BAD_DATA, str(error))
    except FileNotFoundError as error:
        return _stopped(component, EXIT_BAD_DATA, str(error), "check the path")
    except OSError as error:
        if error.errno not in _TRANSIENT:
            _crashed(component, error)
            raise
        remedy = "free the disk or wait, then run it again; finished work is kept"
        return _stopped(component, EXIT_TRANSIENT, str(error), remedy)
    except KeyboardInterrupt:
        return _stopped(component, EXIT_TERMINATED, "interrupted", "run it again; finished work is kept")
    except Exception as error:
        _crashed(component, error)
        raise
    return EXIT_OK


def _stopped(component: str, code: int, problem: str, remedy: str = "") -> int:
    """Says why the job ends, in the log and to the platform; the exit code."""
    log.error(f"{component} stopped", problem=problem, **({"remedy": remedy} if remedy else {}))
    reason = f"{problem}; {remedy}" if remedy else problem
    tell_platform(f"{component}: {reason}")
    leave_failure(component, code, reason)
    return code


def _crashed(component: str, error: Exception) -> None:
    """A mistake of ours: its traceback is for the log, its one line for the platform."""
    reason = f"{type(error).__name__}: {error}"
    tell_platform(f"{component}: {reason}")
    leave_failure(component, 1, reason)


def _split_executor_input(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    if "--executor-input" not in arguments:
        return arguments, {}
    position = arguments.index("--executor-input")
    try:
        executor_input = read_executor_input("".join(arguments[position + 1 : position + 2]))
    except ValueError as error:
        _refuse_usage(str(error))
    return arguments[:position] + arguments[position + 2 :], executor_input
