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
from components.annotate.driver import Driver, call_key
from components.annotate.engines.engine import CompletionRequest, LikelihoodRequest, Turn
from components.annotate.judging.inquiry import Verdict
from components.annotate.judging.judge import judge
from components.annotate.judging.likelihoods import likelihood_labels
from components.annotate.judging.listwise import windows
from components.shared.hashing import content_key
from components.shared.journal import Journal
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
