"""The driver: every call once, whatever is killed when; verdicts in order."""

import itertools
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from components.annotate.config import AnnotateConfig
from components.annotate.judging.inquiry import Verdict
from components.annotate.judging.judge import judge
from components.annotate.judging.likelihoods import likelihood_labels
from components.annotate.judging.listwise import windows
from components.shared.calls.driver import Driver
from components.shared.calls.journalled import call_key, from_value, to_value
from components.shared.durable.journal import Journal
from components.shared.engines.engine import (
    Completion,
    CompletionRequest,
    LikelihoodRequest,
    PromptError,
    Refusal,
    Request,
    Result,
    Turn,
)
from components.shared.hashing import content_key
from components.shared.launch import TransientError
from components.shared.records import Query
from tests.components.annotate.fake_engine import FakeEngine, calls, config

PASSAGES = [f"passage about topic {number}" for number in range(20)]


def run(
    tmp_path: Path, its: AnnotateConfig, *, queries: int = 1, passages: int = 5, replies: dict[str, str] | None = None
) -> list[Verdict]:
    engine = FakeEngine(tmp_path / "calls", replies=replies)
    with Journal(tmp_path / "journal") as journal:
        driver = Driver(engine, journal, model="fake", artifact="a", num_in_flight=4)
        judges = (
            judge(Query(f"q{n}", f"question {n}"), PASSAGES[:passages], its, can_constrain=False)
            for n in range(queries)
        )
        results = list(driver.run(judges))
    engine.close()
    return results


def test_windows_are_few_and_equal() -> None:
    assert windows(31, 16) == [(0, 16), (16, 31)]
    assert windows(16, 16) == [(0, 16)]
    assert windows(33, 16) == [(0, 11), (11, 22), (22, 33)]
    assert windows(0, 16) == []


def test_selection_goes_from_relevance_over_an_answer_to_utility(tmp_path: Path) -> None:
    replies = {"all relevant": "[1], [3], [4]", "one to three sentences": "Because.", "all useful": "[2]"}
    (verdict,) = run(tmp_path, config(), replies=replies)
    assert verdict.labels == ("ignore", "negative", "positive", "ignore", "negative")
    assert (verdict.outcome, len(verdict.exchanges), verdict.prompt_tokens, verdict.completion_tokens) == (
        "ok",
        3,
        60,
        9,
    )


def test_what_is_relevant_and_not_useful_is_negative_where_the_paper_is_followed(tmp_path: Path) -> None:
    replies = {"all relevant": "[1], [3]", "one to three sentences": "Because.", "all useful": "[1]"}
    (verdict,) = run(tmp_path, config(not_useful="negative"), replies=replies)
    assert verdict.labels == ("positive", "negative", "negative", "negative", "negative")


def test_ranking_takes_the_top_share_and_at_least_one(tmp_path: Path) -> None:
    replies = {
        "all relevant": "[1], [3], [4]",
        "one to three sentences": "Because.",
        "most to the least": "[2] > [3] > [1]",
    }
    (verdict,) = run(tmp_path, config(method="utility_ranking"), replies=replies)
    assert verdict.labels == ("ignore", "negative", "positive", "ignore", "negative")


def test_nothing_relevant_is_an_answer_not_a_failure(tmp_path: Path) -> None:
    (verdict,) = run(tmp_path, config(), replies={"all relevant": "None"})
    assert (verdict.outcome, set(verdict.labels)) == ("ok_empty", {"negative"})


def test_identifiers_of_the_second_window_mean_its_own_passages(tmp_path: Path) -> None:
    replies = {"all relevant": "[2]", "one to three sentences": "Because.", "all useful": "[1], [2]"}
    (verdict,) = run(tmp_path, config(window=3), passages=6, replies=replies)
    assert verdict.labels == ("negative", "positive", "negative", "negative", "positive", "negative")


def test_a_completion_that_never_parses_gives_no_labels(tmp_path: Path) -> None:
    (verdict,) = run(tmp_path, config(max_attempts=3), replies={"all relevant": "I like passages."})
    assert (verdict.outcome, verdict.labels, [e.rung for e in verdict.exchanges]) == (
        "unparseable",
        (),
        ["first", "new_seed", "new_seed", "smaller_window", "smaller_window"],
    )
    assert verdict.completion == "I like passages."
    assert len(calls(tmp_path / "calls")) == 5


def test_likelihoods_become_three_way_labels() -> None:
    its = config(method="query_likelihood", positive_margin=0.1, ignore_margin=0.5)
    assert likelihood_labels((-3.0, -2.0, -2.05, -2.4, -2.6), its) == (
        "negative",
        "positive",
        "positive",
        "ignore",
        "negative",
    )


def test_the_same_call_of_two_queries_is_made_once(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path / "calls")
    with Journal(tmp_path / "journal") as journal:
        judges = (
            judge(Query("q", "same question"), PASSAGES[:4], config(method="query_likelihood"), can_constrain=False)
            for _ in range(3)
        )
        verdicts = list(Driver(engine, journal, model="fake", artifact="a", num_in_flight=2).run(judges))
    engine.close()
    assert len(set(verdicts)) == 1
    assert calls(tmp_path / "calls") == Counter(dict.fromkeys(calls(tmp_path / "calls"), 1))
    assert len(calls(tmp_path / "calls")) == 4


def test_a_second_run_calls_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = run(tmp_path, config(), queries=10)
    made = calls(tmp_path / "calls")
    assert run(tmp_path, config(), queries=10) == first
    assert calls(tmp_path / "calls") == made


def test_verdicts_come_in_the_order_of_the_queries(tmp_path: Path) -> None:
    its = config(method="query_likelihood")
    verdicts = run(tmp_path, its, queries=30)
    alone = list(itertools.chain.from_iterable(run(tmp_path, its, queries=n + 1)[n:] for n in range(30)))
    assert verdicts == alone


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"text": "other"}, {"max_tokens": 9}, {"sampling_temperature": 0.5}, {"seed": 1}],
    ids=lambda its: next(iter(its)),
)
def test_every_part_of_a_call_is_part_of_its_key(change: dict[str, object]) -> None:
    def key(
        *,
        model: str = "fake",
        text: str = "text",
        max_tokens: int = 8,
        sampling_temperature: float = 0.0,
        seed: int = 0,
    ) -> str:
        return call_key(CompletionRequest("", (Turn("user", text),), max_tokens, sampling_temperature, seed), model)

    assert key(**change) != key()  # type: ignore[arg-type]


def test_a_key_is_the_hash_of_the_whole_call() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "why"))
    completion = CompletionRequest("ignored", turns, 8, 0.6, 7, 0.9, 20, "(None)", (("enable_thinking", False),))
    for request in (completion, LikelihoodRequest("ignored", "context", " continuation")):
        assert call_key(request, "m") == content_key("m", asdict(replace(request, key="")))[:32]


_KILLED = """
import sys
from pathlib import Path
from tests.components.annotate.test_driver import config, run
results = run(Path(sys.argv[1]), config(), queries=60)
print(len(results))
"""


def test_kill_9_anywhere_repeats_no_finished_call(tmp_path: Path) -> None:
    random_moment = random.Random(7)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE)
        wanted = (
            len((tmp_path / "calls").read_text().split()) + random_moment.randrange(3, 25)
            if (tmp_path / "calls").exists()
            else 5
        )
        while process.poll() is None and (
            not (tmp_path / "calls").exists() or len((tmp_path / "calls").read_text().split()) < wanted
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    whole = run(tmp_path, config(), queries=60)
    repeated = sum(calls(tmp_path / "calls").values()) - len(calls(tmp_path / "calls"))
    # A batch of three may be in flight at each of the five kills; everything else is made once.
    assert repeated <= 15
    (tmp_path / "fresh").mkdir()
    assert run(tmp_path / "fresh", config(), queries=60) == whole


class _Choosy(FakeEngine):
    """Refuses prompts that hold a word: at once, as an engine with a tokenizer does, or later, as a server does."""

    def __init__(self, word: str, *, at_once: bool) -> None:
        super().__init__()
        self._word, self._at_once, self.refused = word, at_once, 0

    def _is_refused(self, request: Request) -> bool:
        return isinstance(request, CompletionRequest) and self._word in request.turns[-1].content

    def submit(self, request: Request) -> None:
        self.refused += self._is_refused(request)
        if self._at_once and self._is_refused(request):
            raise PromptError("too long for the model")
        super().submit(request)

    def collect(self) -> list[Result | Refusal]:  # type: ignore[override]
        results = super().collect()
        answered = self.requests[len(self.requests) - len(results) :]
        return [
            Refusal(result.key, "too long for the model") if self._is_refused(request) else result
            for request, result in zip(answered, results, strict=True)
        ]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refused_prompt_ends_its_own_query_and_is_not_kept(tmp_path: Path, at_once: bool) -> None:
    queries = [Query(f"q{number}", "bad question" if number % 4 == 1 else f"question {number}") for number in range(12)]
    for _ in range(2):
        engine = _Choosy("bad question", at_once=at_once)
        with Journal(tmp_path / "journal") as journal:
            driver = Driver(engine, journal, model="fake", artifact="a", num_in_flight=4)
            judges = (judge(query, PASSAGES[:5], config(window=3), can_constrain=False) for query in queries)
            verdicts = list(driver.run(judges))
        outcomes = [(verdict.outcome, verdict.detail) for verdict in verdicts]
        assert outcomes == [("refused", "too long for the model") if n % 4 == 1 else ("ok", "") for n in range(12)]
        # Three queries ask the same two windows: each call is refused once an attempt, and the next attempt asks again.
        assert engine.refused == driver.counts.calls_refused == 2
    assert driver.counts.calls_made == 0


def test_a_completion_that_the_engine_broke_off_is_no_completion(tmp_path: Path) -> None:
    class Breaking(FakeEngine):
        def _result(self, request: Request) -> Result:
            return Completion(request.key, "[1", "abort", 20, 3)

    with Journal(tmp_path) as journal:
        driver = Driver(Breaking(), journal, model="fake", artifact="a", num_in_flight=4)
        with pytest.raises(TransientError, match="broke off"):
            list(driver.run([judge(Query("q", "question"), PASSAGES[:3], config(), can_constrain=False)]))
        assert len(journal) == 0


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"text": 7, "finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1},
        {"name": "a cell", "seed": 1},
    ],
)
def test_a_record_that_is_no_result_is_named(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"record of call k7 is no result of an LLM .*delete its line"):
        from_value("k7", value)


def test_what_a_later_version_writes_beside_a_result_is_left_alone() -> None:
    value = to_value(Completion("k", "[1]", None, 5, 1)) | {"later": {"than": "now"}}
    assert value["finish_reason"] is None
    assert from_value("k", value) == Completion("k", "[1]", None, 5, 1)
