"""The container of a component: its image, its command, its flags; read when a pipeline is compiled, never in a container.

`REGISTRY` and `TAG` name the images (`REGISTRY/train:TAG`); `IMAGE_TRAIN` replaces one whole reference, so that a
pipeline can be pinned by digest: Kubeflow's cache key holds the reference as text, and a tag that moves gives stale
hits.
"""

import os
from importlib import metadata

from kfp import dsl


def image(component: str) -> str:
    """The image reference of a component; the default tag is the version of this project."""
    if whole := os.environ.get(f"IMAGE_{component.upper()}"):
        return whole
    registry = os.environ.get("REGISTRY", "retriever").rstrip("/")
    tag = os.environ.get("TAG") or metadata.version("retriever-pipeline")
    return f"{registry}/{component}:{tag}"


def container(component: str, **flags: object) -> dsl.ContainerSpec:
    """Runs the component's job with one `--flag=value` a keyword; values are KFP placeholders.

    `=` because a value may be empty or begin with a dash (a prefix, a YAML list); the executor input is what KFP's
    launcher and local runner put in place of `{{$}}`.
    """
    return dsl.ContainerSpec(
        image=image(component),
        command=["python", "-m", f"components.{component}"],
        args=[*(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()), "--executor-input", "{{$}}"],
    )


def all_paths(_artifacts: list[dsl.Artifact]) -> str:
    """The flag's value for an input that is a list of artifacts (a fan-in).

    KFP has no placeholder for the paths of a list that its local runner renders too; the launcher of the job
    (shared/launch.py) reads this word as "all paths of this input in the executor input".
    """
    return "executor-input"
