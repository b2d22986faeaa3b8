"""Which image runs a component, and whether a cluster can rely on its name.

A reference comes from, in this order: `IMAGE_<COMPONENT>`; a file of digests that `IMAGE_DIGESTS` names; `REGISTRY` and
`TAG`; the file of digests that `make images PUSH=1` left. Kubeflow's cache knows an image by its text, and a node pulls
a tag once, so a tag that moves gives stale hits and stale code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
# Tags that people move from build to build.
_MOVING = frozenset({"", "latest", "main", "master", "dev", "develop", "edge", "nightly", "stable", "test"})
# Whatever its profile, a reference without a registry means Docker Hub, where nobody pushed these images.
_LOCAL_REGISTRY = "retriever"
# Where docker/images.sh leaves the digests of what it pushed.
PUSHED_DIGESTS = Path(__file__).parents[2] / "docker" / "digests.json"


def image(component: str) -> str:
    """The image reference of a component.

    Raises:
        ValueError: Where the file of digests cannot be read, or does not name the component.
    """
    if whole := os.environ.get(f"IMAGE_{component.upper()}"):
        return whole
    if digests := os.environ.get("IMAGE_DIGESTS"):
        return _pinned(Path(digests), component)
    if not {"REGISTRY", "TAG"} & set(os.environ) and PUSHED_DIGESTS.exists():
        return _pinned(PUSHED_DIGESTS, component)
    registry = os.environ.get("REGISTRY", _LOCAL_REGISTRY).rstrip("/")
    tag = os.environ.get("TAG") or metadata.version("retriever-pipeline")
    return f"{registry}/{component}:{tag}"


def image_problems(components: Iterable[str]) -> Iterator[str]:
    """One line for every image that a cluster cannot rely on, with the remedy."""
    for component in sorted(set(components)):
        reference, variable = image(component), f"IMAGE_{component.upper()}"
        if "@" in reference:
            if not _DIGEST.fullmatch(reference):
                yield f"image {reference}: is no digest; write {variable}=registry/{component}@sha256:<64 hex digits>"
            continue
        repository, _, tag = reference.rpartition(":")
        if not repository or "/" in tag or tag in _MOVING:
            yield (
                f"image {reference}: its tag moves, and nodes and Kubeflow's cache keep what it meant first; set TAG "
                f"to a version, or {variable} to a digest"
            )
        elif "REGISTRY" not in os.environ and not os.environ.get(variable):
            yield (
                f"image {reference}: names no registry that a cluster could pull from; set REGISTRY to where "
                "`make images` pushed them (REGISTRY=retriever where a node has them loaded)"
            )


def _pinned(path: Path, component: str) -> str:
    """The reference by digest in a JSON file that maps a component to it.

    Raises:
        ValueError: Where the file cannot be read, or does not name the component.
    """
    try:
        digests = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"IMAGE_DIGESTS={path}: cannot be read ({error}); `make images PUSH=1` writes it") from error
    reference = digests.get(component) if isinstance(digests, dict) else None
    if not isinstance(reference, str) or not _DIGEST.fullmatch(reference):
        raise ValueError(
            f"IMAGE_DIGESTS={path}: component {component} has no reference by digest there ({reference!r}); build and "
            f"push its image, or set IMAGE_{component.upper()}"
        )
    return reference
