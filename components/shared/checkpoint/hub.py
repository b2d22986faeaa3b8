"""From the name of a model to the folder with its files: settings are read from files, and a name has none.

A hub name stands for the newest revision, or for one that is named: `org/name@revision`.
"""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from components.shared import log
from components.shared.contract.ending import TransientError
from components.shared.contract.patience import wait_out

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(@(?P<revision>[\w./-]+))?")
# Other forms of the same weights, each as large as those that are read.
_OTHER_FORMS = (
    "*.onnx*",
    "onnx/*",
    "openvino/*",
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.gguf",
    "*.tflite",
    "*.mlmodel",
    "coreml/*",
)


def find_folder(uri: str) -> Path:
    """The folder of a model: the folder itself, or the snapshot of a hub name (downloaded unless it is in the cache).

    Raises:
        ValueError: Where there is neither.
        TransientError: Where the hub did not answer as long as we waited.
    """
    if not uri:
        raise ValueError("no model is named; give a folder, or the name of a model on the hub")
    if Path(uri).is_dir():
        return Path(uri)
    name = _NAME.fullmatch(uri)
    if name is None or Path(uri).exists():
        raise ValueError(f"{uri}: no such folder, and no name of a model on the hub (org/name or org/name@revision)")
    repository, _, revision = uri.partition("@")

    def download() -> str:
        return str(snapshot_download(repository, revision=revision or None, ignore_patterns=list(_OTHER_FORMS)))

    try:
        folder = Path(wait_out(f"model {uri} on the hub", download))
    except TransientError:
        raise
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{uri}: neither a folder nor a model that the hub or its cache on this machine has ({reason}); "
            "give a folder, or download the model first"
        ) from error
    log.event("model of the hub", name=repository, revision=folder.name)
    return folder
