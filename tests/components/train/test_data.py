"""Training groups, shares, rotation, and above all the denominators."""

from pathlib import Path

import pytest
import torch

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.records import Passage, Qrel, Query
from components.train.curriculum import Stage
from components.train.labels.data import Batch, batches, num_batches
from components.train.labels.groups import TrainingGroup

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


def first_batch(
    groups: list[TrainingGroup], dataset: Dataset, stage: Stage = STAGE, epoch: int = 0, group_size: int = 4
) -> Batch:
    return next(batches(groups, dataset, stage=stage, epoch=epoch, batch_queries=8, group_size=group_size, seed=1))


def row_and_column(batch: Batch, query: str, text: str) -> tuple[int, int]:
    return batch.queries.index(query), batch.passages.index(text)


def test_anothers_positive_that_is_mine_too_is_not_my_negative(dataset: Dataset) -> None:
    # q1 takes p1 as positive; for q0 p1 is ignored: with a naive denominator q0 would push p1 away.
    batch = first_batch(
        [TrainingGroup("q0", ("p0",), (), frozenset({"p1"})), TrainingGroup("q1", ("p1",), ())], dataset
    )
    row, column = row_and_column(batch, "query 0", "text number 1")
    assert not batch.targets.is_candidate[row, column]
    assert batch.targets.is_candidate.sum() == 3
    assert batch.num_masked == 1
    assert batch.masked_share == pytest.approx(0.25)


def test_the_same_text_under_another_id_is_one_column(dataset: Dataset) -> None:
    batch = first_batch([TrainingGroup("q0", ("p1",), ("p2",)), TrainingGroup("q1", ("p9",), ("p3",))], dataset)
    assert len(batch.passages) == 3
    assert batch.targets.is_positive.sum(0).tolist().count(2) == 1


def test_a_positive_of_the_same_question_under_another_id_is_not_my_negative(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    for number in range(3):
        writer.add_passage(Passage(f"p{number}", "", f"text number {number}"))
    writer.finish(
        [
            (Query("a", "why is ice  blue"), "train"),
            (Query("b", "Why is ice blue"), "train"),
            (Query("c", "why"), "train"),
        ],
        [],
    )
    batch = first_batch(
        [TrainingGroup(f"{query}", (f"p{number}",), ()) for number, query in enumerate("abc")], Dataset(tmp_path)
    )
    for mine, others in (("why is ice  blue", "text number 1"), ("Why is ice blue", "text number 0")):
        assert not batch.targets.is_candidate[row_and_column(batch, mine, others)]
    assert batch.num_masked == 2


def test_an_own_hard_negative_with_a_positives_text_is_masked(dataset: Dataset) -> None:
    batch = first_batch([TrainingGroup("q0", ("p0",), ("p9", "p2"), frozenset({"p1"}))], dataset)
    assert not batch.targets.is_candidate[row_and_column(batch, "query 0", "TEXT  number 1")]
    assert batch.num_masked == 1


def test_a_naive_denominator_gives_another_loss(dataset: Dataset) -> None:
    from components.train.loss import disj_infonce

    batch = first_batch(
        [TrainingGroup("q0", ("p0",), (), frozenset({"p1"})), TrainingGroup("q1", ("p1",), ())], dataset
    )
    scores = torch.ones(batch.targets.is_positive.shape)
    # Masked: q0 sees its positive only, loss 0; q1 sees both at equal scores, log 2; mean log(2) / 2. Naive: log 2.
    assert disj_infonce(scores, batch.targets.is_positive, batch.targets.is_candidate, 1.0).item() == pytest.approx(
        0.34657, abs=1e-4
    )
    assert disj_infonce(
        scores, batch.targets.is_positive, torch.ones_like(batch.targets.is_candidate), 1.0
    ).item() == pytest.approx(0.69315, abs=1e-4)


def test_positives_rotate_over_the_epochs(dataset: Dataset) -> None:
    groups = [TrainingGroup("q0", ("p0", "p1", "p2"), ("p4",))]
    one = Stage("a", "llm", positives="one", epochs=3)
    seen = [first_batch(groups, dataset, one, epoch).passages[0] for epoch in range(3)]
    assert sorted(seen) == ["text number 0", "text number 1", "text number 2"]


def test_all_positives_leave_room_for_a_negative(dataset: Dataset) -> None:
    groups = [TrainingGroup("q0", ("p0", "p1", "p2", "p3"), ("p4", "p5"))]
    batch = first_batch(groups, dataset, group_size=3)
    assert batch.targets.is_positive.sum() == 2
    assert (~batch.targets.is_positive & batch.targets.is_candidate).sum() == 1


def test_avg_takes_as_many_positives_as_the_average_group_has(dataset: Dataset) -> None:
    groups = [TrainingGroup("q0", ("p0", "p1", "p2"), ("p4",)), TrainingGroup("q1", ("p5",), ("p6",))]
    batch = first_batch(groups, dataset, Stage("a", "llm", positives="avg"))
    assert sorted(batch.targets.is_positive.sum(-1).tolist()) == [1, 2]


def test_infonce_draws_one_positive(dataset: Dataset) -> None:
    batch = first_batch([TrainingGroup("q0", ("p0", "p1"), ("p4",))], dataset, Stage("a", "llm", loss="infonce"))
    assert batch.targets.is_positive.sum() == 1


def test_a_distribution_is_learnt_from_the_whole_pool_and_from_no_other(dataset: Dataset) -> None:
    groups = [
        TrainingGroup("q0", ("p0",), ("p2",), frozenset({"p1"}), {"p0": -1.0, "p1": -2.0, "p2": -3.0}),
        TrainingGroup("q1", (), ("p4", "p5"), frozenset(), {"p4": -0.5, "p5": -0.25}),
    ]
    batch = first_batch(groups, dataset, Stage("a", "llm", loss="kl_replug"))
    for query, pool in (("query 0", {0: -1.0, 1: -2.0, 2: -3.0}), ("query 1", {4: -0.5, 5: -0.25})):
        row = batch.targets.utilities[batch.queries.index(query)]
        assert {
            int(text.split()[-1]): row[n].item() for n, text in enumerate(batch.passages) if row[n].isfinite()
        } == pool


def test_the_batches_are_a_function_of_the_seed_and_can_be_resumed(dataset: Dataset) -> None:
    groups = [TrainingGroup(f"q{n}", (f"p{n}",), (f"p{n + 4}",)) for n in range(5)]
    arguments = {"stage": STAGE, "epoch": 1, "batch_queries": 2, "group_size": 2, "seed": 5}
    whole = [batch.queries for batch in batches(groups, dataset, **arguments)]  # type: ignore[arg-type]
    rest = [batch.queries for batch in batches(groups, dataset, skip=1, **arguments)]  # type: ignore[arg-type]
    assert rest == whole[1:]
    assert sum(map(len, whole)) == 5
    assert len(whole) == num_batches(5, 2)


def texts_of(batch: Batch) -> list[int]:
    return sorted(int(text.split()[-1]) for text in batch.passages)


@pytest.mark.parametrize(
    ("positives", "hard_negatives", "ignored", "never"),
    [
        (("p0",), ("p2", "p3", "p4", "p5"), (), (1, 6, 7, 8)),
        (("p0",), ("p2",), (), ()),
        (("p0",), (), (), ()),
        (("p0", "p1"), ("p2",), (), ()),
        (("p0",), ("p2",), ("p3", "p4"), (3, 4)),
        (("p0", "p1", "p2"), ("p3",), ("p4", "p5", "p6"), (4, 5, 6)),
    ],
)
def test_pos_one_keeps_one_positive_and_fills_every_other_place_with_negatives(
    dataset: Dataset,
    positives: tuple[str, ...],
    hard_negatives: tuple[str, ...],
    ignored: tuple[str, ...],
    never: object,
) -> None:
    group = TrainingGroup("q0", positives, hard_negatives, frozenset(ignored))
    for epoch in range(6):
        batch = first_batch([group], dataset, Stage("a", "llm", positives="one"), epoch)
        # p9 repeats p1 in other letters, so it is no candidate beside p1, whether p1 has its turn or not.
        columns = zip(batch.passages, batch.targets.is_candidate[0].tolist(), strict=True)
        shown = {f"p{text.split()[-1]}" for text, is_candidate in columns if is_candidate}
        assert batch.targets.is_positive.sum() == 1
        # Four places: one positive, then the pool's negatives, then the corpus's. Never a positive out of turn.
        assert len(shown & set(positives)) == 1
        assert len(shown & set(hard_negatives)) == min(3, len(hard_negatives))
        assert not shown & set(ignored)
        assert not set(texts_of(batch)) & set(never)  # type: ignore[call-overload]
        assert len(batch.passages) >= 3


def test_a_corpus_with_no_other_passage_leaves_places_empty(dataset: Dataset) -> None:
    everything = TrainingGroup("q0", ("p0",), ("p2",), frozenset(f"p{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9)))
    batch = first_batch([everything], dataset, Stage("a", "llm", positives="one"), group_size=16)
    assert texts_of(batch) == [0, 2]


def test_only_pos_one_fills_places_from_the_corpus(dataset: Dataset) -> None:
    for strategy in ("avg", "all"):
        stage = Stage("a", "llm", positives=strategy)  # type: ignore[arg-type]
        assert texts_of(first_batch([TrainingGroup("q0", ("p0",), ("p2",))], dataset, stage)) == [0, 2]
