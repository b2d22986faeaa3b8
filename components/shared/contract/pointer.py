"""The pointer: the file that says which release is served. promote writes it last, serve follows it.

It carries the whole record of its release, so that history, which is written after it, can be mended from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

POINTER_NAME = "pointer.json"
_NEEDED, _OPTIONAL = ("encoder_uri", "index_uri"), ("dataset_uri", "checkpoint_uri")


@dataclass(frozen=True)
class ArtifactUris:
    """Where the three artifacts of a release lie; no dataset is an empty URI."""

    encoder_uri: str
    index_uri: str
    dataset_uri: str = ""


def parse_pointer(uri: str, content: bytes) -> ArtifactUris:
    """The uris that a pointer names; what else stands in it is for people and for promote.

    Raises:
        ValueError: Naming the pointer and what is wrong with it.
    """
    values = pointer_values(uri, content)
    return ArtifactUris(values["encoder_uri"], values["index_uri"], values.get("dataset_uri", ""))


def pointer_values(uri: str, content: bytes) -> dict[str, Any]:
    """Everything that stands in a pointer.

    Raises:
        ValueError: Naming the pointer and what is wrong with it.
    """
    remedy = 'write {"encoder_uri": "...", "index_uri": "...", "dataset_uri": "..."}'
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{uri}: not JSON ({error}); {remedy}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{uri}: not an object; {remedy}")
    for name in (*_NEEDED, *_OPTIONAL):
        value = values.get(name, None if name in _NEEDED else "")
        if not isinstance(value, str) or (name in _NEEDED and not value):
            raise ValueError(f"{uri}: {name} is {value!r}, which is no address; {remedy}")
    if unknown := sorted(name for name in values if name.endswith("_uri") and name not in (*_NEEDED, *_OPTIONAL)):
        raise ValueError(f"{uri}: {unknown[0]} is no artifact of a release; {remedy}")
    return values
