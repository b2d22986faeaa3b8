"""Shards of annotations joined again: all of one run, each once, whole, and with few enough queries in quarantine.

What is checked comes from the manifests; a shard that lost lines, or belongs to other pools or settings, would change
what is learned without a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.shared import log
from components.shared.manifest import Manifest, open_artifact, read_manifest
from components.shared.roles import hint

_ANNOTATIONS_NAME = "annotations.jsonl"


def check_shards(uris: Sequence[str], *, max_quarantine_share: float) -> int:
    """Number of annotations in all shards together.

    Raises:
        ValueError: Where a shard is missing or given twice, shards differ in settings or inputs, a file has not the
            number of lines that its manifest says, or more than `max_quarantine_share` of the queries are in
            quarantine.
    """
    manifests = {uri: read_manifest(uri) for uri in uris}
    _check_alike(manifests)
    _check_complete(manifests)
    counted = {uri: _count(uri, manifest) for uri, manifest in manifests.items()}
    annotated = sum(counted.values())
    quarantined = sum(int(manifest.metrics.get("num_quarantined", 0)) for manifest in manifests.values())
    share = quarantined / max(1, annotated + quarantined)
    log.event("annotations", shards=len(uris), annotated=annotated, quarantined=quarantined)
    if share > max_quarantine_share:
        raise ValueError(
            f"{', '.join(uris)}: {quarantined} of {annotated + quarantined} queries ({share:.1%}) are in quarantine, "
            f"more than {max_quarantine_share:.1%}: what is left is no fair sample of the queries; "
            "read quarantine.jsonl, annotate with a model that follows instructions or by query_likelihood, "
            f"or allow more ({hint('max_quarantine_share', 0.5)})"
        )
    return annotated


def _check_alike(manifests: dict[str, Manifest]) -> None:
    (first_uri, first), *others = manifests.items()
    for uri, manifest in others:
        ours, theirs = _settings(first), _settings(manifest)
        if differing := sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)):
            raise ValueError(f"{uri} differs from {first_uri} in {', '.join(differing)}; shards of one run are wanted")
        # With llm_precision auto the settings are alike where the weights were not.
        models = [of.metrics.get("model") for of in (first, manifest)]
        if models[0] != models[1]:
            raise ValueError(
                f"{uri} was labelled by {models[1]}, {first_uri} by {models[0]}; labels of one model in one precision "
                "are wanted: annotate all shards over one journal, or with llm_precision fp32"
            )


def _settings(manifest: Manifest) -> dict[str, Any]:
    chosen = {name: value for name, value in manifest.settings.items() if name != "shard"}
    return chosen | {f"input {name}": digest for name, digest in manifest.inputs.items()}


def _check_complete(manifests: dict[str, Manifest]) -> None:
    num_shards = {manifest.config.get("num_shards", 1) for manifest in manifests.values()}.pop()
    shards = sorted(manifest.config.get("shard", 0) for manifest in manifests.values())
    if missing := sorted(set(range(num_shards)) - set(shards)):
        raise ValueError(f"{', '.join(manifests)}: shards {missing} of {num_shards} are missing; pass all of them")
    if len(set(shards)) < len(shards):
        raise ValueError(
            f"{', '.join(manifests)}: shards {shards} of {num_shards}: one is given twice; pass each shard once"
        )


def _count(uri: str, manifest: Manifest) -> int:
    with (open_artifact(uri) / _ANNOTATIONS_NAME).open("rb") as file:
        num_lines = sum(1 for _ in file)
    said = manifest.metrics.get("num_annotated", num_lines)
    if num_lines != said:
        raise ValueError(f"{uri}: {num_lines} annotations, its manifest says {said}; annotate this shard again")
    return num_lines
