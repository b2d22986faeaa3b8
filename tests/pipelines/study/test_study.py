"""The study can be stopped anywhere, and draws the same small collection each time."""

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
from pipelines.study.conditions import conditions
from pipelines.study.config import StudyConfig
from pipelines.study.materials import draw_collection, read_grades
from tests.conftest import write_collection


def made_by(calls: list[str], *, fails_at: int) -> Callable[[str], Callable[[], dict[str, Any]]]:
    def of(name: str) -> Callable[[], dict[str, Any]]:
        def make() -> dict[str, Any]:
            if len(calls) == fails_at:
                raise KeyboardInterrupt
            calls.append(name)
            return {"values": {"in domain": {"q": 0.5}}, "seconds": 1.0}

        return make

    return of


def test_a_stopped_study_makes_no_cell_twice(tmp_path: Path) -> None:
    calls: list[str] = []
    stopping = [Planned(name, name, 1, made_by(calls, fails_at=2)(name)) for name in "abcd"]
    with Journal(tmp_path / "cells") as journal, pytest.raises(KeyboardInterrupt):
        fill(journal, stopping)
    with Journal(tmp_path / "cells") as journal:
        finished = fill(journal, [replace(each, make=made_by(calls, fails_at=-1)(each.name)) for each in stopping])
    assert calls == ["a", "b", "c", "d"]
    assert [each.name for each in finished] == ["a", "b", "c", "d"]


def test_every_curriculum_is_one_that_train_reads() -> None:
    for condition in conditions(StudyConfig()):
        assert parse_curriculum(yaml.safe_dump(list(condition.stages)))


def judged_collection(folder: Path) -> Path:
    """The tiny collection, where each query has a passage on its topic that people found not useful."""
    write_collection(folder)
    for split in ("train", "test"):
        path = folder / "qrels" / f"{split}.tsv"
        rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
        path.write_text(
            path.read_text() + "".join(f"{query}\t{useful.split('-')[0]}-craft\t0\n" for query, useful, _ in rows)
        )
    return folder


def test_the_drawn_collection_keeps_what_was_judged(tmp_path: Path) -> None:
    source = judged_collection(tmp_path / "source")
    config = StudyConfig(workdir=tmp_path, num_train_queries=5, num_passages=20)
    for name in ("first", "second"):
        draw_collection(source, tmp_path / name, config)
    kept = {json.loads(line)["_id"] for line in (tmp_path / "first" / "corpus.jsonl").read_text().splitlines()}
    train, test = (read_grades(tmp_path / "first" / "qrels" / f"{split}.tsv") for split in ("train", "test"))
    assert len(train) == 5
    assert test == read_grades(source / "qrels" / "test.tsv")
    assert {p for its in (*train.values(), *test.values()) for p in its} <= kept
    assert len(kept) == 20
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.slow
def test_the_study_trains_measures_and_goes_on_where_it_was(tmp_path: Path) -> None:
    judged_collection(tmp_path / "data" / "here")
    judged_collection(tmp_path / "data" / "there")
    config = StudyConfig(
        data=tmp_path / "data",
        workdir=tmp_path / "work",
        collection="here",
        other_collection="there",
        num_seeds=1,
        only=("UtilSel Disj", "CL 20 %"),
        num_train_queries=12,
        num_passages=30,
        pool_negatives=8,
        num_few_queries=2,
        num_resamples=100,
    )
    study(config)
    content = json.loads((config.workdir / "study.json").read_text())
    assert [each["name"] for each in content["conditions"]] == ["BM25", "untrained", "UtilSel Disj", "CL 20 %"]
    assert all(0 < each["means"]["in domain"]["mean"] <= 1 for each in content["conditions"])
    assert "| CL 20 % > UtilSel Disj |" in (config.workdir / "study.md").read_text()
    cells = [path.read_bytes() for path in sorted((config.workdir / "cells").iterdir())]
    study(config)
    assert [path.read_bytes() for path in sorted((config.workdir / "cells").iterdir())] == cells
    with pytest.raises(ValueError, match="no such conditions"):
        plan(replace(config, only=("UtilSel",)))
