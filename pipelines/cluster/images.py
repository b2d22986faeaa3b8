"""Which image runs a component, and whether a cluster can rely on its name.

A component has one build or two: `index` for processors, `index-gpu` for NVIDIA GPUs. What holds torch or vLLM is a
build for GPUs in the first place, which runs on processors too. A reference comes from, in this order:
`IMAGE_<BUILD>`; a file of digests that `IMAGE_DIGESTS` names; `REGISTRY` and `TAG`; the file of digests that
`make images PUSH=1` left. Kubeflow's cache knows an image by its text, and a node pulls a tag once, so a tag that moves
gives stale hits and stale code.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from pipelines.resources import Resources

# The components whose image has a variant for GPUs, and how their names and tags end.
GPU_VARIANTS = frozenset({"evaluate", "index", "mine", "serve"})
_ON_GPU = "-gpu"
_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
# Tags that people move from build to build.
_MOVING = frozenset({"", "latest", "main", "master", "dev", "develop", "edge", "nightly", "stable", "test"})
# Whatever its profile, a reference without a registry means Docker Hub, where nobody pushed these images.
_LOCAL_REGISTRY = "retriever"
# Where docker/images.sh leaves the digests of what it pushed.
PUSHED_DIGESTS = Path(__file__).parents[2] / "docker" / "digests.json"


def build_of(component: str, resources: Resources) -> str:
    """The build of a component's image that runs on a machine."""
    return f"{component}{_ON_GPU}" if resources.gpu and component in GPU_VARIANTS else component


def image(build: str) -> str:
    """The image reference of a build.

    Raises:
        ValueError: Where the file of digests cannot be read, or does not name the build.
    """
    if whole := os.environ.get(variable(build)):
        return whole
    if digests := os.environ.get("IMAGE_DIGESTS"):
        return _pinned(Path(digests), build)
    if not {"REGISTRY", "TAG"} & set(os.environ) and PUSHED_DIGESTS.exists():
        return _pinned(PUSHED_DIGESTS, build)
    registry = os.environ.get("REGISTRY", _LOCAL_REGISTRY).rstrip("/")
    tag = os.environ.get("TAG") or metadata.version("retriever-pipeline")
    component = build.removesuffix(_ON_GPU)
    return f"{registry}/{component}:{tag}{build.removeprefix(component)}"


def variable(build: str) -> str:
    """Name of the variable that names an image of one's own for a build."""
    return f"IMAGE_{build.upper().replace('-', '_')}"


def image_problems(builds: Iterable[str]) -> Iterator[str]:
    """One line for every image that a cluster cannot rely on, with the remedy."""
    for build in sorted(set(builds)):
        reference = image(build)
        if "@" in reference:
            if not _DIGEST.fullmatch(reference):
                yield f"image {reference}: is no digest; write {variable(build)}=registry/name@sha256:<64 hex digits>"
            continue
        repository, _, tag = reference.rpartition(":")
        if not repository or "/" in tag or tag.removesuffix(_ON_GPU) in _MOVING:
            yield (
                f"image {reference}: its tag moves, and nodes and Kubeflow's cache keep what it meant first; set TAG "
                f"to a version, or {variable(build)} to a digest"
            )
        elif "REGISTRY" not in os.environ and not os.environ.get(variable(build)):
            yield (
                f"image {reference}: names no registry that a cluster could pull from; set REGISTRY to where "
                "`make images` pushed them (REGISTRY=retriever where a node has them loaded)"
            )


def _pinned(path: Path, build: str) -> str:
    """The reference by digest in a JSON file that maps a build to it.

    Raises:
        ValueError: Where the file cannot be read, or does not name the build.
    """
    try:
        digests = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"IMAGE_DIGESTS={path}: cannot be read ({error}); `make images PUSH=1` writes it") from error
    reference = digests.get(build) if isinstance(digests, dict) else None
    if not isinstance(reference, str) or not _DIGEST.fullmatch(reference):
        variant = " (make images VARIANT=gpu PUSH=1)" if build.endswith(_ON_GPU) else ""
        raise ValueError(
            f"IMAGE_DIGESTS={path}: component {build} has no reference by digest there ({reference!r}); build and "
            f"push its image{variant}, or set {variable(build)}"
        )
    return reference
