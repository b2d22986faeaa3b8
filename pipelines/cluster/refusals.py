"""What a cluster cannot run, said when it is compiled and not by a pod an hour later; every line has its remedy."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.shared.durable.storage import is_remote
from components.shared.roles import Role, role_of
from pipelines import flow
from pipelines.cluster.deployment import Deployment
from pipelines.cluster.images import build_of, image_problems
from pipelines.flow import Settings
from pipelines.packaged import PACKAGED_SCHEME
from pipelines.resources import LOCAL_PROFILES, NODES, Resources, profile_of
from pipelines.settings import SettingsError, only_here

# 7B, 0.5b; 8x7B is a mixture of experts, which all lie in memory.
_BILLIONS = re.compile(r"(?<![\w.])(?:(\d+)x)?(\d+(?:\.\d+)?)[bB](?![a-zA-Z])")
_EIGHT_BITS, _FOUR_BITS = (
    re.compile(r"int8|8bit|fp8|w8a", re.IGNORECASE),
    re.compile(r"int4|4bit|awq|w4a", re.IGNORECASE),
)
# vLLM takes nine tenths of the GPU, and what the weights leave must hold the cache of many prompts.
_SHARE_FOR_WEIGHTS = 0.75
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})


def refuse_for_cluster(settings: Settings, profile: str, deployment: Deployment) -> None:
    """Refuses settings, images and places that no pod can reach; a local profile may name what this machine has.

    Raises:
        SettingsError: Naming every problem with its remedy.
    """
    machines = profile_of(profile)
    problems = [*only_here(settings), *deployment.problems()]
    if flow.opener(settings) and not deployment.state_uri:
        problems.append("state-uri is not set: a run that may find nothing to do says so there; add --state-uri")
    if profile not in LOCAL_PROFILES:
        tasks = flow.taking_part(settings)
        problems += _places(deployment, profile)
        problems += _local_addresses(settings, deployment)
        problems += image_problems(build_of(task.component, machines[task.component]) for task in tasks)
        problems += _too_large(settings, machines)
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))


def _places(deployment: Deployment, profile: str) -> Iterator[str]:
    if not deployment.state_uri:
        yield (
            f"state-uri is not set: under profile {profile} a pod may be lost at any moment, and without journal and "
            "training state in a bucket all is done and paid for again; add --state-uri s3://bucket/folder"
        )


def _local_addresses(settings: Settings, deployment: Deployment) -> Iterator[str]:
    """Inputs and places that are files of this machine, and servers of this machine."""
    for task in flow.taking_part(settings):
        declared = {field.name: field for field in dataclasses.fields(task.config)}
        for name, section in flow.owners(task).items():
            value = settings[section][name]
            if not isinstance(value, str) or not value or value.startswith(PACKAGED_SCHEME):
                continue
            is_place = role_of(declared[name]) in (Role.INPUT, Role.PLACE)
            is_address = is_place or bool(declared[name].metadata.get("address"))
            if is_address and _is_local(value, deployment):
                yield (
                    f"{section}.{name} {value}: a path of this machine, which no pod has; copy it to a bucket, or "
                    f"mount a claim that holds it (--set {section}.{name}=s3://bucket/..., or --volume CLAIM:/folder)"
                )
            elif name == "endpoint_uri" and urlsplit(value).hostname in _LOOPBACK:
                yield (
                    f"{section}.{name} {value}: in a pod that is the pod itself; name the server as the cluster "
                    f"reaches it (--set {section}.{name}=http://service.namespace:8000/v1)"
                )


def _is_local(value: str, deployment: Deployment) -> bool:
    if is_remote(value):
        return False
    if any(Path(value).is_relative_to(folder) for folder in deployment.claims()):
        return False
    return value.startswith(("/", ".", "~")) or Path(value).exists()


def weights_gib(llm: str, precision: str = "") -> float | None:
    """Size of an LLM's weights by what its name says of parameters; None where it says nothing.

    `precision` is text that may say how many bits a weight has, the name itself where it is empty; where it says
    nothing, two bytes a parameter are taken, which is what vLLM loads.
    """
    precision = precision or llm
    billions = _BILLIONS.findall(llm.rpartition("/")[2].replace("_", "-"))
    if not billions:
        return None
    num_bytes = 1.0 if _EIGHT_BITS.search(precision) else 0.6 if _FOUR_BITS.search(precision) else 2.0
    largest = max(float(experts or 1) * float(size) for experts, size in billions)
    return largest * 1e9 * num_bytes / 2**30


def _too_large(settings: Settings, machines: Mapping[str, Resources]) -> Iterator[str]:
    for task in flow.taking_part(settings):
        owners = flow.owners(task)
        if not {"engine", "llm_uri"} <= set(owners) or settings[section := owners["llm_uri"]]["engine"] != "vllm":
            continue
        row, llm = machines[task.component], str(settings[section]["llm_uri"])
        if not row.gpu:
            yield (
                f"{section}.engine vllm: profile has no GPU for {section}; choose a profile that has one, or "
                f"--set {section}.engine=endpoint or transformers"
            )
            continue
        yield from _gpus_unlike(section, settings[section], row)
        together = int(settings[section]["vllm_tensor_parallel_size"])
        precision = f"{llm} {settings[section]['vllm_quantization']}"
        size, room = weights_gib(llm, precision), together * NODES[row.node].gpu_gib * _SHARE_FOR_WEIGHTS
        if size is not None and size > room:
            yield (
                f"{section}.llm_uri {llm}: about {size:.0f} GiB of weights; {together} {row.gpu} of "
                f"{NODES[row.node].gpu_gib} GiB have room for {room:.0f}; choose a profile with larger GPUs "
                f"(gke-a100), more of them under one engine (--profile gke-l4x4 --set "
                f"{section}.vllm_tensor_parallel_size=4), a smaller or quantised LLM, or a server of its own (--set "
                f"{section}.engine=endpoint)"
            )


def _gpus_unlike(section: str, values: Mapping[str, Any], row: Resources) -> Iterator[str]:
    """A pod with fewer GPUs than its engines take fails; one with more pays for what it does not use."""
    engines, together = int(values["num_engines"]), int(values["vllm_tensor_parallel_size"])
    if engines * together != row.num_gpus:
        yield (
            f"{section}.num_engines {engines} of {together} GPUs each (vllm_tensor_parallel_size): a pod of this "
            f"profile has {row.num_gpus}; choose numbers whose product that is, or another profile (gke-l4x4 has 4)"
        )
