"""The teacher: how its voices are scaled and fused, how their shares are tuned, and what a student makes of it."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.mine.config import MineConfig
from components.prepare.config import PrepareConfig
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset, DatasetWriter, write_queries
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.records import Passage, Pool, Qrel, Query, write_records
from components.train.curriculum import parse_curriculum
from components.train.job import LINES_NAME, train
from components.train.labels.data import batches
from components.train.labels.dev import DevSet
from components.train.labels.groups import TrainingGroup, teacher_groups
from components.train.labels.teacher import Shares, Teacher, Voices, scaled, tune
from components.train.loop.trainer import Trainer
from components.train.loss import Targets, disj_infonce, distillation
from tests.components.train.learnable import config

STAGE = """
- {name: distil, labels: teacher, loss: distillation, human_share: 0.5, utility_temperature: 0.1, epochs: 4,
   learning_rate: 3.0e-3}
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    writer = DatasetWriter(tmp_path)
    for number, text in enumerate(["red fox", "red hen", "blue whale", "green frog", "grey owl"]):
        writer.add_passage(Passage(f"p{number}", "", text))
    writer.finish([(Query("q0", "red fox"), "train"), (Query("q1", "whale"), "train")], [])
    return Dataset(tmp_path)


def voices_of(dataset: Dataset, queries: dict[str, str], query_vectors: list[list[float]]) -> Voices:
    """The passages lie so that the dots of (1, 0) are .2 .8 .4 0 .6 and those of (0, 1) are 0 0 1 0 .5."""
    return Voices(
        BM25(dataset),
        dataset,
        queries=queries,
        query_vectors=np.array(query_vectors, dtype=np.float32),
        passage_ids=["p0", "p1", "p2", "p3", "p4"],
        passage_vectors=np.array([[0.2, 0], [0.8, 0], [0.4, 1], [0, 0], [0.6, 0.5]], dtype=np.float32),
        num_sampled=5,
    )


@pytest.fixture
def voices(dataset: Dataset) -> Voices:
    return voices_of(dataset, {"q0": "red fox", "q1": "whale"}, [[1, 0], [0, 1]])


def test_each_voice_goes_from_its_lowest_to_its_best_passage(voices: Voices) -> None:
    words, dense = voices.of(["q0", "q1"], ["p0", "p1", "p2"])
    # q0: p0 has both words and is BM25's best; p1 shares `red`; p2 nothing.
    assert words[0, 0] == pytest.approx(1)
    assert 0 < words[0, 1] < 1
    assert words[0, 2] == 0
    assert words[1].tolist() == [0, 0, 1]
    # q0's dots go from 0 (p3) to .8 (p1): .2 -> .25, .8 -> 1, .4 -> .5.
    assert dense[0].tolist() == pytest.approx([0.25, 1, 0.5])


def test_a_share_of_one_is_bm25_and_of_zero_the_encoder(voices: Voices) -> None:
    words, dense = voices.of(["q0"], ["p0", "p1", "p2"])
    for share, voice in ((1.0, words), (0.0, dense)):
        assert Teacher(voices, Shares(share), {}).scores(["q0"], ["p0", "p1", "p2"]) == pytest.approx(voice)


def test_the_llm_speaks_only_of_pools_that_it_has_judged(voices: Voices) -> None:
    teacher = Teacher(voices, Shares(0.0, 0.5), {"q0": {"p0": -1.0, "p1": -3.0, "p4": -2.0}})
    # q0's dense voice is .25, 1, .5; the LLM's is 1 for p0, 0 for p1, and p2 is not in its pool.
    assert teacher.scores(["q0"], ["p0", "p1", "p2"])[0].tolist() == pytest.approx([0.625, 0.5, 0.25])
    assert teacher.scores(["q1"], ["p2"])[0].tolist() == pytest.approx([1.0])


@given(st.dictionaries(st.text(max_size=2), st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_scaling_keeps_the_order(scores: dict[str, float]) -> None:
    after = scaled(scores)
    assert all(0 <= value <= 1 for value in after.values())
    by_score = sorted(scores, key=lambda name: scores[name])
    assert [after[name] for name in by_score] == sorted(after.values())


def test_the_share_is_tuned_on_dev_labels(voices: Voices) -> None:
    # For q0 people want p0, which BM25 ranks first and the encoder fourth of five.
    dev = DevSet({"q0": "red fox"}, {f"p{n}": "" for n in range(5)}, {"q0": {"p0": 1}})
    tuned = tune(voices, dev, {}, bm25_share=-1.0, llm_share=-1.0)
    # p0 = w + .25 (1 - w) passes p1 = w * words + 1 - w at some w; the smallest share of the best is taken.
    words = float(voices.of(["q0"], ["p1"])[0][0, 0])
    border = 0.75 / (0.75 + 1 - words)
    assert tuned.shares.bm25 == pytest.approx(np.ceil(border * 20) / 20)
    assert tuned.bm25_curve["0.00"] == pytest.approx(1 / np.log2(5), abs=1e-6)
    assert tuned.bm25_curve[f"{tuned.shares.bm25:.2f}"] == 1
    assert tuned.shares.llm == 0


@pytest.mark.parametrize(
    ("num_pools", "llm_best", "share"),
    [
        # The LLM has 1 for its best and .667 for the other, 0 for p3. People want p4, which the encoder has behind p1:
        # p1 = 1 - l + .667 l against p4 = .75 (1 - l) + l, so p4 leads where .25 (1 - l) < .333 l, that is from .43 on.
        (30, "p4", 0.5),
        # It prefers what the encoder prefers: nothing changes, and the smallest share stays.
        (30, "p1", 0.0),
        # Too few judged pools to believe it.
        (10, "p4", 0.0),
    ],
)
def test_the_llms_share_needs_enough_pools_and_a_gain(
    dataset: Dataset, num_pools: int, llm_best: str, share: float
) -> None:
    names = [f"q{number}" for number in range(num_pools)]
    voices = voices_of(dataset, dict.fromkeys(names, "red fox"), [[1, 0]] * num_pools)
    pools = {name: ({"p1": -2.0, "p4": -2.0, "p3": -4.0, llm_best: -1.0}, {"p4": 1}) for name in names}
    tuned = tune(voices, DevSet({}, {}, {}), pools, bm25_share=0.0, llm_share=-1.0)
    assert tuned.shares.llm == share
    assert tuned.num_pools == num_pools


def test_without_labels_the_share_is_the_stated_one(voices: Voices) -> None:
    assert tune(voices, DevSet({}, {}, {}), {}, bm25_share=-1.0, llm_share=-1.0).shares == Shares(0.3, 0.0)
    assert tune(voices, DevSet({}, {}, {}), {}, bm25_share=0.7, llm_share=0.2).shares == Shares(0.7, 0.2)


def test_a_batch_has_the_teachers_word_on_every_passage(dataset: Dataset, voices: Voices) -> None:
    (stage,) = parse_curriculum(STAGE)
    teacher = Teacher(voices, Shares(0.0), {})
    groups = [TrainingGroup("q0", (), ("p1", "p0")), TrainingGroup("q1", ("p2",), ("p4", "p3"))]
    batch = next(batches(groups, dataset, stage=stage, epoch=0, batch_queries=2, group_size=3, seed=1, teacher=teacher))
    assert batch.targets.utilities.shape == (2, 5)
    row, column = batch.queries.index("red fox"), batch.passages.index("blue whale")
    assert batch.targets.utilities[row, column] == pytest.approx(0.5)
    assert batch.targets.is_positive.sum(1).tolist() == [float(query != "red fox") for query in batch.queries]


def test_the_teachers_best_are_in_every_epoch_and_the_rest_is_drawn(dataset: Dataset, voices: Voices) -> None:
    (stage,) = parse_curriculum(STAGE)
    teacher = Teacher(voices, Shares(0.0), {})
    group = teacher.ordered(TrainingGroup("q0", (), ("p0", "p1", "p2", "p3", "p4")))
    # Dots .2 .8 .4 0 .6.
    assert group.hard_negatives == ("p1", "p4", "p2", "p0", "p3")
    drawn = [
        next(
            batches([group], dataset, stage=stage, epoch=epoch, batch_queries=1, group_size=4, seed=1, teacher=teacher)
        )
        for epoch in range(8)
    ]
    assert all({"red hen", "grey owl"} <= set(batch.passages) for batch in drawn)
    assert len({frozenset(batch.passages) for batch in drawn}) > 1


def test_distillation_is_the_teachers_divergence_plus_infonce_of_the_rows_with_a_positive() -> None:
    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    # The student is indifferent: log 2 for the one positive; the first row's teacher is too, the second's is sure.
    targets = Targets(
        torch.tensor([[True, False], [False, False]]),
        torch.ones(2, 2, dtype=torch.bool),
        torch.tensor([[1.0, 1.0], [100.0, 0.0]]),
    )
    # KL: 0 and log 2, mean log(2) / 2.
    assert distillation(scores, targets, 0.05, 0.1).item() == pytest.approx(1.5 * np.log(2), abs=1e-6)
    without = Targets(torch.zeros(2, 2, dtype=torch.bool), targets.is_candidate, targets.utilities)
    assert distillation(scores, without, 0.05, 0.1).item() == pytest.approx(0.5 * np.log(2), abs=1e-6)
    assert disj_infonce(scores, targets.is_positive, targets.is_candidate, 0.05).item() == pytest.approx(np.log(2))


def test_a_teachers_groups_know_no_more_human_labels_than_the_share() -> None:
    (stage,) = parse_curriculum(STAGE)
    positives = {f"q{number}": [f"p{number}"] for number in range(10)}
    pools = {f"q{number}": (f"p{number}", "p90", "p91") for number in range(12)}
    groups = teacher_groups(stage, positives, {}, pools, seed=1, known_share=0.5)
    assert len(groups) == 12
    with_positive = [group for group in groups if group.positives]
    assert len(with_positive) == 5
    assert all(group.positives[0] not in group.hard_negatives for group in with_positive)
    assert all(group.hard_negatives == pools[group.query_id] for group in groups if not group.positives)


def test_a_distilled_stage_learns_and_says_what_its_teacher_was(inputs: Path) -> None:
    # q10 is not in any annotation of this run, and learns from its pool all the same.
    pools = [Pool(f"q{n}", (f"p{n}", f"p{(n + 7) % 40}"), ("bm25", "dense"), 1) for n in range(40)]
    places = {"dataset_uri": "", "encoder_uri": "", "index_uri": ""}
    with artifact_writer("mine", MineConfig(**places, output_uri=str(inputs / "pools"))) as artifact:
        write_records(artifact.path / "pools.jsonl", pools)
    train(config(inputs, curriculum=STAGE, dropout="off", train_passage_tokens=4, pools_uri=str(inputs / "pools")))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert metrics["num_groups"] == {"distil": 30}
    assert metrics["human_labels"]["positives"] == {"distil": 15}
    teacher = metrics["teacher"]["distil"]
    assert 0 <= teacher["shares"]["bm25"] <= 1
    assert len(teacher["bm25_curve"]) == 21
    dev = [
        values["dev_ndcg_10"]
        for values in map(orjson.loads, (inputs / "checkpoint" / LINES_NAME).read_bytes().splitlines())
        if "loss" not in values
    ]
    assert max(dev) > dev[0] + 0.1


def test_queries_that_an_llm_wrote_tune_nothing(inputs: Path) -> None:
    # The same job, but all queries are asked ones: labels to learn from, and none to tune by.
    dataset = Dataset(inputs / "dataset")
    queries = [(query, dataset.splits[query.query_id]) for query in dataset.queries()]
    qrels = [
        (Qrel(query_id, passage_id, grade), split)
        for split in ("train", "dev")
        for query_id, grades in dataset.qrels(split).items()
        for passage_id, grade in grades.items()
    ]
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(inputs / "asked"))) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage in dataset.iter_passages():
            writer.add_passage(passage)
        writer.finish(queries, qrels)
        write_queries(artifact.path, queries, qrels, asked=[query.query_id for query, _ in queries])
    train(config(inputs, curriculum=STAGE, dataset_uri=str(inputs / "asked")))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert metrics["human_labels"]["synthetic"]["dev"] > 0
    assert metrics["teacher"]["distil"]["shares"] == {"bm25": 0.3, "llm": 0.0}
    assert metrics["teacher"]["distil"]["num_dev_queries"] == 0


def test_a_killed_job_asks_the_untrained_encoder_once(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = config(inputs, curriculum=STAGE)
    run_stage = Trainer._run_stage

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_run_stage", cut_short)
    with pytest.raises(KeyboardInterrupt):
        train(chosen)
    monkeypatch.setattr(Trainer, "_run_stage", run_stage)

    def asked_again(*_: object, **__: object) -> None:
        pytest.fail("the vectors of the first attempt were there")

    monkeypatch.setattr("components.train.loop.teaching._encoded", asked_again)
    train(chosen)
    assert read_manifest(str(inputs / "checkpoint")).metrics["num_steps"] == 4 * 8


@pytest.mark.parametrize(
    ("stage", "problem"),
    [
        ("{name: a, labels: teacher, human_share: 0}", "labels: teacher learn by the loss distillation"),
        ("{name: a, labels: llm, loss: distillation}", "do not go together"),
        ("{name: a, labels: teacher, loss: distillation}", "human_share is missing"),
        ("{name: a, labels: llm, bm25_share: 0.3}", "bm25_share has no effect on labels 'llm'"),
        ("{name: a, labels: human, human_share: 0}", "must be above 0 and at most 1"),
        ("{name: a, labels: teacher, loss: distillation, human_share: 0, bm25_share: 2}", "from 0 to 1, or -1"),
    ],
)
def test_a_stage_that_cannot_have_a_teacher_is_refused(stage: str, problem: str) -> None:
    with pytest.raises(ValueError, match="curriculum stage 1") as refused:
        parse_curriculum(f"[{stage}]")
    assert problem in str(refused.value)
