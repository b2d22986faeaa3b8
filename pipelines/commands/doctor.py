"""What this machine has of what the commands need."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pipelines.packaged import find_encoder, find_llm

_PACKAGES = ("torch", "transformers", "onnxruntime", "faiss-cpu", "bm25s", "ir-measures", "starlette", "kfp")
_MEMORY_GIBIBYTES, _DISK_GIBIBYTES = 8, 4


@dataclass(frozen=True)
class Check:
    """One thing looked at; `required` for the demo."""

    name: str
    ok: bool
    state: str
    remedy: str = ""
    required: bool = True


def checks() -> Iterator[Check]:
    """All checks, cheap ones first."""
    yield Check("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer")
    yield Check("cores", True, str(len(os.sched_getaffinity(0))))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield Check(
        "memory",
        memory >= _MEMORY_GIBIBYTES * 0.95,
        f"{memory:.1f} GiB",
        f"the demo is made for {_MEMORY_GIBIBYTES} GiB",
    )
    disk = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Check("free disk here", disk >= _DISK_GIBIBYTES, f"{disk:.1f} GiB", f"the demo wants {_DISK_GIBIBYTES} GiB")
    for package in _PACKAGES:
        yield _package(package)
    yield _model("encoder all-MiniLM-L6-v2", find_encoder)
    yield _model("LLM SmolLM2-135M-Instruct", find_llm)
    yield _optional("GPU", shutil.which("nvidia-smi"), "not needed here; annotation and training at scale want one")
    yield _optional("docker", shutil.which("docker"), "needed to build images and to run the pipeline in containers")
    yield _optional("kubectl", shutil.which("kubectl"), "needed to deploy")


def _package(name: str) -> Check:
    try:
        return Check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(
            name, False, "not installed", "pip install 'retriever-pipeline[demo]' (in a checkout: make install)"
        )


def _model(name: str, find: Callable[[], Path]) -> Check:
    try:
        return Check(name, True, str(find()))
    except (FileNotFoundError, ValueError) as error:
        return Check(name, False, "not usable", str(error))


def _optional(name: str, path: str | None, remedy: str) -> Check:
    return Check(name, path is not None, path or "not found", remedy, required=False)
