"""The recipe of promote: verdict -> copies under addresses of their content -> the pointer, last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from components.promote.config import PromoteConfig
from components.promote.releases import ARTIFACTS, ReleaseRecord, Served, contents_digest, read_served, serve_next
from components.shared import log
from components.shared.contract.ending import TransientError
from components.shared.contract.verdict import Verdict, read_verdict
from components.shared.corpus import check_corpus
from components.shared.durable import storage
from components.shared.manifest import artifact_writer, open_artifact, read_manifest


def promote(config: PromoteConfig) -> None:
    """Makes the release that servers follow of a run whose gate is open; of a closed one it says why not.

    Raises:
        ValueError: Where an artifact is damaged, the index is not of the dataset, there is no verdict, it is one on
            something else, or another release was promoted meanwhile.
        TransientError: Where what is promoted was removed at the same time.
    """
    verdict = read_verdict(config.evaluation_uri)
    with artifact_writer("promote", config) as artifact:
        release: dict[str, Any] = {"verdict": verdict.word, "reasons": verdict.reasons}
        if verdict.passed:
            release = _release(config, verdict)
        else:
            log.warning("the gate is closed: nothing was promoted", reasons=verdict.reasons)
        (artifact.path / "release.json").write_bytes(orjson.dumps(release, option=orjson.OPT_INDENT_2))
        artifact.metrics.update({"promoted": int(verdict.passed), "release": release.get("release", 0)})


def _release(config: PromoteConfig, verdict: Verdict) -> dict[str, Any]:
    """Publishes the artifacts, then the pointer, then the record of the release."""
    # First: what takes its place after this line is another's release, and this one must not undo it.
    served = read_served(config.store)
    check_corpus(config.index_uri, config.dataset_uri)
    sources = {name: uri for name in ARTIFACTS if (uri := getattr(config, f"{name}_uri"))}
    contents = {name: read_manifest(uri).digest for name, uri in sources.items()}
    _check_measured(config, contents)
    digest = contents_digest(contents)
    targets = {name: f"{config.store.rstrip('/')}/retrievers/{digest}/{name}" for name in sources}
    for name, uri in sources.items():
        _copy(uri, targets[name], contents[name])
    if served.record and served.record.digest == digest:
        log.event("already served", release=served.record.release, digest=digest)
        return asdict(served.record)
    _check_compared(config, served)
    record = serve_next(
        config.store,
        served,
        ReleaseRecord(
            digest=digest,
            encoder_uri=targets["encoder"],
            index_uri=targets["index"],
            dataset_uri=targets["dataset"],
            checkpoint_uri=targets.get("checkpoint", ""),
            collection=_collection(config.dataset_uri),
            evaluation=config.evaluation_uri,
            verdict=verdict.word,
            reasons=verdict.reasons,
            metrics=_numbers(config.evaluation_uri),
        ),
    )
    if gone := [uri for uri in targets.values() if not storage.exists(f"{uri}/{storage.MANIFEST_NAME}")]:
        # An old copy that nobody pointed to was taken for granted, and removed in the same moment.
        raise TransientError(f"{gone[0]}: was removed while it was being promoted")
    log.event("promoted", release=record.release, digest=digest, store=config.store, before=record.before)
    return asdict(record)


def _check_measured(config: PromoteConfig, contents: Mapping[str, str]) -> None:
    """Refuses what the evaluation has not measured: its verdict is on nothing else."""
    measured = read_manifest(config.evaluation_uri).inputs
    # Nobody measures a checkpoint: what was made of it is measured.
    measured = {**measured, "checkpoint": read_manifest(config.encoder_uri).inputs.get("checkpoint", "")}
    if others := [name for name, content in contents.items() if measured.get(name) != content]:
        raise ValueError(
            f"{config.evaluation_uri}: evaluate measured another {' and another '.join(others)} than what is to be "
            "promoted; name the evaluation of these, or evaluate them"
        )


def _check_compared(config: PromoteConfig, served: Served) -> None:
    """Refuses to take the place of a release that the gate has not compared with."""
    if not config.start_uri:
        return
    number, compared = served.record.release if served.record else 0, read_manifest(config.start_uri).metrics["release"]
    if number != compared:
        raise ValueError(
            f"{config.store}: release {number} is served, and the gate compared with release {compared}; run again "
            "from what is served (--continue-from)"
        )


def _copy(uri: str, target: str, content: str) -> None:
    """Copies a checked artifact to an address of its content, where it never changes; nothing where it lies there."""
    if storage.exists(f"{target}/{storage.MANIFEST_NAME}") and read_manifest(target).digest == content:
        return
    folder = open_artifact(uri)
    if storage.is_remote(target):
        storage.publish(folder, target)
        return
    with tempfile.TemporaryDirectory(dir=_made(Path(target).parent)) as scratch:
        # A folder on this machine is moved to its place, and the run's own stays where it is.
        storage.publish(Path(shutil.copytree(folder, Path(scratch) / "copy")), target)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _collection(dataset_uri: str) -> str:
    """Digest of what prepare read; a dataset with asked queries was made of one without."""
    manifest = read_manifest(dataset_uri)
    while "collection" not in manifest.inputs:
        before = str(manifest.config.get("dataset_uri", ""))
        if not before or not storage.exists(f"{before}/{storage.MANIFEST_NAME}"):
            return ""
        manifest = read_manifest(before)
    return manifest.inputs["collection"]


def _numbers(evaluation_uri: str) -> dict[str, float]:
    metrics = read_manifest(evaluation_uri).metrics
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
