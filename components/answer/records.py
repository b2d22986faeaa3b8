"""answers.jsonl: every answer with its passages, its call and its scores; system by system, queries in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from components.answer.asking import Answered

ANSWERS_NAME = "answers.jsonl"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and how it came about.

    `scores` are those of single answers, in points of 100; `call` is a journal key, empty where the engine refused for
    the reason in `detail`. `model` is name@digest of the weights. An answer that is refused or empty is the empty text.
    """

    query_id: str
    system: str
    answer: str
    outcome: str
    scores: Mapping[str, float]
    passage_ids: tuple[str, ...]
    completion: str
    call: str
    detail: str
    template_version: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    engine_seconds: float


def to_record(answered: Answered, scores: Mapping[str, float], model: str) -> Answer:
    """The record of an answer with its scores."""
    return Answer(
        query_id=answered.query_id,
        system=answered.system,
        answer=answered.reading.answer,
        outcome=answered.reading.outcome,
        scores={measure: round(score, 6) for measure, score in scores.items()},
        passage_ids=answered.passage_ids,
        completion=answered.completion,
        call=answered.call,
        detail=answered.detail,
        template_version=answered.template_version,
        model=model,
        prompt_tokens=answered.prompt_tokens,
        completion_tokens=answered.completion_tokens,
        engine_seconds=round(answered.engine_seconds, 6),
    )


def write_answers(folder: Path, answers: Iterable[Answer]) -> None:
    """Writes answers.jsonl."""
    (folder / ANSWERS_NAME).write_bytes(b"".join(orjson.dumps(answer) + b"\n" for answer in answers))


def read_answers(folder: Path) -> Iterator[Answer]:
    """The answers of a finished artifact."""
    for line in (folder / ANSWERS_NAME).read_bytes().splitlines():
        values = orjson.loads(line)
        yield Answer(**{**values, "passage_ids": tuple(values["passage_ids"])})
