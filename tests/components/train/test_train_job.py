"""The training job: it learns, it keeps the best, and killed anywhere it ends with the same bytes."""

import json
import shutil
from pathlib import Path

import pytest

from components.annotate.config import AnnotateConfig
from components.mine.config import MineConfig
from components.prepare.config import PrepareConfig
from components.shared import checkpoint
from components.shared.dataset import Dataset, DatasetWriter, write_queries
from components.shared.manifest import artifact_writer, read_manifest
from components.shared.records import Annotation, Passage, Pool, Qrel, Query, write_records
from components.train.job import read_annotations, train
from components.train.labels.dev import dev_set, ndcg
from components.train.loop.model import base_model
from tests.components.train.learnable import config
from tests.tiny_checkpoint import write_tiny_checkpoint


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
    # Half of the 30 train queries and of the 10 dev queries; the LLM has the same positives, so none is masked.
    assert metrics["human_labels"] == {
        "share": 0.5,
        "positives": {"llm": 0, "human": 15},
        "masks": {"llm": 0, "human": 0},
        "dev": 5,
        "calibration_queries": 0,
        "pooled_beyond_share": 15,
        "synthetic": {"positives": 0, "dev": 0},
    }


def test_the_same_seed_gives_the_same_weights(inputs: Path) -> None:
    train(config(inputs))
    train(config(inputs, output_uri=str(inputs / "again")))
    train(config(inputs, output_uri=str(inputs / "other"), seed=1))
    assert weights(inputs / "checkpoint") == weights(inputs / "again") != weights(inputs / "other")


def test_the_best_weights_are_kept_not_the_last(inputs: Path) -> None:
    good = "{name: good, labels: llm, epochs: 3, learning_rate: 3.0e-3}"
    spoil = f"[{good}, {{name: spoil, labels: llm, epochs: 2, learning_rate: 0.5}}]"
    train(config(inputs, curriculum=spoil, dev_human_share=1.0))
    measured = {line["step"]: line["dev_ndcg_10"] for line in lines(inputs / "checkpoint") if "dev_ndcg_10" in line}
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert metrics["best_step"] == max(measured, key=lambda step: (measured[step], -step)) < max(measured)
    model = checkpoint.load(str(inputs / "checkpoint"))
    annotations = read_annotations(config(inputs).annotations_uri)
    from components.train.labels.dev import measure_dev

    again = measure_dev(model, dev_set(Dataset(inputs / "dataset"), annotations, config(inputs)))
    assert again == pytest.approx(metrics["best_dev_ndcg_10"])


def test_adapters_end_in_an_ordinary_model(inputs: Path) -> None:
    train(config(inputs, lora_rank=4, dev_human_share=1.0))
    base, trained = (checkpoint.load(str(inputs / name)).state_dict() for name in ("base", "checkpoint"))
    assert set(base) == set(trained)
    changed = {name for name, weight in base.items() if not weight.equal(trained[name])}
    assert any(name.endswith("query.weight") for name in changed)
    # All but the linear layers stay.
    assert all(name.endswith("weight") and "embeddings" not in name and "LayerNorm" not in name for name in changed)


@pytest.mark.parametrize("loss", ["lsepair", "conj_infonce", "infonce"])
def test_every_loss_trains_a_mixed_stage(inputs: Path, loss: str) -> None:
    labels = "labels: mixed, human_share: 0.5, ignore: negative"
    stage = f"[{{name: mixed, {labels}, loss: {loss}, epochs: 3, learning_rate: 3.0e-3}}]"
    train(config(inputs, curriculum=stage))
    steps = [line["loss"] for line in lines(inputs / "checkpoint") if "loss" in line]
    # 30 groups of the LLM and 15 of people, 4 a step.
    assert len(steps) == 36
    assert sum(steps[-6:]) < sum(steps[:6])


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


def test_the_dev_measure_is_the_one_of_the_evaluation() -> None:
    import ir_measures

    grades = {"a": 2, "b": 1, "c": 0, "d": 3, "unfound": 1}
    ranked = ["c", "b", "x", "a", "y", "d", *(f"z{number}" for number in range(9))]
    run = {"q": {passage_id: float(-rank) for rank, passage_id in enumerate(ranked)}}
    expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], {"q": grades}, run)[ir_measures.nDCG @ 10]
    assert ndcg(ranked, grades) == pytest.approx(expected)


def test_where_nobody_judged_dev_the_llms_labels_choose(inputs: Path) -> None:
    dataset = Dataset(inputs / "dataset")
    its = next(query.query_id for query in dataset.queries("dev"))
    dataset.qrels("dev").clear()
    dev = dev_set(
        dataset, {its: Annotation(its, ("p0", "p1"), ("positive", "negative"), "m", "llm", "ok")}, config(inputs)
    )
    assert dev.qrels == {its: {"p0": 1}}
    assert len(dev.passages) == 40


def test_without_a_human_share_no_human_label_is_used_for_anything(inputs: Path) -> None:
    train(config(inputs, curriculum="[{name: llm, labels: llm, epochs: 1, learning_rate: 3.0e-3}]"))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    used = metrics["human_labels"]
    assert (used["share"], used["positives"], used["masks"], used["dev"]) == (0.0, {"llm": 0}, {"llm": 0}, 0)
    # Nothing was measured, so nothing says that these weights are the best.
    assert "best_dev_ndcg_10" not in metrics
    assert not any("dev_ndcg_10" in line for line in lines(inputs / "checkpoint"))


def test_an_annotated_query_without_a_human_label_or_a_split_trains(inputs: Path) -> None:
    _rewrite_dataset(inputs)
    train(config(inputs, annotations_uri=_annotated(inputs, "unlabelled"), curriculum="[{name: llm, labels: llm}]"))
    assert read_manifest(str(inputs / "checkpoint")).metrics["num_groups"] == {"llm": 1}


def test_without_an_llm_people_s_labels_train_on_the_pools(inputs: Path) -> None:
    pools_uri, judged = str(inputs / "pools"), read_annotations(config(inputs).annotations_uri)
    places = dict.fromkeys(("dataset_uri", "encoder_uri", "index_uri"), "")
    with artifact_writer("mine", MineConfig(**places, output_uri=pools_uri)) as artifact:
        pools = [
            Pool(query_id, annotation.passage_ids, ("bm25",) * len(annotation.passage_ids), 0)
            for query_id, annotation in judged.items()
        ]
        write_records(artifact.path / "pools.jsonl", pools)
    stages = "[{name: human, labels: human, human_share: 0.5, epochs: 2, learning_rate: 1.0e-3}]"
    train(config(inputs, annotations_uri="", pools_uri=pools_uri, curriculum=stages))
    metrics = read_manifest(str(inputs / "checkpoint")).metrics
    assert metrics["human_labels"]["positives"] == {"human": 15}
    assert metrics["human_labels"]["calibration_queries"] == 0
    steps = [line for line in lines(inputs / "checkpoint") if "loss" in line]
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_what_was_asked_is_never_counted_as_a_person_s_label_without_a_word(inputs: Path) -> None:
    shutil.rmtree(inputs / "dataset")
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(inputs / "dataset"))) as artifact:
        writer = DatasetWriter(artifact.path)
        for number in range(40):
            writer.add_passage(Passage(f"p{number}", "", f"cat barn {number}"))
        writer.finish([], [])
        queries = [(Query("one", "cat"), "train"), (Query("two", "barn"), "train"), (Query("held", "owl"), "dev")]
        qrels = [(Qrel("one", "p1", 1), "train"), (Qrel("two", "p2", 1), "train"), (Qrel("held", "p3", 1), "dev")]
        write_queries(artifact.path, queries, qrels, asked={"two", "held"})
    stages = "[{name: human, labels: human, human_share: 0.2, positives: one, epochs: 1, learning_rate: 1.0e-3}]"
    train(config(inputs, annotations_uri=_annotated(inputs, "one", "two"), curriculum=stages))
    used = read_manifest(str(inputs / "checkpoint")).metrics["human_labels"]
    assert used["positives"] == {"human": 2}
    assert used["synthetic"] == {"positives": 1, "dev": 1}
    assert used["dev"] == 0


def _rewrite_dataset(inputs: Path) -> None:
    """A dataset where people judged some train queries, and one more query has no split."""
    shutil.rmtree(inputs / "dataset")
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(inputs / "dataset"))) as artifact:
        writer = DatasetWriter(artifact.path)
        for number in range(40):
            writer.add_passage(Passage(f"p{number}", "", f"cat barn {number}"))
        queries = [(Query("judged", "cat"), "train"), (Query("unlabelled", "barn"), ""), (Query("held", "owl"), "test")]
        writer.finish(queries, [(Qrel("judged", "p1", 1), "train"), (Qrel("held", "p2", 1), "test")])


def _annotated(inputs: Path, *query_ids: str) -> str:
    uri = str(inputs / "-".join(query_ids))
    with artifact_writer(
        "annotate", AnnotateConfig(dataset_uri="", pools_uri="", llm_uri="", output_uri=uri)
    ) as artifact:
        labels = ("positive", "negative", "negative")
        annotations = [Annotation(query_id, ("p3", "p4", "p5"), labels, "m", "llm", "ok") for query_id in query_ids]
        write_records(artifact.path / "annotations.jsonl", annotations)  # type: ignore[arg-type]
    return uri


@pytest.mark.parametrize(("temperature", "is_refused"), [(1.0, True), (0.5, True), (0.49, False), (0.05, False)])
def test_unit_vectors_need_a_small_loss_temperature(inputs: Path, temperature: float, is_refused: bool) -> None:
    its = config(inputs, loss_temperature=temperature)
    if not is_refused:
        assert base_model(its).settings.normalise
        return
    with pytest.raises(ValueError, match=rf"loss_temperature {temperature}: .* lie in \[-1, 1\], .* about 0\.05$"):
        base_model(its)
    longer = write_tiny_checkpoint(inputs / "longer", ["cat"], normalise=False)
    assert not base_model(config(inputs, checkpoint_uri=str(longer), loss_temperature=temperature)).settings.normalise
