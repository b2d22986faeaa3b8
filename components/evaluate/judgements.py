"""Who says what is relevant: people where they judged the split, else an LLM, and then every reader is told so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from components.shared.dataset import SPLITS, Dataset
from components.shared.records import Annotation, read_records
from components.shared.roles import hint

ANNOTATIONS_NAME = "annotations.jsonl"

Grades = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Judgements:
    """Grades of a split and where they came from; no query in `grades` is without a judged passage.

    `asked`: an LLM wrote the queries, each for a passage that then counts as relevant, and nobody judged anything.
    `num_dropped` counts queries whose set of judgements was empty; `taught` is true where the LLM that judges also
    labelled queries outside the split, on which the trained encoder may have learned.
    """

    kind: Literal["human", "llm", "asked"]
    grades: Grades
    models: tuple[str, ...] = ()
    num_dropped: int = 0
    taught: bool = False

    @property
    def num_judgements(self) -> int:
        """Judged query-passage pairs."""
        return sum(map(len, self.grades.values()))

    def num_relevant(self, query_id: str, *, min_grade: int) -> int:
        """Passages of a query that count as relevant."""
        return sum(grade >= min_grade for grade in self.grades[query_id].values())

    def without_relevant(self, *, min_grade: int) -> list[str]:
        """Judged queries for which no passage is relevant: every system scores 0 on them, as in trec_eval."""
        return [query_id for query_id in self.grades if not self.num_relevant(query_id, min_grade=min_grade)]


def find_judgements(dataset: Dataset, *, split: str, annotation_folders: Sequence[Path], min_grade: int) -> Judgements:
    """The human judgements of a split; the source passages of asked queries, or the LLM's, where there is none.

    Raises:
        ValueError: Where nobody judged the split, or no judged passage is relevant.
    """
    if human := dataset.human_qrels(split):
        all_judgements = Judgements("human", human)
    elif asked := dataset.qrels(split):
        all_judgements = Judgements("asked", asked)
    else:
        all_judgements = _from_annotations(dataset, split=split, folders=annotation_folders)
    # An empty set of judgements makes pytrec_eval read the next query's memory (its issue 49).
    kept = {
        query_id: {passage_id: max(grade, 0) for passage_id, grade in judged.items()}
        for query_id, judged in all_judgements.grades.items()
        if judged
    }
    judgements = replace(all_judgements, grades=kept, num_dropped=len(all_judgements.grades) - len(kept))
    if not kept:
        raise ValueError(f"split {split!r} has no judgements, so nothing can be measured; {_remedy(dataset, split)}")
    if len(judgements.without_relevant(min_grade=min_grade)) == len(kept):
        raise ValueError(
            f"split {split!r}: none of its {judgements.num_judgements} judgements ({judgements.kind}) has a grade of "
            f"{min_grade} or more, so every system would score 0; lower it ({hint('min_grade', 1)}), or judge more "
            "passages"
        )
    return judgements


def _from_annotations(dataset: Dataset, *, split: str, folders: Sequence[Path]) -> Judgements:
    held_out = {query.query_id for query in dataset.queries(split)}
    grades: dict[str, dict[str, int]] = {}
    models: set[str] = set()
    teachers: set[str] = set()
    for folder in folders:
        for annotation in read_records(folder / ANNOTATIONS_NAME, Annotation):
            if annotation.query_id not in held_out:
                teachers.add(annotation.model)
                continue
            if annotation.query_id in grades:
                path = folder / ANNOTATIONS_NAME
                raise ValueError(
                    f"{path}: query {annotation.query_id!r} was annotated in an earlier shard too; name each shard once"
                )
            pairs = zip(annotation.passage_ids, annotation.labels, strict=True)
            grades[annotation.query_id] = {passage_id: int(label == "positive") for passage_id, label in pairs}
            models.add(annotation.model)
    return Judgements("llm", grades, tuple(sorted(models)), taught=bool(models & teachers))


def _remedy(dataset: Dataset, split: str) -> str:
    judged = [name for name in SPLITS if name != split and dataset.human_qrels(name)]
    other = f"; or evaluate on --split {' or '.join(judged)}, which people judged" if judged else ""
    return (
        f"name annotations that cover its queries ({hint('annotations_uri')}; mine draws pools for them where there "
        "are no "
        f"human labels){other}"
    )
