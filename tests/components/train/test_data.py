"""Training groups, shares, rotation, and above all the denominators."""

import itertools
from pathlib import Path

import pytest
import torch

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.records import Annotation, Passage, Qrel, Query
from components.train.curriculum import Stage
from components.train.data import TrainingGroup, batches, human_groups, llm_groups, num_batches

STAGE = Stage("llm", "llm")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Passages p0 .. p9 with texts of their own, except that p9 repeats p1 in other letters; queries q0 .. q4."""
    writer = DatasetWriter(tmp_path)
    for number in range(9):
        writer.add_passage(Passage(f"p{number}", "", f"text number {number}"))
    writer.add_passage(Passage("p9", "", "TEXT  number 1"))
    writer.finish([(Query(f"q{n}", f"query {n}"), "train") for n in range(5)], [(Qrel("q0", "p0", 1), "train")])
    return Dataset(tmp_path)


def annotation(query_id: str, **labels: str) -> Annotation:
    return Annotation(query_id, tuple(labels), tuple(labels.values()), "m", "llm", "ok")  # type: ignore[arg-type]


def first_batch(groups: list[TrainingGroup], dataset: Dataset, stage: Stage = STAGE, epoch: int = 0, group_size: int = 4):  # noqa: ANN201
    return next(batches(groups, dataset, stage=stage, epoch=epoch, batch_queries=8, group_size=group_size, seed=1))


def row_and_column(batch, query: str, text: str) -> tuple[int, int]:  # noqa: ANN001
    return batch.queries.index(query), batch.passages.index(text)


def test_a_query_without_positives_teaches_nothing() -> None:
    groups = llm_groups([annotation("q0", p0="positive", p1="ignore", p2="negative"), annotation("q1", p0="negative", p1="ignore")])
    assert groups == [TrainingGroup("q0", ("p0",), ("p2",), frozenset({"p1"}))]


def test_anothers_positive_that_is_mine_too_is_not_my_negative(dataset: Dataset) -> None:
    # q1 takes p1 as positive; for q0 p1 is ignored: with a naive denominator q0 would push p1 away.
    batch = first_batch([TrainingGroup("q0", ("p0",), (), frozenset({"p1"})), TrainingGroup("q1", ("p1",), ())], dataset)
    row, column = row_and_column(batch, "query 0", "text number 1")
    assert not batch.is_candidate[row, column]
    assert batch.is_candidate.sum() == 3
    assert batch.masked_share == pytest.approx(0.25)


def test_the_same_text_under_another_id_is_one_column(dataset: Dataset) -> None:
    batch = first_batch([TrainingGroup("q0", ("p1",), ("p2",)), TrainingGroup("q1", ("p9",), ("p3",))], dataset)
    assert len(batch.passages) == 3
    assert batch.is_positive.sum(0).tolist().count(2) == 1


def test_a_naive_denominator_gives_another_loss(dataset: Dataset) -> None:
    from components.train.loss import disj_infonce

    batch = first_batch([TrainingGroup("q0", ("p0",), (), frozenset({"p1"})), TrainingGroup("q1", ("p1",), ())], dataset)
    scores = torch.full(batch.is_positive.shape, 1.0)
    # Masked: q0 sees its positive only, loss 0; q1 sees both at equal scores, log 2; mean log(2) / 2. Naive: log 2.
    assert disj_infonce(scores, batch.is_positive, batch.is_candidate, 1.0).item() == pytest.approx(0.34657, abs=1e-4)
    assert disj_infonce(scores, batch.is_positive, torch.ones_like(batch.is_candidate), 1.0).item() == pytest.approx(0.69315, abs=1e-4)


def test_human_shares_are_nested(dataset: Dataset) -> None:
    positives = {f"q{number}": ["p0"] for number in range(100)}
    chosen = [{g.query_id for g in human_groups(positives, {}, human_share=share, seed=3)} for share in (0.05, 0.1, 0.2, 0.5, 1.0)]
    assert [len(its) for its in chosen] == [5, 10, 20, 50, 100]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(chosen))


def test_what_the_llm_found_useful_is_no_negative_of_a_human_group() -> None:
    its = annotation("q0", p0="negative", p1="positive", p2="ignore", p3="negative")
    (group,) = human_groups({"q0": ["p0"]}, {"q0": its}, human_share=1.0, seed=0)
    assert group == TrainingGroup("q0", ("p0",), ("p3",), frozenset({"p1", "p2"}))


def test_positives_rotate_over_the_epochs(dataset: Dataset) -> None:
    groups = [TrainingGroup("q0", ("p0", "p1", "p2"), ("p4",))]
    one = Stage("a", "llm", positives="one", epochs=3)
    seen = [first_batch(groups, dataset, one, epoch).passages[0] for epoch in range(3)]
    assert sorted(seen) == ["text number 0", "text number 1", "text number 2"]


def test_all_positives_leave_room_for_a_negative(dataset: Dataset) -> None:
    groups = [TrainingGroup("q0", ("p0", "p1", "p2", "p3"), ("p4", "p5"))]
    batch = first_batch(groups, dataset, group_size=3)
    assert batch.is_positive.sum() == 2
    assert (~batch.is_positive & batch.is_candidate).sum() == 1


def test_avg_takes_as_many_positives_as_the_average_group_has(dataset: Dataset) -> None:
    groups = [TrainingGroup("q0", ("p0", "p1", "p2"), ("p4",)), TrainingGroup("q1", ("p5",), ("p6",))]
    batch = first_batch(groups, dataset, Stage("a", "llm", positives="avg"))
    assert sorted(batch.is_positive.sum(-1).tolist()) == [1, 2]


def test_infonce_draws_one_positive(dataset: Dataset) -> None:
    batch = first_batch([TrainingGroup("q0", ("p0", "p1"), ("p4",))], dataset, Stage("a", "llm", loss="infonce"))
    assert batch.is_positive.sum() == 1


def test_the_batches_are_a_function_of_the_seed_and_can_be_resumed(dataset: Dataset) -> None:
    groups = [TrainingGroup(f"q{n}", (f"p{n}",), (f"p{n + 4}",)) for n in range(5)]
    arguments = {"stage": STAGE, "epoch": 1, "batch_queries": 2, "group_size": 2, "seed": 5}
    whole = [batch.queries for batch in batches(groups, dataset, **arguments)]  # type: ignore[arg-type]
    rest = [batch.queries for batch in batches(groups, dataset, skip=1, **arguments)]  # type: ignore[arg-type]
    assert rest == whole[1:]
    assert sum(map(len, whole)) == 5
    assert len(whole) == num_batches(5, 2)
