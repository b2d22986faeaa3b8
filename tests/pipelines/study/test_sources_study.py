"""The studies of clicks and budgets: what runs is journalled, and the tables say what they rest on."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from components.train.curriculum import parse_curriculum
from pipelines.study.sources.budget import ARMS, name_of
from pipelines.study.sources.clicks import arms_of, with_sessions
from pipelines.study.sources.config import SourcesConfig
from pipelines.study.sources.labelling import by_people, by_simulated_llm
from pipelines.study.sources.table import area, budget_table, clicks_table, what_ran
from pipelines.study.sources.training import Cell, fill

POOLS = {f"q{number}": tuple(f"p{number}-{place}" for place in range(10)) for number in range(400)}
GRADES = {f"q{number}": {f"p{number}-0": 1, f"p{number}-1": 2} for number in range(400)}


def test_a_stopped_study_makes_no_cell_twice(tmp_path: Path) -> None:
    made: list[str] = []

    def cell(name: str) -> Cell:
        return Cell(name, "here", 1, lambda: {"values": {"here": {"q": float(len(made.append(name) or made))}}})

    config = SourcesConfig(which="clicks", workdir=tmp_path)
    (tmp_path / "clicks").mkdir()
    fill(config, [cell("a"), cell("b")])
    records = fill(config, [cell("a"), cell("b"), cell("c")])
    assert made == ["a", "b", "c"]
    assert [record["values"]["here"]["q"] for record in records] == [1.0, 2.0, 3.0]
    assert fill(SourcesConfig(which="clicks", workdir=tmp_path, table_only=True), [cell("a"), cell("d")]) == records[:1]
    assert what_ran(records, 9) == "Ran: 3 of 9 cells, 0 minutes of CPU, seeds [1]."


def test_every_curriculum_is_one_that_train_reads() -> None:
    for stages in arms_of(SourcesConfig(which="clicks")).values():
        assert parse_curriculum(yaml.safe_dump(stages))


def test_the_simulated_llm_errs_as_often_as_it_should_and_alike_on_fewer_queries() -> None:
    labels = by_simulated_llm(POOLS, GRADES, precision=0.4, recall=0.8, seed=1)
    right = {(q, p) for q, grades in GRADES.items() for p in grades}
    selected = {(one.query_id, p) for one in labels for p in one.with_label("positive")}
    assert len(selected & right) / len(right) == pytest.approx(0.8, abs=0.05)
    assert len(selected & right) / len(selected) == pytest.approx(0.4, abs=0.05)
    assert [one.with_label("positive") for one in by_people({"q1": POOLS["q1"]}, GRADES)] == [("p1-0", "p1-1")]


def test_sessions_come_from_the_queries(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "queries.jsonl").write_text('{"_id": "q1", "text": "t", "session": "s9"}\n')
    (source / "clicks.tsv").write_text("query-id\tcorpus-id\trank\tclicked\nq1\tp1\t1\t0\n")
    written = with_sessions(source, tmp_path / "made") / "clicks.tsv"
    assert written.read_text() == "session\tquery-id\tcorpus-id\trank\tclicked\ns9\tq1\tp1\t1\t0\n"


def record(name: str, seed: int, values: list[float], measured: str = "trec-session") -> dict[str, object]:
    by_query = {f"q{number}": value for number, value in enumerate(values)}
    return {
        "name": name,
        "collection": "climate-fever-sent",
        "seed": seed,
        "values": {measured: by_query},
        "cpu_seconds": 60.0,
        "tokens": 1000,
    }


def test_the_table_of_clicks_averages_seeds_and_tests_over_topics() -> None:
    generator = np.random.default_rng(0)
    base = generator.random(12) / 2
    records = [record("untrained", 0, base.tolist())]
    records += [record("LLM", seed, (base + 0.2 + generator.random(12) / 50).tolist()) for seed in (1, 2)]
    topics = {f"q{number}": f"t{number // 2}" for number in range(12)}
    frequency = {f"q{number}": number // 4 for number in range(12)}
    lines = clicks_table(SourcesConfig(which="clicks", num_resamples=200), records, topics=topics, frequency=frequency)
    assert lines[0] == "| arm | seeds | all | rare (4) | middle (4) | frequent (4) |"
    assert lines[3].startswith("| LLM | 2 |")
    (claim,) = [line for line in lines if line.startswith("| LLM > untrained |")]
    assert claim.split("|")[2].strip().startswith("21")


def test_the_area_is_the_mean_height_over_the_logarithm_of_the_budget() -> None:
    # From 50 to 100 the height is .25 on the mean, from 100 to 200 it is .75.
    curve = {50: np.array([0.0]), 100: np.array([0.5]), 200: np.array([1.0])}
    assert area(curve).tolist() == [pytest.approx(0.5)]
    assert area({50: np.array([0.3])}).tolist() == [0.3]


def test_the_table_of_budgets_compares_what_every_arm_has() -> None:
    config = SourcesConfig(which="budget", budgets=(50, 100), num_seeds=2, num_resamples=200)
    records = []
    for place, arm in enumerate(ARMS):
        for seed in (1, 2):
            for budget in (50, 100):
                cell = record(name_of(arm, "people", budget), seed, [0.1, 0.2 + place / 10, 0.3], "climate-fever-sent")
                cell["values"]["scifact-mini"] = {"q": 0.5}  # type: ignore[index]
                records.append(cell)
    # The last seed of an arm is not there yet: no arm's second seed counts.
    lines = budget_table(config, records[:-1])
    shown = [
        line for line in lines if line.startswith("| people | climate-fever-sent | climate-fever-sent | deviation")
    ]
    assert shown == ["| people | climate-fever-sent | climate-fever-sent | deviation | 1 | 26.7 | 26.7 | 1,000 |"]
    assert any("deviation > people, climate-fever-sent, climate-fever-sent, random" in line for line in lines)
