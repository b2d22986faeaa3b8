"""Clicks as labels: who is learnt from, what a click weighs, and which groups a stage has."""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.records import Annotation, Passage, Query
from components.train.curriculum import Stage, parse_curriculum
from components.train.labels.clicks import Clicks, train_clicks
from components.train.labels.data import batches
from components.train.labels.groups import TrainingGroup, stage_groups
from tests.components.train.click_logs import Row, click_log

CLICKS = Stage("s", "clicks", loss="click_listwise")
# q0 and q1 share a topic, q2 is of the test's topic without being in the test, q4 asks in the words of a dev query.
QUERIES = [
    (Query("q0", "lava", topic="t"), "train"),
    (Query("q1", "magma", topic="t"), "train"),
    (Query("q2", "ice", topic="u"), "train"),
    (Query("q3", "snow", topic="u"), "test"),
    (Query("q4", "Red  bread"), "train"),
    (Query("q5", "red bread"), "dev"),
    (Query("q6", "stone"), "train"),
]
LOG: list[Row] = [
    ("a", "q0", "p0", 1, 1, 15.0),
    ("a", "q0", "p1", 2, 0, 0.0),
    ("b", "q0", "p1", 1, 0, 0.0),
    ("b", "q0", "p2", 2, 1, 60.0),
    ("b", "q1", "p3", 1, 0, 0.0),
    *((session, query, "p4", 1, 1, 1.0) for session, query in (("c", "q2"), ("d", "q3"), ("e", "q4"), ("f", "q5"))),
    ("g", "q6", "p5", 1, 1, 0.0),
    ("g", "q6", "p1", 2, 0, 0.0),
]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    writer = DatasetWriter(tmp_path)
    for number in range(8):
        writer.add_passage(Passage(f"p{number}", "", f"text number {number}"))
    writer.finish(QUERIES, [])
    return Dataset(tmp_path)


@pytest.fixture
def clicks(dataset: Dataset) -> Clicks:
    return train_clicks(click_log(LOG), dataset)


def test_no_held_out_topic_is_in_any_estimate(dataset: Dataset, clicks: Clicks) -> None:
    assert {clicks.log.query_ids[number] for number in clicks.log.queries} == {"q0", "q1", "q6"}
    assert clicks.frequencies == {"q0": 2, "q1": 2, "q6": 1}
    others = [row for row in LOG if row[1] in ("q0", "q1", "q6")]
    alone = train_clicks(click_log(others), dataset)
    np.testing.assert_array_equal(alone.propensities, clicks.propensities)
    assert alone.lists(CLICKS) == clicks.lists(CLICKS)


def test_a_click_weighs_one_over_its_propensity_and_in_part_by_its_dwell(clicks: Clicks) -> None:
    theta = clicks.propensities[1]
    assert clicks.lists(CLICKS)["q0"].weights == {"p0": 1.0, "p1": 0.0, "p2": pytest.approx(1 / theta)}
    plain = Stage("s", "clicks", loss="click_listwise", propensities="none", dwell="weigh")
    # q6 was clicked for no time at all, and q1 not at all: neither says anything.
    lists = clicks.lists(plain)
    assert set(lists) == {"q0"}
    assert lists["q0"].weights == {"p0": 0.5, "p1": 0.0, "p2": 1.0}


def annotation(query_id: str, *passage_ids: str) -> Annotation:
    labels = ("positive", *["negative"] * (len(passage_ids) - 1))
    return Annotation(query_id, passage_ids, labels, "m", "llm", "ok")  # type: ignore[arg-type]


ANNOTATIONS = {query_id: annotation(query_id, "p7", "p6") for query_id in ("q1", "q6")}


def groups(clicks: Clicks, **settings: object) -> list[TrainingGroup]:
    stage = Stage("s", "clicks_and_llm", **settings)  # type: ignore[arg-type]
    return stage_groups(stage, {}, ANNOTATIONS, seed=1, clicks=clicks)


def test_a_share_of_0_or_1_has_the_groups_of_one_source(clicks: Clicks) -> None:
    by_llm = stage_groups(Stage("s", "llm"), {}, ANNOTATIONS, seed=1)
    by_clicks = stage_groups(CLICKS, {}, ANNOTATIONS, seed=1, clicks=clicks)
    assert [group.query_id for group in by_clicks] == ["q6", "q0"]
    assert groups(clicks, blend="frequency", click_share=0.0) == by_llm
    assert groups(clicks, blend="frequency", click_share=1.0) == by_clicks
    assert groups(clicks) == by_clicks + by_llm


def test_the_share_of_a_query_grows_with_its_frequency(clicks: Clicks) -> None:
    by_query = {group.query_id: group for group in groups(clicks, blend="frequency", kappa=2.0)}
    shares = {query_id: group.clicks.share for query_id, group in by_query.items() if group.clicks}
    assert shares == {"q0": pytest.approx(2 / 4), "q6": pytest.approx(1 / 3)}
    # What was shown is no negative of the LLM's part, whose own positives and negatives stay.
    assert by_query["q6"].positives == ("p7",)
    assert by_query["q6"].ignored == {"p5", "p1"}


def test_a_batch_holds_both_sources_of_a_query(dataset: Dataset, clicks: Clicks) -> None:
    stage = Stage("s", "clicks_and_llm", blend="frequency", kappa=2.0)
    batch = next(batches(groups(clicks, blend="frequency", kappa=2.0), dataset, stage=stage, epoch=0,
                         batch_queries=8, group_size=4, seed=1))  # fmt: skip
    row = batch.queries.index("stone")
    columns = {text: column for column, text in enumerate(batch.passages)}
    together = batch.targets.clicks
    assert together is not None
    assert together.is_shown[row].nonzero().ravel().tolist() == sorted(columns[f"text number {n}"] for n in (5, 1))
    assert together.weights[row].sum() == 1.0
    assert together.share[row].item() == pytest.approx(1 / 3)
    assert batch.targets.is_positive[row].nonzero().ravel().tolist() == [columns["text number 7"]]
    assert not batch.targets.is_candidate[row, columns["text number 5"]]
    assert together.share[batch.queries.index("magma")] == 0.0


def test_a_list_too_long_for_a_group_keeps_a_click(dataset: Dataset, clicks: Clicks) -> None:
    found = stage_groups(CLICKS, {}, {}, seed=1, clicks=clicks)
    for epoch in range(4):
        batch = next(batches(found, dataset, stage=CLICKS, epoch=epoch, batch_queries=8, group_size=2, seed=1))
        assert batch.targets.clicks is not None
        assert batch.targets.clicks.is_shown.sum(1).tolist() == [2, 2]
        assert torch.all(batch.targets.clicks.weights.sum(1) > 0)


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        ("labels: clicks", "labels: clicks learn by the loss click_listwise"),
        ("labels: llm, loss: click_listwise", "labels: clicks learn by the loss click_listwise"),
        ("labels: clicks_and_llm, loss: kl_replug", "the loss kl_replug is none of labels 'clicks_and_llm'"),
        ("labels: llm, dwell: weigh", "dwell has no effect"),
        ("labels: clicks_and_llm, kappa: 2", "kappa has no effect"),
        ("labels: clicks_and_llm, blend: frequency, click_share: 0.5, kappa: 2", "kappa has no effect"),
        ("labels: clicks, loss: click_listwise, human_share: 0.5", "human_share has no effect"),
        ("labels: clicks, loss: click_listwise, propensities: some", "propensities 'some'"),
        ("labels: clicks_and_llm, blend: frequency, click_share: 2", "click_share 2 must be from 0 to 1"),
    ],
)
def test_a_stage_of_clicks_that_cannot_work_is_refused(stage: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_curriculum(f"[{{name: s, {stage}}}]")
