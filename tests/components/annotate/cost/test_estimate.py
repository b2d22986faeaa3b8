"""The quote before the bill: prompts counted token for token by the packaged model's tokenizer."""

import functools
import random
import re
from pathlib import Path
from typing import Any

import pytest

from components.annotate import job
from components.annotate.config import AnnotateConfig
from components.annotate.cost.estimate import (
    Assumptions,
    Paid,
    Quote,
    Throughput,
    estimate,
    measured_assumptions,
    open_tokenizer,
)
from components.annotate.job import annotate
from components.shared.calls.journalled import journal_model
from components.shared.calls.tally import Prices
from components.shared.dataset import Dataset
from components.shared.durable.journal import Journal, read_journal
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    Likelihood,
    Request,
    Result,
    Tokenizer,
    token_ids,
)
from components.shared.records import Annotation, Pool, read_records
from pipelines.packaged import find_llm
from tests.components.annotate.inputs import job_config, write_inputs


@functools.cache
def tokenizer() -> Tokenizer:
    return open_tokenizer(str(find_llm()))


class CountingEngine:
    """An LLM is an outside thing: this one counts real tokens, and selects and writes at random around what is told."""

    model, can_constrain = "fake", True

    def __init__(self, *, selected_share: float, answer_words: int) -> None:
        self._queue, self._random = list[Request](), random.Random(0)
        self._selected_share, self._answer_words = selected_share, answer_words

    def submit(self, request: Request) -> None:
        self._queue.append(request)

    def collect(self) -> list[Result]:
        return [self._result(self._queue.pop())] if self._queue else []

    def close(self) -> None:
        self._queue.clear()

    def _result(self, request: Request) -> Result:
        context, continuation = token_ids(tokenizer(), request)
        if continuation:
            return Likelihood(
                request.key, (-self._random.random(),) * len(continuation), len(context) + len(continuation)
            )
        assert isinstance(request, CompletionRequest)
        text = self._reply(request)
        return Completion(
            request.key, text, "stop", len(context), len(tokenizer()(text, add_special_tokens=False)["input_ids"]) + 1
        )

    def _reply(self, request: CompletionRequest) -> str:
        text = "\n".join(turn.content for turn in request.turns)
        numbers = sorted({int(number) for number in re.findall(r"\[(\d+)\] <passage>", text)})
        if "three sentences" in request.turns[-1].content:
            words = re.findall(r"[a-z]+", text)
            return " ".join(self._random.choices(words, k=round(self._answer_words * self._random.uniform(0.5, 1.5))))
        chosen = [number for number in numbers if self._random.random() < self._selected_share] or [numbers[0]]
        return ", ".join(f"[{number}]" for number in chosen)


def actual(folder: Path, engine: CountingEngine, **settings: object) -> dict[str, int]:
    """Tokens of a real run over all pools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "open_engine_of", lambda *_, **__: engine)
        annotate(job_config(folder, journal_uri=str(folder / "journal"), **settings))
    values = [value for _, value in read_journal(str(folder / "journal"))]
    return {name: sum(value.get(name, 0) for value in values) for name in ("prompt_tokens", "completion_tokens")}


def quoted(folder: Path, *, sample: int, assumptions: Assumptions | None = None, **settings: Any) -> Quote:
    pools = list(read_records(folder / "pools" / "pools.jsonl", Pool))
    config = job_config(folder, **settings)
    dataset = Dataset(folder / "dataset")
    return estimate(pools[:sample], len(pools), dataset, config, tokenizer(), prices=Prices(), assumptions=assumptions)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    write_inputs(tmp_path, num_queries=200, pool_size=10, num_passages=60)
    return tmp_path


@pytest.mark.parametrize("method", ["query_likelihood", "utility_selection"])
def test_the_estimate_of_a_200_query_run_is_within_10_percent_of_its_tokens(inputs: Path, method: str) -> None:
    spent = actual(inputs, CountingEngine(selected_share=0.2, answer_words=45), method=method)
    total = quoted(inputs, sample=50, method=method).ledger.total
    assert total.prompt_tokens == pytest.approx(spent["prompt_tokens"], rel=0.1)
    assert total.prompt_tokens + total.completion_tokens == pytest.approx(sum(spent.values()), rel=0.1)


def test_likelihoods_of_all_pools_are_counted_exactly(inputs: Path) -> None:
    spent = actual(inputs, CountingEngine(selected_share=0.2, answer_words=45), method="query_likelihood")
    assert quoted(inputs, sample=200, method="query_likelihood").ledger.total.prompt_tokens == spent["prompt_tokens"]


def test_calls_of_the_journal_cost_nothing_and_tell_what_comes_after_them(inputs: Path) -> None:
    pools = list(read_records(inputs / "pools" / "pools.jsonl", Pool))
    actual(inputs, CountingEngine(selected_share=0.5, answer_words=45))
    with Journal(inputs / "journal") as journal:
        paid = Paid(journal, journal_model("fake", job_config(inputs).llm_uri))
        whole = estimate(
            pools, len(pools), Dataset(inputs / "dataset"), job_config(inputs), tokenizer(), prices=Prices(), paid=paid
        )
        assert whole.ledger.total.calls == 0
        assert whole.num_paid == sum(1 for _ in journal)
        # Another layout: other prompts, so other calls.
        other = job_config(inputs, layout="cached")
        anew = estimate(pools, len(pools), Dataset(inputs / "dataset"), other, tokenizer(), prices=Prices(), paid=paid)
        assert (anew.num_paid, anew.ledger.total.calls > 0) == (0, True)


def test_a_first_run_tells_what_an_unusual_llm_does(inputs: Path, tmp_path: Path) -> None:
    talkative = CountingEngine(selected_share=0.7, answer_words=90)
    spent = actual(inputs, talkative)
    pilot = list(read_records(inputs / "annotations" / "annotations.jsonl", Annotation))[:20]
    texts = {
        key: value["text"] for key, value in read_journal(str(inputs / "journal")) if value["template"] == "answer"
    }
    assumptions = measured_assumptions(pilot, texts)
    assert assumptions is not None
    assert assumptions.relevant_share == pytest.approx(0.7, abs=0.1)
    assert assumptions.answer_words == pytest.approx(90, abs=15)
    told = quoted(inputs, sample=50, assumptions=assumptions).ledger.total
    assert told.prompt_tokens + told.completion_tokens == pytest.approx(sum(spent.values()), rel=0.1)
    untold = quoted(inputs, sample=50).ledger.total
    assert untold.prompt_tokens + untold.completion_tokens < 0.9 * sum(spent.values())
    assert measured_assumptions([], {}) is None


def test_the_layout_for_caches_shares_more_between_the_calls_of_a_query_than_the_papers(inputs: Path) -> None:
    shared = {}
    for layout in ("paper", "cached"):
        total = quoted(inputs, sample=20, layout=layout).ledger.total
        shared[layout] = total.cached_tokens / total.prompt_tokens
    assert shared["cached"] > shared["paper"] + 0.1


def test_hours_and_dollars_follow_from_throughput_and_prices(inputs: Path) -> None:
    pools = list(read_records(inputs / "pools" / "pools.jsonl", Pool))
    config: AnnotateConfig = job_config(inputs, method="query_likelihood")
    quote = estimate(
        pools[:20],
        491_007,
        Dataset(inputs / "dataset"),
        config,
        tokenizer(),
        prices=Prices(engine_hour=0.8),
        throughput=Throughput(prompt_tokens=1000.0, num_engines=8),
        fixed_dollars=100.0,
    )
    its = quote.as_dict()
    assert its["num_pairs"] == 4_910_070
    # A thousand prompt tokens a second and engine, eight engines side by side.
    assert quote.hours == pytest.approx(quote.ledger.total.prompt_tokens / 1000 / 3600 / 8)
    assert its["total"]["dollars"] == pytest.approx(quote.hours * 8 * 0.8)
    assert its["human"]["dollars"] == pytest.approx(4_910_070 * 0.09)
    # 0.90 dollars of people a query: the LLM's cents are lost in rounding.
    assert its["human"]["break_even_queries"] == pytest.approx(100 / 0.9, rel=0.01)
