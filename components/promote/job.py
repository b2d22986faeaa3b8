"""The recipe of promote: verdict -> copies under addresses of their content -> the pointer, last."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from components.promote.config import PromoteConfig
from components.shared import log
from components.shared.contract.verdict import read_verdict
from components.shared.corpus import check_corpus
from components.shared.durable import storage
from components.shared.hashing import lines_digest
from components.shared.manifest import artifact_writer, open_artifact, read_manifest

POINTER_NAME = "pointer.json"
# Of sha256: an address that people copy by hand.
_DIGEST_CHARACTERS = 16


def promote(config: PromoteConfig) -> None:
    """Makes the release that servers follow of a run whose gate is open; of a closed one it says why not.

    Raises:
        ValueError: Where an artifact is damaged, the index is not of the dataset, there is no verdict, or it is one on
            something else.
    """
    verdict = read_verdict(config.evaluation_uri)
    with artifact_writer("promote", config) as artifact:
        release: dict[str, Any] = {"verdict": verdict.word, "reasons": verdict.reasons}
        if verdict.passed:
            release |= _release(config, release)
        else:
            log.warning("the gate is closed: nothing was promoted", reasons=verdict.reasons)
        (artifact.path / "release.json").write_bytes(orjson.dumps(release, option=orjson.OPT_INDENT_2))
        artifact.metrics.update({"promoted": int(verdict.passed), "release": release.get("digest", "")})


def _release(config: PromoteConfig, why: dict[str, Any]) -> dict[str, Any]:
    """Publishes the three artifacts, then the record of the release, then the pointer."""
    check_corpus(config.index_uri, config.dataset_uri)
    sources = {"encoder": config.encoder_uri, "index": config.index_uri, "dataset": config.dataset_uri}
    contents = {name: read_manifest(uri).digest for name, uri in sources.items()}
    _check_measured(config, contents)
    digest = lines_digest(f"{name} {content}" for name, content in contents.items())[:_DIGEST_CHARACTERS]
    store = config.store.rstrip("/")
    pointer = {f"{name}_uri": f"{store}/retrievers/{digest}/{name}" for name in sources}
    for name, uri in sources.items():
        _copy(uri, pointer[f"{name}_uri"], contents[name])
    record = {"digest": digest, **pointer, "metrics": _numbers(config.evaluation_uri)}
    written = orjson.dumps({**why, **record, "time": time.time()}, option=orjson.OPT_INDENT_2)
    storage.write_bytes(f"{store}/releases/{digest}.json", written)
    # Last: whoever follows it finds everything that it names.
    storage.write_bytes(f"{store}/{POINTER_NAME}", orjson.dumps(pointer, option=orjson.OPT_INDENT_2))
    log.event("promoted", release=digest, pointer=f"{store}/{POINTER_NAME}")
    return record


def _check_measured(config: PromoteConfig, contents: Mapping[str, str]) -> None:
    """Refuses what the evaluation has not measured: its verdict is on nothing else."""
    measured = read_manifest(config.evaluation_uri).inputs
    if others := [name for name, content in contents.items() if measured.get(name) != content]:
        raise ValueError(
            f"{config.evaluation_uri}: evaluate measured another {' and another '.join(others)} than what is to be "
            "promoted; name the evaluation of these, or evaluate them"
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


def _numbers(evaluation_uri: str) -> dict[str, float]:
    metrics = read_manifest(evaluation_uri).metrics
    return {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
