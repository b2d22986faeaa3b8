"""What people said of passages: the dataset's qrels, or a file of utility judgements."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from components.shared import storage
from components.shared.dataset import SPLITS, Dataset
from components.shared.records import RecordError


@dataclass(frozen=True)
class Gold:
    """Human labels: query id -> passage id -> whether a person finds it useful."""

    name: str
    judgements: Mapping[str, Mapping[str, bool]]

    def summary(self) -> dict[str, int]:
        """How much was judged."""
        judged = [useful for its in self.judgements.values() for useful in its.values()]
        return {"num_queries": len(self.judgements), "num_judgements": len(judged), "num_useful": sum(judged)}

    def without(self, query_ids: Collection[str]) -> Gold:
        """The same labels, but those of these queries."""
        return Gold(self.name, {query_id: its for query_id, its in self.judgements.items() if query_id not in query_ids})


def qrels_gold(dataset: Dataset) -> Gold:
    """The human grades of all splits; a grade above 0 is useful."""
    found: dict[str, dict[str, bool]] = {}
    for split in ("", *SPLITS):
        for query_id, grades in dataset.qrels(split).items():
            found.setdefault(query_id, {}).update({passage_id: grade > 0 for passage_id, grade in grades.items()})
    return Gold("qrels", found)


def read_utility_labels(uri: str) -> Gold:
    """Human utility judgements: a header line, then query id, passage id and 0 or 1, separated by tabs.

    Raises:
        RecordError: At the first line that is not so.
    """
    path = storage.fetch(uri)
    found: dict[str, dict[str, bool]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if number == 1:
                continue
            if len(row) != 3 or row[2] not in ("0", "1"):
                raise RecordError(path, number, f"{row} is no utility label", "write query id, passage id and 0 or 1, separated by tabs")
            found.setdefault(row[0], {})[row[1]] = row[2] == "1"
    return Gold("utility labels", found)
