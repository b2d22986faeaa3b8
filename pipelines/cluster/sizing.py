"""`retriever size`: what a server of these artifacts needs, as a patch for the Deployment of k8s/base.

Everything but the encoder's weights is memory-mapped from where it was downloaded to, so memory decides how fast a
search is and disk decides whether the server starts at all. Sizes come from the manifests; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from components.shared.manifest import read_manifest

_MEBIBYTE = 1 << 20
# Python, its libraries, ONNX Runtime's arena and the queue of a busy server.
_PROCESS_BYTES = 512 * _MEBIBYTE
_STEP_BYTES = 256 * _MEBIBYTE


def needs(encoder_bytes: int, other_bytes: int) -> dict[str, str]:
    """Memory and disk of one server.

    Memory is that of the process, of all files once, and of the encoder's weights a second time, which ONNX Runtime
    keeps beside the file. Disk holds two releases, because a new one is loaded beside the old one.
    """
    memory = _PROCESS_BYTES + 2 * encoder_bytes + other_bytes
    disk = 2 * (encoder_bytes + other_bytes) + _STEP_BYTES
    return {"memory": _rounded(memory), "ephemeral-storage": _rounded(disk)}


def patch(encoder_uri: str, index_uri: str, dataset_uri: str = "", *, cpu: str = "2") -> str:
    """A strategic merge patch in YAML.

    Raises:
        ValueError: Where an artifact has no manifest.
    """
    limits = needs(_bytes(encoder_uri), sum(_bytes(uri) for uri in (index_uri, dataset_uri) if uri))
    # A dictionary of its own: the same one twice would become an alias in the YAML.
    resources = {"requests": {"cpu": cpu, **limits}, "limits": dict(limits)}
    container = {"name": "serve", "resources": resources}
    scratch = {"name": "tmp", "emptyDir": {"sizeLimit": limits["ephemeral-storage"]}}
    content: Mapping[str, object] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "retriever-serve"},
        "spec": {"template": {"spec": {"containers": [container], "volumes": [scratch]}}},
    }
    return yaml.safe_dump(content, sort_keys=False)


def _bytes(uri: str) -> int:
    return sum(int(entry["bytes"]) for entry in read_manifest(uri).files.values())


def _rounded(size: int) -> str:
    return f"{-(-size // _STEP_BYTES) * (_STEP_BYTES // _MEBIBYTE)}Mi"
