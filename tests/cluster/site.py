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
        )

    def image(self, component: str) -> str:
        """The image of a component, as `make images` names it."""
        return f"{self.registry}/{component}:{self.tag}"
