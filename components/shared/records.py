"""The records that cross borders between components, and their JSONL lines.

A record file is read strictly: the first line that does not hold stops the job with a `RecordError` that names file
and line, because a silently skipped annotation would change what a later component learns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson

Label = Literal["positive", "ignore", "negative"]
LABELS: tuple[Label, ...] = ("positive", "ignore", "negative")


class RecordError(ValueError):
    """A line of a file that a user can mend: `file:line: problem; remedy`."""

    def __init__(self, path: Path | str, line_number: int, problem: str, remedy: str) -> None:
        super().__init__(f"{path}:{line_number}: {problem}; {remedy}")


@dataclass(frozen=True, slots=True)
class Query:
    """What a person asks; `answers` are short reference answers where the collection has them.

    `topic`: what several queries ask about, such as the task of a search session; empty where they stand alone. Queries
    of one topic are never in two splits.
    """

    query_id: str
    text: str
    answers: tuple[str, ...] = ()
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrievable unit of the corpus."""

    passage_id: str
    title: str
    text: str

    @property
    def full_text(self) -> str:
        """Title and text as every retriever and annotator reads them."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Qrel:
    """A human relevance grade; 0 is judged and not relevant."""

    query_id: str
    passage_id: str
    grade: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved passage; a higher score is better."""

    passage_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Pool:
    """The passages shown to the annotator for one query, in the order they are shown.

    `sources` says for each passage where it came from (bm25, dense, joined by +; human for what people judged, asked
    for what the query was asked about); `seed` is that of the shuffle.
    """

    query_id: str
    passage_ids: tuple[str, ...]
    sources: tuple[str, ...]
    seed: int

    def __post_init__(self) -> None:
        _same_length(self.query_id, passage_ids=self.passage_ids, sources=self.sources)
        if len(set(self.passage_ids)) != len(self.passage_ids):
            raise ValueError(f"pool of query {self.query_id!r} names a passage twice")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question put to the LLM about passages of a pool.

    It is a window of a selection, an answer, a ranking, or the likelihoods of a pool.

    `template` names the question (relevance_selection, answer, utility_selection, utility_ranking, query_likelihood,
    answer_likelihood) and `template_version` the words it was asked in: layout, version and digest, such as
    `paper.1@0f3a9c`. `rung` is the step of the ladder (first, new_seed, constrained, smaller_window), `outcome` how the
    completion parsed. `positions` are the places in the pool, from 0, of the passages shown, in the order shown;
    `chosen` those selected, or ranked from the best on.
    `calls` are journal keys: one, or one a passage for likelihoods.
    """

    template: str
    template_version: str
    rung: str
    outcome: str
    positions: tuple[int, ...]
    chosen: tuple[int, ...]
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """The LLM's verdict on a whole pool: one three-way label a passage, in the pool's order, and how it came about.

    `model` is name@digest of the weights; the permutation shown is `passage_ids` itself, drawn with `pool_seed`.
    `scores` are mean log-likelihoods a token, `score_sums` their sums, `distribution` the softmax over the pool (all
    empty where the method gives none).
    `exchanges` are in the order asked. Tokens and `engine_seconds` are sums over the calls, whoever paid for them
    first; of `uncounted_calls` the engine did not say all tokens, so that with any of them the sums are lower bounds.

    The journal holds under each key of `calls` the raw result (`text` and `finish_reason`, or `logprobs`), its
    `prompt_tokens`, `completion_tokens`, `cached_tokens` (of the prompt, found in the engine's prefix cache),
    `is_counted` (whether the engine said these) and `engine_seconds` (its share of the engine's busy time: the shares
    of all calls add up to that time), and `template`, `template_version`, `rung`, `query_id` and `artifact` (identity
    of the annotations that paid for the call). So a ledger is a sum over journal records, and a query's story is its
    exchanges.
    """

    query_id: str
    passage_ids: tuple[str, ...]
    labels: tuple[Label, ...]
    method: str
    model: str
    outcome: str
    pool_seed: int = 0
    scores: tuple[float, ...] = ()
    score_sums: tuple[float, ...] = ()
    distribution: tuple[float, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_seconds: float = 0.0
    uncounted_calls: int = 0

    def __post_init__(self) -> None:
        _same_length(self.query_id, passage_ids=self.passage_ids, labels=self.labels)
        if unknown := set(self.labels) - set(LABELS):
            raise ValueError(f"annotation of query {self.query_id!r} has labels {sorted(unknown)}; known are {LABELS}")

    @property
    def calls(self) -> tuple[str, ...]:
        """Journal keys of all calls, in the order asked."""
        return tuple(key for exchange in self.exchanges for key in exchange.calls)

    def with_label(self, label: Label) -> tuple[str, ...]:
        """Passage ids that carry the label, in pool order."""
        return tuple(passage_id for passage_id, own in zip(self.passage_ids, self.labels, strict=True) if own == label)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A pool without labels, because the whole ladder failed.

    `completion` is the last raw one, `detail` says what was wrong with it.
    """

    query_id: str
    passage_ids: tuple[str, ...]
    method: str
    model: str
    outcome: str
    detail: str
    completion: str
    pool_seed: int = 0
    exchanges: tuple[Exchange, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_seconds: float = 0.0
    uncounted_calls: int = 0

    @property
    def calls(self) -> tuple[str, ...]:
        """Journal keys of all calls, in the order asked."""
        return tuple(key for exchange in self.exchanges for key in exchange.calls)


Record = TypeVar("Record", Query, Passage, Qrel, Hit, Pool, Annotation, Quarantined)


def _same_length(query_id: str, **columns: tuple[object, ...]) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"record of query {query_id!r} has columns of different lengths: {lengths}")


def to_line(record: Record) -> bytes:
    """One JSON line; keys in field order, so that equal records give equal bytes."""
    return orjson.dumps(record) + b"\n"


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Writes one JSON line a record; returns how many."""
    num_records = 0
    with path.open("wb") as file:
        for record in records:
            file.write(to_line(record))
            num_records += 1
    return num_records


def read_records(path: Path, record_class: type[Record]) -> Iterator[Record]:
    """Yields the records of a JSONL file in order.

    Raises:
        RecordError: At the first line that is not a record of this class.
    """
    remedy = "the file was changed or cut after it was written: delete the artifact's folder and run again"
    with path.open("rb") as file:
        for line_number, line in enumerate(file, start=1):
            try:
                record = record_class(**_values(orjson.loads(line), record_class))
            except ValueError as error:
                raise RecordError(
                    path, line_number, f"not a {record_class.__name__} record ({error})", remedy
                ) from error
            yield record


def _values(line: object, record_class: type[Any]) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise ValueError(f"a JSON object is wanted, found {type(line).__name__}")
    known = {field.name: field for field in fields(record_class)}
    if unknown := set(line) - set(known):
        raise ValueError(f"unknown fields {sorted(unknown)}")
    if missing := {name for name, field in known.items() if field.default is MISSING} - set(line):
        raise ValueError(f"missing fields {sorted(missing)}")
    return {name: _value(name, str(known[name].type), value) for name, value in line.items()}


# By the annotation as it is written in the classes above.
_PLAIN: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float)}


def _value(name: str, annotation: str, value: object) -> object:
    element = annotation.removeprefix("tuple[").removesuffix(", ...]")
    if element == annotation and _is_plain(value, element):
        return value
    if element == "Exchange" and isinstance(value, list):
        return tuple(Exchange(**_values(exchange, Exchange)) for exchange in value)
    if element != annotation and isinstance(value, list) and all(_is_plain(item, element) for item in value):
        return tuple(value)
    raise ValueError(f"{name} is {value!r}, which is no {annotation}")


def _is_plain(value: object, annotation: str) -> bool:
    if annotation == "Label":
        return value in LABELS
    # A bool is an int to Python, never to us.
    return isinstance(value, _PLAIN[annotation]) and not isinstance(value, bool)
