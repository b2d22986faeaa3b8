"""The audit: clean pools pass, and each planted violation fails under its own name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.mine.audit import Audit, audit_pools
from components.mine.config import MineConfig
from components.mine.job import mine
from components.prepare.config import PrepareConfig
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer
from components.shared.records import Passage, Pool, Qrel, Query
from tests.tiny_encoder import words_of, write_tiny_encoder, write_tiny_index

NUM_QUERIES, NUM_NEGATIVES = 25, 3
POSITIVES = {f"q{n}": [f"q{n}-positive"] for n in range(NUM_QUERIES)}
TEXTS = {f"q{n}-{kind}": f"{kind} {n}" for n in range(NUM_QUERIES) for kind in ("positive", "a", "b", "c")}
TEXTS |= {"empty": "  ", "copy": "A  0", "other-positive": "POSITIVE 0"}


def write_dataset(folder: Path, texts: dict[str, str]) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    writer = DatasetWriter(folder)
    for passage_id, text in texts.items():
        writer.add_passage(Passage(passage_id, "", text))
    writer.finish([], [])
    return Dataset(folder)


def clean_pools() -> list[Pool]:
    sources = ("bm25", "dense", "bm25+dense", "human")
    return [
        Pool(f"q{n}", tuple(f"q{n}-{kind}" for kind in ("a", "b", "c", "positive")), sources, n)
        for n in range(NUM_QUERIES)
    ]


def replaced(pool: Pool, passage_id: str) -> Pool:
    return Pool(pool.query_id, (passage_id, *pool.passage_ids[1:]), pool.sources, pool.seed)


def repeated(pool: Pool) -> Pool:
    """Another id with the text of its first passage, in the place of the second."""
    return Pool(pool.query_id, (pool.passage_ids[0], "copy", *pool.passage_ids[2:]), pool.sources, pool.seed)


def config(**settings: Any) -> MineConfig:
    return MineConfig(dataset_uri="", encoder_uri="", index_uri="", output_uri="", **settings)


def audit(tmp_path: Path, pools: list[Pool], *, num_suspected: int = 0, **settings: Any) -> Audit:
    dataset = write_dataset(tmp_path / "dataset", TEXTS)
    return audit_pools(pools, dataset, POSITIVES, num_scored=75, num_suspected=num_suspected, config=config(**settings))


def test_clean_pools_pass(tmp_path: Path) -> None:
    result = audit(tmp_path, clean_pools())
    assert result.violations == []
    assert {check.name: check.share for check in result.checks} == {
        "missing": 0,
        "empty": 0,
        "duplicate": 0,
        "positive": 0,
        "suspected": 0,
        # The most frequent hard negative is in one of 25 pools.
        "skew": 0.04,
    }


PLANTED: dict[str, Callable[[list[Pool]], list[Pool]]] = {
    "missing": lambda pools: [replaced(pools[0], "nowhere"), *pools[1:]],
    "empty": lambda pools: [replaced(pools[0], "empty"), *pools[1:]],
    "duplicate": lambda pools: [repeated(pools[0]), *pools[1:]],
    "positive": lambda pools: [replaced(pools[0], "other-positive"), *pools[1:]],
    "skew": lambda pools: [replaced(pool, "q0-a") for pool in pools],
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_fails_under_its_name(tmp_path: Path, name: str) -> None:
    result = audit(tmp_path, PLANTED[name](clean_pools()))
    assert [check.name for check in result.violations if check.name == name] == [name]
    assert all(check.name in (name, "duplicate") for check in result.violations), "no other check is set off by it"


def test_too_many_suspected_false_negatives_fail(tmp_path: Path) -> None:
    # 68 of 75 are more than nine in ten, 67 are not.
    assert [check.name for check in audit(tmp_path, clean_pools(), num_suspected=68).violations] == ["suspected"]
    assert not audit(tmp_path, clean_pools(), num_suspected=67).violations


def test_a_positive_by_its_own_id_is_found_too(tmp_path: Path) -> None:
    (first, *rest) = clean_pools()
    wrong = Pool(first.query_id, first.passage_ids, ("bm25", "dense", "dense", "dense"), first.seed)
    assert [check.name for check in audit(tmp_path, [wrong, *rest]).violations] == ["positive"]


def test_thresholds_are_settings(tmp_path: Path) -> None:
    # One of 100 passages is missing.
    pools = PLANTED["missing"](clean_pools())
    assert audit(tmp_path, pools, max_missing_share=0.009).violations
    assert not audit(tmp_path, pools, max_missing_share=0.01).violations


def test_the_job_fails_names_the_cause_and_leaves_the_audit(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    texts = {f"p{n}": f"cat eats fish number{n}" for n in range(9)} | {"p9": " "}
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(folder))) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage_id, text in texts.items():
            writer.add_passage(Passage(passage_id, "", text))
        writer.finish([(Query("q", "cat fish"), "train")], [(Qrel("q", "p0", 1), "train")])
    encoder = write_tiny_encoder(tmp_path / "encoder", 1, words_of(list(texts.values())))
    write_tiny_index(tmp_path / "index", dataset=folder, encoder=encoder)
    uris = {"dataset_uri": str(folder), "encoder_uri": str(encoder), "index_uri": str(tmp_path / "index")}
    refused = MineConfig(
        **uris, output_uri=str(tmp_path / "pools"), num_dense=15, max_suspected_share=0.0, suspected_margin=0.5
    )
    with pytest.raises(
        ValueError,
        match=r"the audit refuses these pools; empty .*clean the collection.*; suspected .*--relative-margin",
    ):
        mine(refused)
    assert not (tmp_path / "pools").exists()
    held = json.loads((tmp_path / "pools.partial" / "audit.json").read_text())
    assert held["empty"]["counted"] == 1
    allowed = MineConfig(**uris, output_uri=str(tmp_path / "pools"), max_empty_share=1.0, max_suspected_share=1.0)
    mine(allowed)
    assert json.loads((tmp_path / "pools" / "audit.json").read_text())["empty"]["violated"] is False
