"""Inputs of annotate: a dataset whose passages say their number, and pools over it."""

import random
from collections.abc import Sequence
from pathlib import Path

from components.annotate.config import AnnotateConfig
from components.mine.config import MineConfig
from components.prepare.config import PrepareConfig
from components.shared.dataset import DatasetWriter
from components.shared.manifest import artifact_writer
from components.shared.records import Passage, Pool, Qrel, Query, write_records

_WORDS = (
    "tide",
    "moon",
    "harbour",
    "glacier",
    "ice",
    "valley",
    "bread",
    "yeast",
    "oven",
    "bee",
    "hive",
    "flower",
    "violin",
    "lava",
)


def write_inputs(
    folder: Path, *, num_queries: int, pool_size: int = 5, num_passages: int = 40, with_answers: bool = False
) -> None:
    """Folders `dataset` and `pools`; the human positive of a query stands at a random place of its pool."""
    drawn = random.Random(0)
    passages = [
        Passage(f"p{n}", "", f"number {n} " + " ".join(drawn.choices(_WORDS, k=12))) for n in range(num_passages)
    ]
    queries, qrels, pools = [], [], []
    for number in range(num_queries):
        shown = drawn.sample(passages, pool_size)
        answers = (shown[0].text.split()[-1],) if with_answers else ()
        queries.append(
            (Query(f"q{number}", f"query {number} about {' '.join(shown[0].text.split()[2:6])}", answers), "train")
        )
        qrels.append((Qrel(f"q{number}", shown[0].passage_id, 1), "train"))
        drawn.shuffle(shown)
        pools.append(Pool(f"q{number}", tuple(passage.passage_id for passage in shown), ("bm25",) * pool_size, number))
    write_dataset(folder / "dataset", passages, queries, qrels)
    write_pools(folder / "pools", pools)


def write_dataset(
    folder: Path, passages: Sequence[Passage], queries: Sequence[tuple[Query, str]], qrels: Sequence[tuple[Qrel, str]]
) -> None:
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(folder))) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage in passages:
            writer.add_passage(passage)
        writer.finish(queries, qrels)


def write_pools(folder: Path, pools: Sequence[Pool]) -> None:
    places = {"dataset_uri": "", "encoder_uri": "", "index_uri": ""}
    with artifact_writer("mine", MineConfig(**places, output_uri=str(folder), seed=len(pools))) as artifact:
        write_records(artifact.path / "pools.jsonl", pools)


def job_config(folder: Path, output: str = "annotations", **settings: object) -> AnnotateConfig:
    places = {
        "dataset_uri": str(folder / "dataset"),
        "pools_uri": str(folder / "pools"),
        "output_uri": str(folder / output),
    }
    # Nothing is judged again unless a test asks for it: each call then belongs to a label.
    return AnnotateConfig(**{**places, "llm_uri": "fake", "recheck_share": 0.0, **settings})  # type: ignore[arg-type]
