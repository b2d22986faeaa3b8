"""asked.jsonl: everything that was asked, in order, kept or rejected; the provenance of every asked query.

It lies in the dataset beside the queries, and is part of its digest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from components.ask.filters import Judged
from components.shared.dataset import ASKED_NAME


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A query and how it came about.

    `rejected_by` names the filter that rejected it, and is empty where it is kept. `calls` are journal keys, those of
    the likelihood test in `gain_calls`. `ranks` are those of the source passages by each search, 0 for not among the
    hits looked at. `model` is name@digest of the weights. `flatness` and `gain` are None where they were not measured.
    """

    query_id: str
    text: str
    style: str
    split: str
    passage_ids: tuple[str, ...]
    template_version: str
    model: str
    outcome: str
    rejected_by: str
    detail: str
    calls: tuple[str, ...]
    completion: str
    ranks: Mapping[str, tuple[int, ...]]
    flatness: float | None
    gain: float | None
    gain_calls: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    engine_seconds: float

    @property
    def is_kept(self) -> bool:
        """Whether the query is one of the dataset's."""
        return not self.rejected_by


def to_record(judged: Judged, model: str) -> AskedQuery:
    """The record of a query with its verdict."""
    written, assignment = judged.written, judged.written.assignment
    return AskedQuery(
        query_id=assignment.query_id,
        text=written.reading.query,
        style=assignment.style,
        split=assignment.split,
        passage_ids=tuple(passage.passage_id for passage in assignment.passages),
        template_version=written.template_version,
        model=model,
        outcome=written.reading.outcome,
        rejected_by=judged.rejected_by,
        detail=judged.detail or written.reading.detail,
        calls=written.calls,
        completion=written.completion,
        ranks=judged.ranks,
        flatness=_number(judged.flatness),
        gain=_number(judged.gain),
        gain_calls=judged.gain_calls,
        prompt_tokens=written.prompt_tokens,
        completion_tokens=written.completion_tokens,
        engine_seconds=round(written.engine_seconds, 6),
    )


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def write_asked(folder: Path, records: Iterable[AskedQuery]) -> None:
    """Writes asked.jsonl."""
    (folder / ASKED_NAME).write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))


def read_asked(folder: Path) -> Iterator[AskedQuery]:
    """The records of a dataset's folder; none where nothing was asked."""
    path = folder / ASKED_NAME
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        values = orjson.loads(line)
        for name in ("passage_ids", "calls", "gain_calls"):
            values[name] = tuple(values[name])
        values["ranks"] = {name: tuple(ranks) for name, ranks in values["ranks"].items()}
        yield AskedQuery(**values)
