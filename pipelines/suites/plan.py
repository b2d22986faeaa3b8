"""A suite file of a person -> the steps that make what it names, and the suite file of the job.

Two things may be written here that the job itself does not know: a collection may name a folder in BEIR layout, or an
id of ir_datasets such as `ir_datasets:beir/scifact/test`, (`collection`) in place of a dataset, and a system a
checkpoint (`checkpoint`) in place of an encoder and its indexes. They are fetched, prepared, exported and indexed by
the same components as in the flow, and a step that is done is skipped. Systems with the same checkpoint and the same
settings share encoder and indexes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from components.evaluate.suites.config import SuiteConfig
from components.evaluate.suites.suite import PLACEHOLDER, addresses, parse_suite, read_values
from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.prepare.catalogue.config import PREFIX, CatalogueConfig
from components.prepare.config import PrepareConfig
from components.shared.durable import storage
from components.shared.encoding.dual_encoder import DualEncoderConfig
from components.shared.hashing import content_key
from pipelines.local import LocalStep
from pipelines.packaged import resolve

# What a system with a checkpoint may say of its encoder and of its index.
_ENCODER = tuple(field.name for field in dataclasses.fields(DualEncoderConfig) if field.name != "checkpoint_uri")
_INDEX = ("variant", "factory", "search_parameters", "shard_passages")
_PREPARE = ("language", "on_problem")
EVALUATION = "evaluation"


def plan_suite(suite_uri: str, workdir: Path, *, policy_uri: str = "") -> list[LocalStep]:
    """The steps of a suite in order; the last one is its evaluation, whose suite file is written now.

    Raises:
        ValueError: Where the suite file is wrong, or a packaged checkpoint is not installed.
    """
    values = read_values(suite_uri)
    steps: list[LocalStep] = []
    collections = [_with_dataset(row, workdir, steps) for row in _tables(values, "collections")]
    systems = [_with_index(row, collections, workdir, steps) for row in _tables(values, "systems")]
    resolved = {**values, "collections": collections, "systems": systems}
    suite = parse_suite(resolved, where=suite_uri)
    path = workdir / "suite.json"
    workdir.mkdir(parents=True, exist_ok=True)
    storage.write_bytes(str(path), orjson.dumps(resolved, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    config = SuiteConfig(
        suite_uri=str(path),
        artifacts_uri=",".join(addresses(suite)),
        output_uri=str(workdir / EVALUATION),
        cells_uri=str(workdir / "cells"),
        policy_uri=policy_uri,
    )
    return [*steps, LocalStep("evaluate the suite", "components.evaluate.suites", config)]


def _tables(values: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The rows of a table; what is none is left for the suite's own check to name."""
    rows = values.get(name)
    yield from (dict(row) for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


def _with_dataset(row: dict[str, Any], workdir: Path, steps: list[LocalStep]) -> dict[str, Any]:
    """The collection with a dataset, and the steps that fetch and prepare it."""
    if "collection" not in row:
        return row
    name, chosen, address = str(row.get("name", "")), _taken(row, _PREPARE), str(row.pop("collection"))
    if address.startswith(PREFIX):
        fetch = CatalogueConfig(
            dataset_id=address.removeprefix(PREFIX),
            output_uri=str(workdir / "collections" / name),
            split=row.get("split", "test"),
        )
        steps.append(LocalStep(f"fetch {name}", "components.prepare.catalogue", fetch))
        address = fetch.output_uri
    config = PrepareConfig(collection_uri=address, output_uri=str(workdir / "datasets" / name), **chosen)
    steps.append(LocalStep(f"prepare {name}", "components.prepare", config))
    return row | {"dataset": config.output_uri}


def _with_index(
    row: dict[str, Any], collections: list[dict[str, Any]], workdir: Path, steps: list[LocalStep]
) -> dict[str, Any]:
    """The system with an encoder and its indexes, and the steps that make those that no other system has made."""
    if "checkpoint" not in row:
        return row
    checkpoint = str(row.pop("checkpoint"))
    encoding, indexing = _taken(row, _ENCODER), _taken(row, _INDEX)
    # Named by what they are: systems that differ in nothing but their kind share them.
    name = content_key({"checkpoint": checkpoint, "encoding": encoding, "indexing": indexing})[:12]
    variants: dict[str, Any] = {"variants": "fp32,int8"} if indexing.get("variant") == "int8" else {}
    export = ExportConfig(
        checkpoint_uri=resolve(checkpoint), output_uri=str(workdir / "encoders" / name), **encoding, **variants
    )
    known = {step.config.output_uri for step in steps}
    if export.output_uri not in known:
        steps.append(LocalStep(f"export {checkpoint}", "components.export", export))
    folder = workdir / "indexes" / name
    met = row.get("collections") or [str(collection.get("name")) for collection in collections]
    datasets = {str(collection.get("name")): str(collection.get("dataset", "")) for collection in collections}
    for collection in filter(datasets.__contains__, met):
        index = IndexConfig(
            dataset_uri=datasets[collection],
            encoder_uri=export.output_uri,
            output_uri=str(folder / collection),
            **indexing,
        )
        if index.output_uri not in known:
            steps.append(LocalStep(f"index {collection} with {checkpoint}", "components.index", index))
    return row | {"encoder": export.output_uri, "index": f"{folder}/{PLACEHOLDER}"}


def _taken(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The settings of these names, taken out of the row."""
    return {name: row.pop(name) for name in names if name in row}
