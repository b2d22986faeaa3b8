"""A suite over the tiny corpus: two collections, an encoder and its hybrid, BM25, and a run that was made elsewhere."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.evaluate.suites.config import SuiteConfig
from components.evaluate.suites.suite import addresses, parse_suite
from components.shared.dataset import Dataset
from tests.components.evaluate.conftest import read_collection, write_dataset
from tests.conftest import write_collection
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index


def suite_values(folder: Path, **changes: object) -> dict[str, Any]:
    """The suite file's values, everything that it names made."""
    passages, queries, qrels = read_collection(write_collection(folder / "collection"))
    words = words_of([passage.full_text for passage in passages])
    for seed, (name, dimension) in enumerate((("small", 2), ("large", 32))):
        write_tiny_encoder(folder / name, seed, words, dimension=dimension)
    for collection, split in (("first", "test"), ("second", "dev")):
        judged = {"test": qrels[split]}
        dataset = write_dataset(folder / collection / "dataset", passages, {"test": queries[split]}, judged)
        for name in ("small", "large"):
            write_tiny_index(folder / collection / f"{name}-index", dataset=dataset, encoder=folder / name)
        write_run(folder / collection / "elsewhere.trec", dataset)
    return {
        "comparisons": [["large", "small"], ["hybrid", "bm25"]],
        "num_resamples": 200,
        "collections": [
            {"name": name, "dataset": str(folder / name / "dataset"), "domain": domain}
            for name, domain in (("first", "in"), ("second", "out"))
        ],
        "systems": [
            {"name": "bm25", "kind": "bm25", "label": "BM25"},
            *(
                {"name": name, "kind": "encoder", **_encoder(folder, name), "label": f"{name} encoder"}
                for name in ("small", "large")
            ),
            {"name": "hybrid", "kind": "hybrid", **_encoder(folder, "large")},
            {"name": "elsewhere", "kind": "run", "run": str(folder / "{collection}" / "elsewhere.trec")},
        ],
        **changes,
    }


def _encoder(folder: Path, name: str) -> dict[str, str]:
    return {"encoder": str(folder / name), "index": str(folder / "{collection}" / f"{name}-index")}


def write_run(path: Path, dataset: Path) -> None:
    """A run of another tool: for each query but the last all passages, in groups of equal scores."""
    opened = Dataset(dataset)
    passages = [passage.passage_id for passage in opened.iter_passages()]
    lines = [
        f"{query.query_id} Q0 {passage_id} 0 {number // 5} other\n"
        for query in opened.queries()[:-1]
        for number, passage_id in enumerate(passages)
    ]
    path.write_text("".join(lines))


def write_suite(folder: Path, values: Mapping[str, Any], **changes: Any) -> SuiteConfig:
    """The suite file and the config that evaluates it."""
    path = folder / "suite.json"
    path.write_text(json.dumps(values))
    config = SuiteConfig(
        suite_uri=str(path),
        artifacts_uri=",".join(addresses(parse_suite(values, where="suite"))),
        output_uri=str(folder / "evaluation"),
        cells_uri=str(folder / "cells"),
    )
    return replace(config, **changes)
