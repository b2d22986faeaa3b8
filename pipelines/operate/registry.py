"""Whether a run's images lie in their registry, asked before anything starts: a missing one stays Pending for hours.

Asked is as anybody may ask, without credentials; what the nodes may pull is theirs. So only a clear "there is none" is
an error, and a registry that does not answer or wants to know who asks is said.
Source: OCI Distribution Specification 1.1, "Checking if content exists in the registry".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import NamedTuple

import httpx

from components.shared import log
from pipelines import flow
from pipelines.cluster.images import build_of, image, variable
from pipelines.flow import Settings
from pipelines.resources import profile_of

_SECONDS = 3.0
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_KINDS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


class Reference(NamedTuple):
    """An image's registry (empty: none is named), repository, and tag or digest."""

    registry: str
    repository: str
    version: str


def parse(reference: str) -> Reference:
    """The parts of an image's reference; as Docker reads it, a registry is what has a dot or a port."""
    name, at, version = reference.partition("@")
    if not at:
        name, _, version = reference.rpartition(":")
    first, slash, rest = name.partition("/")
    has_registry = slash and ("." in first or ":" in first or first == "localhost")
    return Reference(first, rest, version) if has_registry else Reference("", name, version)


def refuse_missing_images(settings: Settings, profile: str) -> None:
    """Looks for the image of every task of a run on the machines of a profile; says where it could not look.

    Raises:
        ValueError: Naming every image that its registry does not have, with the remedy.
    """
    machines = profile_of(profile)
    builds = {build_of(task.component, machines[task.component]) for task in flow.taking_part(settings)}
    images = {image(build): build for build in sorted(builds)}
    gone = [
        f"image {reference}: its registry has none; push it (make images{_with_variant(images[reference])} PUSH=1), or "
        f"name one that is there (REGISTRY and TAG, or {variable(images[reference])})"
        for reference in _missing(images)
    ]
    if gone:
        raise ValueError("; ".join(gone))


def _with_variant(build: str) -> str:
    return " VARIANT=gpu" if build.endswith("-gpu") else ""


def _missing(references: Iterable[str]) -> Iterator[str]:
    silent: set[str] = set()
    with httpx.Client(timeout=_SECONDS, follow_redirects=True) as client:
        for reference in references:
            parts = parse(reference)
            # Without a registry it is one that the nodes have loaded, or Docker Hub, which answers nobody unknown.
            if not parts.registry or parts.registry in silent:
                continue
            try:
                status = _asked(client, parts)
            except httpx.TransportError as error:
                problem = f"it does not answer ({type(error).__name__})"
            else:
                if status == HTTPStatus.NOT_FOUND:
                    yield reference
                if status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
                    continue
                problem = f"it answers {status} to who does not log in"
            # Asked once: every image of a registry that hangs would cost as long again.
            silent.add(parts.registry)
            log.warning("could not look whether the images are there", registry=parts.registry, problem=problem)


def _asked(client: httpx.Client, parts: Reference) -> int:
    host = parts.registry.rpartition(":")[0] or parts.registry
    scheme = "http" if host in _LOOPBACK else "https"
    address = f"{scheme}://{parts.registry}/v2/{parts.repository}/manifests/{parts.version}"
    return client.head(address, headers={"accept": ", ".join(_KINDS)}).status_code
