"""A dataset without queries, and an LLM that writes what it is told to."""

import hashlib
import re
from pathlib import Path

from components.ask.config import AskConfig
from components.prepare.config import PrepareConfig
from components.shared.dataset import DatasetWriter
from components.shared.engines.engine import CompletionRequest
from components.shared.manifest import artifact_writer
from components.shared.records import Passage, Qrel, Query

_PLACES = ("harbour", "glacier", "valley", "island", "desert", "river", "forest", "canyon", "meadow", "volcano")
_THINGS = ("bridge", "museum", "lighthouse", "railway", "market", "library", "theatre", "observatory", "mill", "school")


def passages(count: int) -> list[Passage]:
    """Passages that a query of three words tells apart; ten of each title."""
    made = []
    for number in range(count):
        place, thing = _PLACES[number // 10 % 10], _THINGS[number % 10]
        name = f"{place}{number}"
        opened = f"The {thing} of {name} was opened in {1800 + number} by the mayor."
        text = f"{opened} People of the {place} visit {name} in summer."
        made.append(Passage(f"p{number}", f"The {place}", text))
    return made


def write_dataset(
    folder: Path,
    corpus: list[Passage],
    queries: list[tuple[Query, str]] | None = None,
    qrels: list[tuple[Qrel, str]] | None = None,
) -> None:
    with artifact_writer("prepare", PrepareConfig(collection_uri="", output_uri=str(folder))) as artifact:
        writer = DatasetWriter(artifact.path, language="en")
        for passage in corpus:
            writer.add_passage(passage)
        writer.finish(queries or [], qrels or [])
        artifact.metrics["num_passages"] = len(corpus)


def config(folder: Path, output: str = "asked", **settings: object) -> AskConfig:
    places = {"dataset_uri": str(folder / "dataset"), "output_uri": str(folder / output)}
    given = {**places, "journal_uri": str(folder / "journal"), "llm_uri": "fake", "num_queries": 60, **settings}
    return AskConfig(**given)  # type: ignore[arg-type]


def reply(request: CompletionRequest) -> str:
    """A question of the passage's own words in most cases; now and then what a filter must reject."""
    passage = request.turns[-1].content
    match = re.search(r"The (\w+) of (\w+) was opened in (\d+)", passage)
    assert match, passage
    thing, name, year = match.groups()
    drawn = int(hashlib.sha256(passage.encode()).hexdigest(), 16) % 10
    if drawn == 0:
        return "I'm sorry, but I cannot help with that."
    if drawn == 1:
        return f"The {thing} of {name} was opened in {year} by the mayor."
    if drawn == 2:
        return "Who visits it?"
    return f"Question: When did the {thing} in {name} open?"
