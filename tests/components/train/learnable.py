"""A collection that can be learnt in seconds, and the config of a job that does."""

from pathlib import Path

from components.annotate.config import AnnotateConfig
from components.prepare.config import PrepareConfig
from components.shared.bm25 import BM25_NAME, build_bm25
from components.shared.clicks import ClickLog, write_clicks
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.manifest import artifact_writer
from components.shared.records import Annotation, Passage, Qrel, Query, write_records
from components.train.config import TrainConfig
from tests.tiny_checkpoint import write_tiny_checkpoint

ANIMALS = ["cat", "dog", "owl", "fox", "bee", "ant", "cow", "pig", "hen", "elk"]
PLACES = ["barn", "wood", "lake", "hill"]
STAGES = """
- {name: llm, labels: llm, epochs: 3, learning_rate: 3.0e-3}
- {name: human, labels: human, human_share: 0.5, positives: one, epochs: 2, learning_rate: 1.0e-3}
"""


def write_inputs(folder: Path, *, with_bm25: bool = False, clicks: ClickLog | None = None) -> Path:
    """40 passages `animal place`; a query asks for one in other words, which an untrained model cannot know."""
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(folder / "dataset"))) as artifact:
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
                annotations.append(
                    Annotation(f"q{number}", (passage_id, *others), ("positive", *["negative"] * 3), "m", "llm", "ok")
                )  # type: ignore[arg-type]
        writer.finish(queries, qrels)
        if clicks is not None:
            write_clicks(artifact.path, clicks)
        if with_bm25:
            build_bm25(Dataset(artifact.path), artifact.path / BM25_NAME, scratch=artifact.scratch / BM25_NAME)
    for shard in (0, 1):
        its = AnnotateConfig(
            dataset_uri="",
            pools_uri="",
            llm_uri="",
            output_uri=str(folder / f"annotations-{shard}"),
            shard=shard,
            num_shards=2,
        )
        with artifact_writer("annotate", its) as artifact:
            write_records(artifact.path / "annotations.jsonl", annotations[shard::2])
    words = [*ANIMALS, *PLACES, "filler", *(f"ask{n}" for n in range(10)), *(f"in{n}" for n in range(4)), "query", ":"]
    write_tiny_checkpoint(folder / "base", words, num_layers=2)
    return folder


def config(inputs: Path, **settings: object) -> TrainConfig:
    places = {
        "dataset_uri": str(inputs / "dataset"),
        "annotations_uri": f"{inputs / 'annotations-0'},{inputs / 'annotations-1'}",
        "checkpoint_uri": str(inputs / "base"),
        "output_uri": str(inputs / "checkpoint"),
    }
    chosen = {
        "curriculum": STAGES,
        "batch_queries": 4,
        "group_size": 4,
        "loss_temperature": 0.1,
        "checkpoint_steps": 2,
        "encode_rows": 4,
    }
    return TrainConfig(**{**places, **chosen, **settings})  # type: ignore[arg-type]
