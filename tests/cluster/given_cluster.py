"""What the tests know of a cluster: its KUBECONFIG, and the variables of README.md beside this file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from typing import NoReturn

import pytest

STRICT_VARIABLE = "RETRIEVER_CLUSTER_STRICT"


def cannot(reason: str) -> NoReturn:
    """Skips with the reason; fails with it where the caller said that the cluster has everything."""
    if os.environ.get(STRICT_VARIABLE):
        pytest.fail(f"{STRICT_VARIABLE} is set, and {reason}")
    pytest.skip(reason)


def _variable(name: str, default: str = "") -> str:
    return os.environ.get(f"RETRIEVER_CLUSTER_{name}") or default


@dataclass(frozen=True)
class Site:
    """One cluster's images and places."""

    registry: str
    tag: str
    thin_image: str
    site_packages: str
    code: str
    argo_namespace: str
    mounted: tuple[str, ...]

    @classmethod
    def from_environment(cls) -> Site:
        """The variables, with the defaults that README.md states."""
        return cls(
            registry=_variable("REGISTRY", "retriever"),
            tag=_variable("TAG", metadata.version("retriever-pipeline")),
            thin_image=_variable("THIN_IMAGE"),
            site_packages=_variable("SITE_PACKAGES"),
            code=_variable("CODE"),
            argo_namespace=_variable("ARGO_NAMESPACE", "argo"),
            mounted=tuple(_variable("MOUNTED", "ask,annotate,train,export").split(",")),
        )

    def image(self, component: str) -> str:
        """The image that runs a component: as `make images` names it, or the thin one where packages are mounted."""
        if self.thin_image and component in self.mounted:
            return self.thin_image
        return f"{self.registry}/{component}:{self.tag}"

    @property
    def python_image(self) -> str:
        """An image with a Python, for pods that need nothing else."""
        return self.thin_image or self.image("serve")
