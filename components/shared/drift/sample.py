"""Sampled queries in a folder, local or in a bucket: a file a day and server, JSON lines, the header first.

    queries-2026-11-27-3f0c5a1e9b7d.jsonl
        {"seen": 48211}                                                       queries that the server answered that day
        {"text": "why do tides rise", "characters": 17, "mode": "dense", "version": "0a1b2c3d4e5f"}

A file holds nothing about who asked, from where, or at which hour. serve writes it whole, a longer one in the place of
a shorter one; whoever reads sees one or the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta

import numpy as np
import orjson

from components.shared.durable import storage
from components.shared.records import RecordError

# Of a longer query the beginning is kept: many times what an encoder of queries reads.
MOST_CHARACTERS = 2000
_NAME = re.compile(r"queries-(\d{4}-\d{2}-\d{2})-[0-9a-f]{12}\.jsonl")


@dataclass(frozen=True, slots=True)
class SampledQuery:
    """A query that was answered.

    Attributes:
        text: Its first MOST_CHARACTERS characters.
        characters: How many it had.
        mode: In which it was searched.
        version: Of the release that answered.
    """

    text: str
    characters: int
    mode: str
    version: str


@dataclass(frozen=True)
class Sample:
    """Queries drawn from several days and servers, each server by how much it had to answer."""

    queries: list[SampledQuery]
    num_seen: int
    num_files: int
    first_day: str
    last_day: str


def file_name(day: date, writer: str) -> str:
    """Name of what one server (12 hexadecimal digits) sampled on a day."""
    return f"queries-{day.isoformat()}-{writer}.jsonl"


def day_of(name: str) -> date | None:
    """Day of a file of samples; None of any other file."""
    match = _NAME.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def encoded(queries: Iterable[SampledQuery], *, num_seen: int) -> bytes:
    """Content of a file."""
    lines = [orjson.dumps({"seen": num_seen}), *(orjson.dumps(asdict(query)) for query in queries)]
    return b"\n".join(lines) + b"\n"


def decoded(uri: str, content: bytes) -> tuple[list[SampledQuery], int]:
    """Queries of a file, and how many were seen.

    Raises:
        RecordError: Naming the line that is none.
    """
    queries, num_seen = list[SampledQuery](), 0
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            values = orjson.loads(line)
            if number == 1:
                num_seen = int(values["seen"])
            else:
                queries.append(SampledQuery(**values))
        except (TypeError, KeyError, ValueError) as error:
            problem = f"no sampled query ({error!r})"
            raise RecordError(uri, number, problem, "remove the file: serve writes whole ones") from error
    return queries, num_seen


def read_sample(uri: str, *, days: int, most: int, seed: int) -> Sample:
    """Draws queries of the last days of a folder of samples, counted back from the newest day that there is.

    Args:
        uri: The folder.
        days: How many days.
        most: Queries drawn at most; of each server as many as it had to answer, in proportion.
        seed: Of the draw.

    Raises:
        ValueError: Where nothing was sampled, or a line is damaged.
    """
    dated = [(day, name) for name in storage.list_files(uri) if (day := day_of(name))]
    newest = max((day for day, _ in dated), default=None)
    if newest is None:
        raise ValueError(f"{uri}: no sampled queries; start serve with --sample-uri {uri} and let it answer some")
    recent = [(day, name) for day, name in dated if day > newest - timedelta(days=days)]
    files = [decoded(place, storage.read_bytes(place)) for place in (f"{uri.rstrip('/')}/{name}" for _, name in recent)]
    return Sample(
        queries=_drawn(files, most, seed),
        num_seen=sum(num_seen for _, num_seen in files),
        num_files=len(files),
        first_day=min(day for day, _ in recent).isoformat(),
        last_day=newest.isoformat(),
    )


def _drawn(files: Sequence[tuple[list[SampledQuery], int]], most: int, seed: int) -> list[SampledQuery]:
    """As many of each server as it had to answer: the share that the one which kept least of its own allows."""
    rate = min((len(kept) / num_seen for kept, num_seen in files if kept), default=0.0)
    total = sum(num_seen for _, num_seen in files)
    rate = min(rate, most / max(1, total))
    random = np.random.default_rng(seed)
    drawn = list[SampledQuery]()
    for kept, num_seen in files:
        size = min(len(kept), round(rate * num_seen))
        drawn += [kept[row] for row in np.sort(random.choice(len(kept), size=size, replace=False)).tolist()]
    return drawn
