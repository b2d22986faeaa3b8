"""The study can be stopped anywhere, draws the same small collections each time, and runs whole comparisons in turn."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.shared.durable.journal import Journal
from components.train.curriculum import parse_curriculum
from pipelines.study.__main__ import Planned, fill, plan, study
from pipelines.study.conditions import blocks
from pipelines.study.config import StudyConfig
from pipelines.study.materials import USEFUL_NAME, draw_collection, read_grades
from pipelines.study.table import Part
from tests.conftest import write_collection


def made_by(calls: list[str], *, fails_at: int) -> Callable[[str], Callable[[], dict[str, Any]]]:
    def of(name: str) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            if len(calls) == fails_at:
                raise KeyboardInterrupt
            calls.append(name)
            return {"values": {"here": {"q": 0.5}}, "seconds": 1.0}

        return make

    return of


def test_a_stopped_study_makes_no_cell_twice(tmp_path: Path) -> None:
    calls: list[str] = []
    stopping = [Planned(name, Part("block", 1), name, "here", made_by(calls, fails_at=2)(name)) for name in "abcd"]
    with Journal(tmp_path / "cells") as journal, pytest.raises(KeyboardInterrupt):
        fill(journal, stopping)
    with Journal(tmp_path / "cells") as journal:
        finished = fill(journal, [replace(cell, make=made_by(calls, fails_at=-1)(cell.name)) for cell in stopping])
    assert calls == ["a", "b", "c", "d"]
    assert [cell.name for cell in finished] == ["a", "b", "c", "d"]


def test_every_curriculum_is_one_that_train_reads() -> None:
    for block in blocks(StudyConfig()):
        for condition in block.conditions:
            assert parse_curriculum(yaml.safe_dump(list(condition.stages)))


def judged_collection(folder: Path) -> Path:
    """The tiny collection; each query has a second useful passage, and the test queries one that is not useful."""
    write_collection(folder)
    for split, grade in (("train", 1), ("test", 0)):
        path = folder / "qrels" / f"{split}.tsv"
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        path.write_text(
            path.read_text() + "".join(f"{query}\t{useful.split('-')[0]}-craft\t{grade}\n" for query, useful, _ in rows)
        )
    return folder


def test_the_drawn_collection_has_one_labelled_passage_a_train_query_and_keeps_what_was_judged(tmp_path: Path) -> None:
    source = judged_collection(tmp_path / "source")
    config = StudyConfig(workdir=tmp_path, num_train_queries=5, num_test_queries=3, num_passages=20)
    for name in ("first", "second"):
        draw_collection(source, tmp_path / name, config)
    kept = {json.loads(line)["_id"] for line in (tmp_path / "first" / "corpus.jsonl").read_text().splitlines()}
    train, test = (read_grades(tmp_path / "first" / "qrels" / f"{split}.tsv") for split in ("train", "test"))
    useful = read_grades(tmp_path / "first" / USEFUL_NAME)
    assert (len(train), len(test), len(kept)) == (5, 3, 20)
    everything = read_grades(source / "qrels" / "train.tsv")
    assert useful == {query_id: everything[query_id] for query_id in train}
    assert all(
        len(labelled) == 1 and labelled.keys() <= useful[query_id].keys() for query_id, labelled in train.items()
    )
    assert test.items() <= read_grades(source / "qrels" / "test.tsv").items()
    assert {p for judged in (*useful.values(), *test.values()) for p in judged} <= kept
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.slow
def test_the_study_trains_measures_and_goes_on_where_it_was(tmp_path: Path) -> None:
    for name in ("here", "there"):
        judged_collection(tmp_path / "data" / name)
    chosen = ("KL (random)", "CL 20 % (uniform)", "Teacher with the LLM (uniform)")
    config = StudyConfig(
        data=tmp_path / "data",
        workdir=tmp_path / "work",
        collections=("here", "there"),
        num_seeds=1,
        only=chosen,
        num_train_queries=12,
        num_test_queries=4,
        num_passages=30,
        num_test_passages=20,
        pool_negatives=8,
        num_resamples=100,
    )
    study(config)
    content = json.loads((config.workdir / "study.json").read_text())
    # In the order of the blocks: the people's before that of the random errors.
    assert [row["name"] for row in content["conditions"]] == [
        "BM25",
        "untrained",
        "CL 20 % (uniform)",
        "KL (random)",
        "Teacher with the LLM (uniform)",
    ]
    assert content["ran"][0].startswith("Ran: 8 of 8 cells")
    titles = ["here", "there", "here -> there", "there -> here"]
    assert all(list(row["means"]) == titles for row in content["conditions"])
    assert all(0 < mean["mean"] <= 1 for row in content["conditions"] for mean in row["means"].values())
    assert "| KL (random) | 1/1 |" in (config.workdir / "study.md").read_text()
    cells = [path.read_bytes() for path in sorted((config.workdir / "cells").iterdir())]
    tables = (config.workdir / "study.md").read_text()
    (config.workdir / "study.md").unlink()
    study(replace(config, table_only=True))
    assert (config.workdir / "study.md").read_text() == tables
    study(config)
    assert [path.read_bytes() for path in sorted((config.workdir / "cells").iterdir())] == cells
    with pytest.raises(ValueError, match="no such conditions"):
        plan(replace(config, only=("UtilSel",)))
