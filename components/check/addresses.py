"""Whether a run will find what it needs: every problem by the name of its setting, with what to do."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError, URLError

from components.shared.contract.ending import TransientError
from components.shared.durable import storage
from components.shared.durable.stores import store_seconds

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_HUB = "https://huggingface.co"
_REQUEST_SECONDS, _PAUSE_SECONDS = 30.0, 5.0
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt")
# What weights leave must hold the cache of many prompts, and vLLM takes nine tenths of the GPU.
_SHARE_FOR_WEIGHTS = 0.75


def unreadable(entries: str) -> Iterator[str]:
    """One line for every address of `name=address ...` that cannot be read.

    Raises:
        OSError: Where a store or the hub did not answer as long as we waited.
    """
    for name, _, uri in (entry.partition("=") for entry in entries.split()):
        if not uri:
            continue
        try:
            problem = _problem_of(uri)
        except ValueError as error:
            problem = str(error)
        if problem:
            yield f"{name}: {problem}"


def unwritable(entries: str, run_id: str) -> Iterator[str]:
    """One line for every folder of `name=address ...` that nothing can be written to.

    Raises:
        OSError: Where a store did not answer as long as we waited.
    """
    for name, _, uri in (entry.partition("=") for entry in entries.split()):
        probe = f"{uri.rstrip('/')}/.check-{run_id}"
        try:
            storage.write_bytes(probe, b"")
            storage.delete(probe)
        except (ValueError, PermissionError) as error:
            yield f"{name}: {error}"


def unset(variables: str) -> Iterator[str]:
    """One line for every variable that is empty."""
    for name in variables.split():
        if not os.environ.get(name):
            yield f"variable {name} is empty; see whether the Secret has this key, and --secret names it"


def too_large(llm: str, gpu_gib: float) -> Iterator[str]:
    """A line where the weights in a folder are too large for the GPU; nothing where nobody can tell."""
    if not (llm and gpu_gib) or (not storage.is_remote(llm) and not Path(llm).is_dir()):
        return
    size = sum(size for name, size in storage.file_sizes(llm).items() if name.endswith(_WEIGHTS)) / 2**30
    if size > gpu_gib * _SHARE_FOR_WEIGHTS:
        yield (
            f"{llm}: {size:.0f} GiB of weights, a GPU of {gpu_gib:.0f} GiB has room for "
            f"{gpu_gib * _SHARE_FOR_WEIGHTS:.0f}; choose a profile with larger GPUs, or a quantised LLM"
        )


def _problem_of(uri: str) -> str:
    if storage.is_remote(uri):
        return "" if storage.exists(uri) else f"{uri}: nothing lies there; copy it there, or correct the address"
    if Path(uri).exists():
        return ""
    if not _HUB_NAME.fullmatch(uri.partition("@")[0]):
        return f"{uri}: no pod finds this; name a folder in a bucket, a mounted claim, or a model of the hub (org/name)"
    return "" if os.environ.get("HF_HUB_OFFLINE") else _asked_of_hub(uri.partition("@")[0])


def _asked_of_hub(name: str) -> str:
    """What the hub says against a model; empty where it has it."""
    address = f"{os.environ.get('HF_ENDPOINT', _HUB).rstrip('/')}/api/models/{name}"
    token = os.environ.get("HF_TOKEN", "")
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    deadline = time.monotonic() + store_seconds()
    while True:
        try:
            urllib.request.urlopen(request, timeout=_REQUEST_SECONDS).close()
            return ""
        except HTTPError as error:
            if error.code != HTTPStatus.TOO_MANY_REQUESTS and error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                return (
                    f"{name}: the hub answers {error.code}; correct the name, or give a token that may read it "
                    "(--secret SECRET:HF_TOKEN)"
                )
            problem = f"the hub answers {error.code}"
        except (URLError, OSError) as error:
            problem = str(error)
        if time.monotonic() + _PAUSE_SECONDS > deadline:
            raise TransientError(f"{address}: {problem}; see whether pods may reach the hub, or set HF_ENDPOINT")
        time.sleep(_PAUSE_SECONDS)
