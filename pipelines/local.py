"""The flow on this machine: the same jobs as on a cluster, in the same order, from the same parameter file.

Each step is the command its container would run, in a process of its own: so memory is given back, an exit code means
the same in both places, and killing one step harms no other. A step whose inputs, settings and code are unchanged is
skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.shared import log
from components.shared.launch import EXIT_BAD_DATA, EXIT_OK, PARENT_VARIABLE
from components.shared.manifest import Config, compute_identity, input_digests, is_finished
from pipelines.packaged import resolve
from pipelines.settings import SECTIONS, Settings


@dataclass(frozen=True)
class LocalStep:
    """One task of the flow: a name that people read, the module that runs, and its config."""

    name: str
    module: str
    config: Config

    @property
    def component(self) -> str:
        """The room whose code decides the step's identity."""
        return self.module.split(".")[1]


class StepError(Exception):
    """A step ended with this exit code; it has said why itself."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} ended with exit code {code}")
        self.code = code


@dataclass
class Tally:
    """What a run did."""

    executed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    peak_mebibytes: float = 0.0


def plan(settings: Settings, workdir: Path) -> list[LocalStep]:
    """The steps of the flow in order; artifacts are folders of the work folder, named as in `pipelines/retriever.py`."""

    def at(name: str) -> str:
        return str(workdir / name)

    def step(name: str, room: str, section: str, **places: str | int) -> LocalStep:
        return LocalStep(name, f"components.{room}", SECTIONS[section](**{**settings[section], **places}))

    base_uri, num_shards = resolve(settings["base"]["checkpoint_uri"]), settings["annotate"]["num_shards"]
    dataset = {"dataset_uri": at("dataset")}
    base = {"encoder_uri": at("base-encoder"), "index_uri": at("base-index")}
    trained = {"encoder_uri": at("encoder"), "index_uri": at("index")}
    compared = {f"base_{name}": uri for name, uri in base.items()} | trained
    llm = {
        "llm_uri": resolve(settings["annotate"]["llm_uri"]),
        "journal_uri": settings["annotate"]["journal_uri"] or at("journal"),
    }
    shards = [at("annotations" if num_shards == 1 else f"annotations-{shard}") for shard in range(num_shards)]
    annotations = {"annotations_uri": ",".join(shards)}
    return [
        step("prepare", "prepare", "prepare", output_uri=at("dataset")),
        step("export (base)", "export", "base", **dataset, checkpoint_uri=base_uri, output_uri=base["encoder_uri"]),
        step(
            "index (base)", "index", "index", **dataset, encoder_uri=base["encoder_uri"], output_uri=base["index_uri"]
        ),
        step("mine", "mine", "mine", **dataset, **base, output_uri=at("pools")),
        *(
            step(
                f"annotate {shard + 1}/{num_shards}",
                "annotate",
                "annotate",
                **dataset,
                **llm,
                pools_uri=at("pools"),
                shard=shard,
                output_uri=uri,
            )
            for shard, uri in enumerate(shards)
        ),
        step("train", "train", "train", **dataset, **annotations, base_uri=base_uri, output_uri=at("checkpoint")),
        step(
            "export", "export", "export", **dataset, checkpoint_uri=at("checkpoint"), output_uri=trained["encoder_uri"]
        ),
        step("index", "index", "index", **dataset, encoder_uri=trained["encoder_uri"], output_uri=trained["index_uri"]),
        step("evaluate", "evaluate", "evaluate", **dataset, **compared, **annotations, output_uri=at("evaluation")),
    ]


def run_steps(steps: Sequence[LocalStep]) -> Tally:
    """Runs what is not done yet, in order.

    Raises:
        StepError: With the exit code of the first step that failed; what was finished before stays.
    """
    tally = Tally()
    start = time.monotonic()
    for number, step in enumerate(steps, start=1):
        label = f"[{number}/{len(steps)}] {step.name}"
        if _unchanged(step):
            log.event(f"{label}: unchanged, skipped", artifact=step.config.output_uri)
            tally.skipped += 1
            continue
        log.event(f"{label}: running")
        seconds, mebibytes = _run(step)
        log.event(f"{label}: done", seconds=round(seconds, 1), peak_mebibytes=round(mebibytes))
        tally.executed += 1
        tally.peak_mebibytes = max(tally.peak_mebibytes, mebibytes)
    tally.seconds = time.monotonic() - start
    return tally


def flags(config: Any) -> list[str]:  # noqa: ANN401 any config dataclass
    """The command-line flags that give exactly this config."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in asdict(config).items()]


def _unchanged(step: LocalStep) -> bool:
    try:
        return is_finished(
            step.config.output_uri, compute_identity(step.component, step.config, input_digests(step.config))
        )
    except ValueError as error:
        log.error(f"{step.name}: an artifact is damaged", problem=str(error))
        raise StepError(step.name, EXIT_BAD_DATA) from error


def _run(step: LocalStep) -> tuple[float, float]:
    start = time.monotonic()
    environment = {
        **os.environ,
        PARENT_VARIABLE: str(os.getpid()),
        "RETRIEVER_LOG": os.environ.get("RETRIEVER_LOG", _log_kind()),
    }
    # A process group of its own: Ctrl-C is ours to hand on, as SIGTERM, which ends a process that is still importing
    # without a traceback.
    process = subprocess.Popen(
        [sys.executable, "-m", step.module, *flags(step.config)], env=environment, process_group=0
    )
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    code = os.waitstatus_to_exitcode(status)
    # wait4 has taken the status: Popen must not wait for it again.
    process.returncode = code
    if code != EXIT_OK:
        raise StepError(step.name, code if code > 0 else 128 - code)
    return time.monotonic() - start, usage.ru_maxrss / 1024


def _log_kind() -> str:
    return "human" if sys.stderr.isatty() else "json"
