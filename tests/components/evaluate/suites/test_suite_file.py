import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.suites.suite import addresses, parse_suite, read_suite

VALUES: dict[str, Any] = {
    "collections": [{"name": "scifact", "dataset": "d/scifact"}, {"name": "wiki", "dataset": "d/wiki", "domain": "in"}],
    "systems": [
        {"name": "bm25", "kind": "bm25"},
        {"name": "base", "kind": "encoder", "encoder": "e", "index": "i/{collection}"},
        {"name": "other", "kind": "run", "run": "runs/{collection}.trec", "collections": ["wiki"]},
    ],
}


def with_system(**changes: object) -> dict[str, Any]:
    return {**VALUES, "systems": [*VALUES["systems"], {"name": "new", "kind": "bm25", **changes}]}


def test_a_suite_is_read_from_toml_and_from_json(tmp_path: Path) -> None:
    (tmp_path / "suite.json").write_text(json.dumps(VALUES))
    (tmp_path / "suite.toml").write_text(
        '[[collections]]\nname = "scifact"\ndataset = "d/scifact"\n'
        '[[collections]]\nname = "wiki"\ndataset = "d/wiki"\ndomain = "in"\n'
        '[[systems]]\nname = "bm25"\nkind = "bm25"\n'
        '[[systems]]\nname = "base"\nkind = "encoder"\nencoder = "e"\nindex = "i/{collection}"\n'
        '[[systems]]\nname = "other"\nkind = "run"\nrun = "runs/{collection}.trec"\ncollections = ["wiki"]\n'
    )
    assert read_suite(str(tmp_path / "suite.toml")) == read_suite(str(tmp_path / "suite.json"))


def test_without_comparisons_every_system_is_compared_with_the_first() -> None:
    assert parse_suite(VALUES, where="s").comparisons == (("base", "bm25"), ("other", "bm25"))


def test_what_a_suite_names_is_listed_once_and_for_each_collection() -> None:
    assert addresses(parse_suite(VALUES, where="s")) == [
        "d/scifact",
        "d/wiki",
        "e",
        "i/scifact",
        "i/wiki",
        "runs/wiki.trec",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"s: no systems; write a table \[\[systems\]\]"),
        ({**VALUES, "measure": "RR"}, "the suite: unknown 'measure'; did you mean measures"),
        ({**VALUES, "depth": "10"}, "the suite: depth = '10'"),
        ({**VALUES, "depth": 0}, "depth = 0: must be at least 1"),
        ({**VALUES, "confidence": 95}, r"confidence = 95\.0: must lie between 0 and 1"),
        ({**VALUES, "measures": "nDGC@10"}, "'nDGC@10' is not a measure"),
        ({**VALUES, "measures": "RR@10 MRR@10"}, "one is named twice"),
        ({**VALUES, "comparisons": [["base", "lost"]]}, "there is no system 'lost'"),
        ({**VALUES, "comparisons": [["base", "base"]]}, "cannot be compared with itself"),
        ({**VALUES, "comparisons": [["base"]]}, "write two names of systems"),
        (with_system(kind="dense"), "systems new: kind = 'dense'; wanted is 'bm25' or 'encoder'"),
        (with_system(kind="encoder"), "systems new: kind encoder needs encoder"),
        (with_system(name="bm25"), "systems bm25: named twice"),
        (with_system(name="a b"), "a name is letters, digits"),
        (with_system(collections=["lost"]), "systems new: there is no collection 'lost'"),
        (with_system(endcoder="e"), "systems new: unknown 'endcoder'; did you mean encoder"),
        ({**VALUES, "collections": [{"name": "x"}]}, "collections x: dataset is missing"),
        ({**VALUES, "collections": [{"name": "x", "dataset": "d", "domain": "near"}]}, "domain = 'near'; wanted is"),
        ({**VALUES, "collections": [{"name": "x", "dataset": "d", "min_grade": 0}]}, "min_grade = 0"),
    ],
)
def test_a_suite_that_cannot_work_is_refused_before_anything_is_searched(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_suite(values, where="s")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text("[[systems")
    with pytest.raises(ValueError, match="not a suite file"):
        read_suite(str(tmp_path / "suite.toml"))
    with pytest.raises(ValueError, match=r"none\.toml: no such suite file; pipelines/suites holds some"):
        read_suite(str(tmp_path / "none.toml"))
