"""The training job: it learns, it keeps the best, and killed anywhere it ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from components.annotate.config import AnnotateConfig
from components.prepare.config import PrepareConfig
from components.shared import checkpoint
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Annotation, Passage, Qrel, Query, write_records
from components.shared.telemetry import MetricLines
from components.train.config import TrainConfig
from components.train.data import batches
from components.train.dev import dev_set
from components.train.groups import TrainingGroup
from components.train.job import read_annotations, train
from components.train.trainer import Trainer
from tests.tiny_checkpoint import write_tiny_checkpoint

ANIMALS = ["cat", "dog", "owl", "fox", "bee", "ant", "cow", "pig", "hen", "elk"]
PLACES = ["barn", "wood", "lake", "hill"]
STAGES = """
- {name: llm, labels: llm, epochs: 3, learning_rate: 3.0e-3}
- {name: human, labels: human, human_share: 0.5, positives: one, epochs: 2, learning_rate: 1.0e-3}
"""


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """40 passages `animal place`; a query asks for one in other words, which an untrained model cannot know."""
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(tmp_path / "dataset"))) as artifact:
        writer = DatasetWriter(artifact.path)
        queries, qrels, annotations = [], [], []
        for number in range(40):
            passage_id = f"p{number}"
            writer.add_passage(Passage(passage_id, "", f"{ANIMALS[number // 4]} {PLACES[number % 4]} filler"))
            split = ("train", "train", "train", "dev")[(number + number // 4) % 4]
            queries.append((Query(f"q{number}", f"ask{number // 4} in{number % 4}"), split))
            qrels.append((Qrel(f"q{number}", passage_id, 1), split))
            if split == "train":
                others = tuple(f"p{(number + step) % 40}" for step in (1, 4, 9))
                annotations.append(Annotation(f"q{number}", (passage_id, *others), ("positive", *["negative"] * 3), "m", "llm", "ok"))  # type: ignore[arg-type]
        writer.finish(queries, qrels)
    for shard in (0, 1):
        its = AnnotateConfig(
            dataset_uri="", pools_uri="", llm_uri="", output_uri=str(tmp_path / f"annotations-{shard}"), shard=shard, num_shards=2
        )
        with artifact_writer("annotate", its) as artifact:
            write_records(artifact.path / "annotations.jsonl", annotations[shard::2])
    words = [*ANIMALS, *PLACES, "filler", *(f"ask{n}" for n in range(10)), *(f"in{n}" for n in range(4)), "query", ":"]
    write_tiny_checkpoint(tmp_path / "base", words)
    return tmp_path


def config(inputs: Path, **settings: object) -> TrainConfig:
    places = {
        "dataset_uri": str(inputs / "dataset"),
        "annotations_uri": f"{inputs / 'annotations-0'},{inputs / 'annotations-1'}",
        "base_uri": str(inputs / "base"),
        "output_uri": str(inputs / "checkpoint"),
    }
    chosen = {"curriculum": STAGES, "batch_queries": 4, "group_size": 4, "loss_temperature": 0.1, "checkpoint_steps": 2, "encode_rows": 4}
    return TrainConfig(**{**places, **chosen, **settings})  # type: ignore[arg-type]


def weights(folder: Path) -> str:
    return str(read_manifest(str(folder)).files["model.safetensors"]["sha256"])


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "logs" / "training.jsonl").read_text().splitlines()]


def test_training_learns_and_records_every_step(inputs: Path) -> None:
    train(config(inputs))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    steps = [line for line in lines(inputs / "checkpoint") if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, metrics["num_steps"] + 1))
    assert steps[-1]["loss"] < steps[0]["loss"]
    untrained = next(line["dev_ndcg_10"] for line in lines(inputs / "checkpoint") if line["step"] == 0)
    assert metrics["best_dev_ndcg_10"] > untrained
    assert metrics["num_groups"] == {"llm": 30, "human": 15}


def test_the_same_seed_gives_the_same_weights(inputs: Path) -> None:
    train(config(inputs))
    train(config(inputs, output_uri=str(inputs / "again")))
    train(config(inputs, output_uri=str(inputs / "other"), seed=1))
    assert weights(inputs / "checkpoint") == weights(inputs / "again") != weights(inputs / "other")


def test_the_best_weights_are_kept_not_the_last(inputs: Path) -> None:
    spoil = "[{name: good, labels: llm, epochs: 3, learning_rate: 3.0e-3}, {name: spoil, labels: llm, epochs: 2, learning_rate: 0.5}]"
    train(config(inputs, curriculum=spoil))
    measured = {line["step"]: line["dev_ndcg_10"] for line in lines(inputs / "checkpoint") if "dev_ndcg_10" in line}
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert metrics["best_step"] == max(measured, key=lambda step: (measured[step], -step)) < max(measured)
    model = checkpoint.load(str(inputs / "checkpoint"))
    annotations = read_annotations(config(inputs).annotations_uri)
    from components.train.dev import measure_dev

    again = measure_dev(model, dev_set(Dataset(inputs / "dataset"), annotations, config(inputs)))
    assert again == pytest.approx(metrics["best_dev_ndcg_10"])


def test_kill_9_in_the_middle_of_a_stage_ends_in_the_same_bytes(inputs: Path) -> None:
    train(config(inputs))
    again = config(inputs, output_uri=str(inputs / "killed"))
    from pipelines.local import flags

    command = [sys.executable, "-m", "components.train", *flags(again)]
    written = inputs / "killed.partial" / "logs" / "training.jsonl"
    for wanted in (3, 25, 31):
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (
            written.exists() and sum(b'"loss"' in line for line in written.read_bytes().splitlines()) >= wanted
        ):
            time.sleep(0.005)
        assert process.poll() is None, "the job ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(again)
    assert weights(inputs / "killed") == weights(inputs / "checkpoint")
    kept = [(line["step"], line.get("loss")) for line in lines(inputs / "killed")]
    assert kept == [(line["step"], line.get("loss")) for line in lines(inputs / "checkpoint")]


def test_sorted_rows_give_the_gradients_of_one_padded_batch(inputs: Path) -> None:
    dataset = Dataset(open_artifact(str(inputs / "dataset")))
    groups = [TrainingGroup(f"q{n}", (f"p{n}",), (f"p{n + 5}",)) for n in range(6)]
    from components.train.curriculum import Stage
    from components.train.loss import disj_infonce

    stage = Stage("llm", "llm")
    (batch,) = batches(groups, dataset, stage=stage, epoch=0, batch_queries=6, group_size=2, seed=0)
    gradients = []
    for rows in (2, 64):
        model = checkpoint.load(str(inputs / "base")).eval()
        its = config(inputs, encode_rows=rows)
        files = MetricLines(inputs / f"lines-{rows}")
        trainer = Trainer(model, dataset, dev_set(dataset, {}, its), its, state_uri="", best_path=inputs / "best", lines=files)
        queries, passages = trainer.encode(model.tokenize_queries(batch.queries)), trainer.encode(model.tokenize_passages(batch.passages))
        torch.autograd.backward(disj_infonce(queries @ passages.T, batch.targets.is_positive, batch.targets.is_candidate, 0.1))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        files.close()
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


def test_held_out_annotations_are_not_trained_on(inputs: Path) -> None:
    dev = next(query.query_id for query in Dataset(inputs / "dataset").queries("dev"))
    with artifact_writer(
        "annotate", AnnotateConfig(dataset_uri="", pools_uri="", llm_uri="", output_uri=str(inputs / "leak"), seed=9)
    ) as artifact:
        write_records(artifact.path / "annotations.jsonl", [Annotation(dev, ("p0",), ("positive",), "m", "llm", "ok")])
    with pytest.raises(ValueError, match="no stage of the curriculum has a query with a positive"):
        train(config(inputs, annotations_uri=str(inputs / "leak"), curriculum="[{name: llm, labels: llm}]"))


def test_a_query_in_two_shards_is_refused(inputs: Path) -> None:
    with pytest.raises(ValueError, match="is annotated in two shards; pass each shard once"):
        read_annotations(f"{inputs / 'annotations-0'},{inputs / 'annotations-0'}")


def test_where_nobody_judged_dev_the_llms_labels_choose(inputs: Path) -> None:
    dataset = Dataset(inputs / "dataset")
    its = next(query.query_id for query in dataset.queries("dev"))
    dataset.qrels("dev").clear()
    dev = dev_set(dataset, {its: Annotation(its, ("p0", "p1"), ("positive", "negative"), "m", "llm", "ok")}, config(inputs))
    assert dev.qrels == {its: {"p0": 1}}
    assert len(dev.passages) == 40
