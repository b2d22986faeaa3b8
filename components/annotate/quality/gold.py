"""What people said of passages: the dataset's qrels, or a file of utility judgements."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from components.shared.dataset import SPLITS, Dataset
from components.shared.durable import storage
from components.shared.records import RecordError


@dataclass(frozen=True)
class Gold:
    """Human labels: query id -> passage id -> a grade, above 0 where a person finds it useful."""

    name: str
    judgements: Mapping[str, Mapping[str, int]]

    def summary(self) -> dict[str, int]:
        """How much was judged."""
        num_useful = sum(grade > 0 for judged in self.judgements.values() for grade in judged.values())
        return {
            "num_queries": len(self.judgements),
            "num_judgements": sum(map(len, self.judgements.values())),
            "num_useful": num_useful,
        }

    def without(self, query_ids: Collection[str]) -> Gold:
        """The same labels, but those of these queries."""
        return Gold(
            self.name, {query_id: judged for query_id, judged in self.judgements.items() if query_id not in query_ids}
        )


def qrels_gold(dataset: Dataset) -> Gold:
    """The human grades of all splits."""
    judgements: dict[str, Mapping[str, int]] = {}
    for split in ("", *SPLITS):
        for query_id, grades in dataset.human_qrels(split).items():
            # Not copied: a large collection's grades are most of what a report holds.
            judgements[query_id] = {**judgements[query_id], **grades} if query_id in judgements else grades
    return Gold("qrels", judgements)


def read_utility_labels(uri: str) -> Gold:
    """Human utility judgements: a header line, then query id, passage id and 0 or 1, separated by tabs.

    Raises:
        RecordError: At the first line that is not so.
    """
    path = storage.fetch(uri)
    judgements: dict[str, dict[str, bool]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if number == 1:
                continue
            if len(row) != 3 or row[2] not in ("0", "1"):
                raise RecordError(
                    path,
                    number,
                    f"{row} is no utility label",
                    "write query id, passage id and 0 or 1, separated by tabs",
                )
            judgements.setdefault(row[0], {})[row[1]] = row[2] == "1"
    return Gold("utility labels", judgements)
