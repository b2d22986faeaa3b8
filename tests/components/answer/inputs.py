"""A dataset with reference answers, runs over it, and an LLM that reads the answer off the passages."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.answer.config import AnswerConfig
from components.shared.engines.engine import CompletionRequest
from components.shared.records import Qrel, Query
from tests.components.ask.inputs import passages, write_dataset

NUM_PASSAGES = 100


def queries(count: int) -> list[Query]:
    """Query i is about passage i and is answered by the year that stands in it, or by a longer form of it."""
    return [
        Query(f"q{number}", f"when did the one in number {number} open", (str(1800 + number), f"in {1800 + number}"))
        for number in range(count)
    ]


def write_inputs(folder: Path, *, num_queries: int = 30, split: str = "test", answers: bool = True) -> None:
    """A dataset, and two runs: `good` has the right passage first for two of three queries, `bad` never has it."""
    asked = queries(num_queries)
    if not answers:
        asked = [Query(query.query_id, query.text) for query in asked]
    qrels = [(Qrel(f"q{number}", f"p{number}", 1), split) for number in range(num_queries)]
    write_dataset(folder / "dataset", passages(NUM_PASSAGES), [(query, split) for query in asked], qrels)
    good = {f"q{n}": [f"p{n if n % 3 else (n + 1) % NUM_PASSAGES}", f"p{(n + 2) % 100}"] for n in range(num_queries)}
    bad = {f"q{number}": [f"p{(number + 5) % NUM_PASSAGES}"] for number in range(num_queries)}
    write_run(folder / "good.trec", good)
    write_run(folder / "bad.trec", bad)


def write_run(path: Path, run: Mapping[str, Sequence[str]]) -> None:
    path.write_text(
        "".join(
            f"{query_id} Q0 {passage_id} {rank} {1 / rank} made\n"
            for query_id, ranking in run.items()
            for rank, passage_id in enumerate(ranking, start=1)
        )
    )


def config(folder: Path, output: str = "answers", **settings: object) -> AnswerConfig:
    places = {
        "dataset_uri": str(folder / "dataset"),
        "output_uri": str(folder / output),
        "journal_uri": str(folder / "journal"),
        "runs_uri": f"{folder / 'good.trec'},{folder / 'bad.trec'}",
    }
    given = {**places, "llm_uri": "fake", "num_queries": 30, "systems": "good,bad", "num_resamples": 500, **settings}
    return AnswerConfig(**given)  # type: ignore[arg-type]


def reply(request: CompletionRequest) -> str:
    """The year of the first passage that it is shown; a guess, a refusal or nothing where there is none."""
    asked = request.turns[-1].content
    # The prompt's own example is no passage of the collection.
    if match := re.search(r"was opened in (\d+)", asked):
        return f"Answer: {match[1]}."
    number = int(re.findall(r"number (\d+)", asked)[-1])
    return ("in the year 1900", "I cannot help with that.", "")[number % 3]
