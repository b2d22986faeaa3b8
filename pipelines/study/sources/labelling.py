"""Who labels: people, and an LLM simulated from their labels, with the precision and recall of a published one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from components.annotate.config import AnnotateConfig
from components.shared.hashing import content_key
from components.shared.manifest import artifact_writer
from components.shared.records import Annotation, write_records

Pools = Mapping[str, Sequence[str]]
Grades = Mapping[str, Mapping[str, int]]
Pair = tuple[str, str]


def by_people(pools: Pools, grades: Grades) -> list[Annotation]:
    """What people found relevant is positive, everything else negative."""
    return _annotations(pools, _right(pools, grades), "people")


def by_simulated_llm(pools: Pools, grades: Grades, *, precision: float, recall: float, seed: int) -> list[Annotation]:
    """A share of what people found (recall), and so many others of the pools that `precision` of it all is right.

    A pair's fate hangs on the seed and the pair alone, so the labels of few queries are among those of more.
    """
    right = _right(pools, grades)
    others = [(q, p) for q, passage_ids in pools.items() for p in passage_ids if (q, p) not in right]
    # The chance of an error that gives this precision over all pools.
    wanted = recall * len(right) * (1 - precision) / precision
    error = min(1.0, wanted / max(1, len(others)))
    selected = {pair for pair in right if _draw(seed, "right", *pair) < recall}
    selected |= {pair for pair in others if _draw(seed, "wrong", *pair) < error}
    return _annotations(pools, selected, "simulated")


def written(folder: Path, dataset: Path, annotations: Sequence[Annotation]) -> Path:
    """The annotations as the artifact that train reads."""
    config = AnnotateConfig(dataset_uri=str(dataset), pools_uri="", output_uri=str(folder), llm_uri="study")
    with artifact_writer("annotate", config) as artifact:
        write_records(artifact.path / "annotations.jsonl", annotations)
    return folder


def _right(pools: Pools, grades: Grades) -> set[Pair]:
    return {(q, p) for q, passage_ids in pools.items() for p in passage_ids if grades.get(q, {}).get(p, 0) > 0}


def _annotations(pools: Pools, selected: Iterable[Pair], name: str) -> list[Annotation]:
    chosen = set(selected)
    return [
        Annotation(
            query_id,
            tuple(passage_ids),
            tuple("positive" if (query_id, p) in chosen else "negative" for p in passage_ids),
            method="study",
            model=name,
            outcome="ok",
        )
        for query_id, passage_ids in pools.items()
    ]


def _draw(*parts: object) -> float:
    return random.Random(content_key(*parts)).random()
