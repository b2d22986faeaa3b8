"""What `retriever estimate` says of having an LLM write queries, and of having one answer them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.annotate.cost.estimate import Throughput, open_tokenizer, timed
from components.annotate.quality.page import dollars
from components.answer.config import AnswerConfig
from components.answer.cost import estimate_answering
from components.ask.config import AskConfig
from components.ask.cost import estimate_asking
from components.shared.bm25 import BM25
from components.shared.calls.journalled import Paid
from components.shared.calls.tally import SECONDS_PER_HOUR, Prices, Tally
from components.shared.dataset import Dataset
from components.shared.engines.engine import Tokenizer
from components.shared.manifest import open_artifact
from pipelines.commands.labels import dataset_folder, paid_calls
from pipelines.flow import Settings
from pipelines.local import LocalStep, plan, run_steps
from pipelines.packaged import resolve

# Where nobody names the runs: BM25, the encoder before and after training, and the hybrids of both.
_NUM_RUNS = 5


def is_asked(settings: Settings, workdir: Path) -> bool:
    """Whether the queries that these settings ask for are in the work folder; True where none are asked for."""
    return all(step.is_unchanged for step in _up_to_ask(settings, workdir))


def _up_to_ask(settings: Settings, workdir: Path) -> list[LocalStep]:
    steps = plan(settings, workdir)
    last = max((number for number, step in enumerate(steps) if step.component == "ask"), default=-1)
    return steps[: last + 1]


@dataclass(frozen=True)
class _Quote:
    """What calls will still cost, by template; `num_paid` calls are in the journal already."""

    title: str
    tallies: dict[str, Tally]
    num_paid: int
    prices: Prices
    num_engines: int

    @property
    def total(self) -> Tally:
        """Over all templates."""
        total = Tally()
        for tally in self.tallies.values():
            total = total.plus(tally)
        return total


def asking_lines(settings: Settings, workdir: Path, *, prices: Prices, throughput: Throughput) -> list[str]:
    """The quote of asking for a person; where the work folder has no dataset yet, one is made in a cache.

    Raises:
        ValueError: Where the tokenizer cannot be found.
    """
    cache = Path.home() / ".cache" / "retriever"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="estimate-") as scratch:
        dataset_uri = _prepared(settings, workdir, Path(scratch))
        config = AskConfig(**{**settings["ask"], "dataset_uri": dataset_uri, "output_uri": ""})
        dataset = Dataset(open_artifact(dataset_uri))
        with _paid(config, workdir) as (tokenizer, paid):
            tallies, num_paid = estimate_asking(dataset, BM25(dataset), config, tokenizer, paid)
    title = f"asking for {config.num_queries:,} queries"
    after = "what annotating will cost is known when the queries are there: run `retriever estimate` again then"
    return [*_lines(_quote(title, tallies, num_paid, prices, throughput)), after]


def answering_lines(
    settings: Settings, made: Path, workdir: Path, *, prices: Prices, throughput: Throughput
) -> list[str]:
    """The quote of answering for a person over the dataset in `made`; none where these settings answer nothing.

    Raises:
        ValueError: Where no query has a reference answer, or the tokenizer cannot be found.
    """
    if not settings["answer"]["num_queries"]:
        return []
    dataset_uri = str(dataset_folder(made))
    config = AnswerConfig(**{**settings["answer"], "dataset_uri": dataset_uri, "output_uri": ""})
    dataset = Dataset(open_artifact(dataset_uri))
    num_runs = len(config.systems.split(",")) if config.systems else _NUM_RUNS
    with _paid(config, workdir) as (tokenizer, paid):
        tallies, num_paid, num_queries = estimate_answering(
            dataset, BM25(dataset), config, tokenizer, paid, num_runs=num_runs
        )
    title = f"answering {num_queries:,} queries from the passages of {num_runs} runs and from the bounds"
    return ["", *_lines(_quote(title, tallies, num_paid, prices, throughput))]


@contextmanager
def _paid(config: AskConfig | AnswerConfig, workdir: Path) -> Iterator[tuple[Tokenizer, Paid | None]]:
    """The tokenizer of the LLM, and what the journal holds of its calls."""
    llm_uri = resolve(config.llm_uri)
    with paid_calls(config, llm_uri, config.journal_uri or str(workdir / "journal")) as paid:
        yield open_tokenizer(llm_uri), paid


def _prepared(settings: Settings, workdir: Path, scratch: Path) -> str:
    """Where the dataset lies that would be asked about: in the work folder where it is as these settings make it."""
    (step,) = (step for step in plan(settings, workdir) if step.component == "prepare")
    if not step.is_unchanged:
        (step,) = (step for step in plan(settings, scratch) if step.component == "prepare")
        run_steps([step])
    return str(step.config.output_uri)


def _quote(title: str, tallies: dict[str, Tally], num_paid: int, prices: Prices, throughput: Throughput) -> _Quote:
    timed_tallies = {template: timed(tally, throughput) for template, tally in tallies.items()}
    return _Quote(title, timed_tallies, num_paid, prices, throughput.num_engines)


def _lines(quoted: _Quote) -> Iterator[str]:
    yield quoted.title
    yield f"{'':<22}{'calls':>12}{'prompt tokens':>16}{'completion tokens':>19}{'cost':>14}"
    for name, tally in [*quoted.tallies.items(), ("together", quoted.total)]:
        counts = f"{tally.calls:>12,}{tally.prompt_tokens:>16,}{tally.completion_tokens:>19,}"
        yield f"{name:<22}{counts}{dollars(tally.dollars(quoted.prices)):>14}"
    if quoted.num_paid:
        yield f"{quoted.num_paid:,} calls are in the journal already and cost nothing"
    if hours := quoted.total.engine_seconds / SECONDS_PER_HOUR / quoted.num_engines:
        yield f"{hours:,.2f} hours"
