"""The ladder: what each rung asks, what it recovers, and that nothing is made up where all of them fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regex

from components.annotate.judging.inquiry import Verdict
from components.annotate.judging.judge import judge
from components.annotate.judging.ladder import reply_pattern
from components.annotate.judging.parsing import parse_ranking, parse_selection
from components.shared.calls.driver import Driver
from components.shared.durable.journal import Journal
from components.shared.engines.engine import CompletionRequest, LikelihoodRequest
from components.shared.records import Query
from tests.components.annotate.fake_engine import FakeEngine, Reply, config

PASSAGES = [f"passage about topic {number}" for number in range(8)]
PROSE = "Tides rise because the moon pulls."


def told(
    tmp_path: Path, reply: Reply, *, can_constrain: bool = False, **settings: Any
) -> tuple[Verdict, list[CompletionRequest]]:
    engine = FakeEngine(replies=reply, can_constrain=can_constrain)
    with Journal(tmp_path / "journal") as journal:
        driver = Driver(engine, journal, model="fake", artifact="a", num_in_flight=1)
        query = Query("q", "why do tides rise", ("the moon",))
        (verdict,) = driver.run([judge(query, PASSAGES, config(**settings), can_constrain=can_constrain)])
    return verdict, [request for request in engine.requests if isinstance(request, CompletionRequest)]


def by_template(selection: str, answer: str, utility: str) -> Reply:
    parts = {"all relevant": selection, "three sentences": answer, "all useful": utility, "most to the least": utility}
    return lambda request: next(reply for part, reply in parts.items() if part in request.turns[-1].content)


def test_a_new_seed_samples_where_the_first_try_was_greedy(tmp_path: Path) -> None:
    verdict, requests = told(tmp_path, lambda request: "[1]" if request.seed else PROSE)
    first, second, *_ = requests
    assert (first.sampling_temperature, first.seed) == (0.0, 0)
    assert (second.sampling_temperature, second.seed) == (0.7, 43)
    assert [(its.template, its.rung, its.outcome) for its in verdict.exchanges] == [
        ("relevance_selection", "first", "unparseable"),
        ("relevance_selection", "new_seed", "ok"),
        ("answer", "first", "ok"),
        ("utility_selection", "first", "unparseable"),
        ("utility_selection", "new_seed", "ok"),
    ]
    assert verdict.outcome == "ok"


def test_a_constrained_reply_is_asked_for_where_the_engine_can(tmp_path: Path) -> None:
    def reply(request: CompletionRequest) -> str:
        return "[1], [2]" if request.pattern else PROSE

    verdict, requests = told(tmp_path, reply, can_constrain=True)
    assert verdict.labels.count("positive") == 2
    assert [its.rung for its in verdict.exchanges if its.template == "relevance_selection"] == [
        "first",
        "new_seed",
        "constrained",
    ]
    constrained = next(request for request in requests if request.pattern)
    assert constrained.sampling_temperature == 0.0
    without, _ = told(tmp_path / "without", reply)
    assert (without.outcome, without.labels) == ("unparseable", ())


def test_a_smaller_window_joins_selections(tmp_path: Path) -> None:
    def reply(request: CompletionRequest) -> str:
        return "[1]" if "4 passages" in request.turns[1].content else PROSE

    verdict, _ = told(tmp_path, reply, max_attempts=1)
    assert [its.rung for its in verdict.exchanges[:3]] == ["first", "smaller_window", "smaller_window"]
    assert [its.positions for its in verdict.exchanges[1:3]] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [its.chosen for its in verdict.exchanges[1:3]] == [(0,), (4,)]


def test_a_ranking_in_smaller_windows_is_decided_between_the_better_halves(tmp_path: Path) -> None:
    def reply(request: CompletionRequest) -> str:
        last = request.turns[-1].content
        if "most to the least" not in last:
            return "[1], [2], [3], [4], [5], [6], [7], [8]" if "all relevant" in last else "Because."
        if "8 passages" in request.turns[1].content:
            return PROSE
        first = next(turn.content for turn in request.turns if turn.content.startswith("[1]"))
        # Halves 0-3 and 4-7, best 2, 3 and 7, 6; the final shows 2, 3, 7, 6 in this order and picks 7.
        orders = {
            "topic 0": "[3] > [4] > [1] > [2]",
            "topic 4": "[4] > [3] > [1] > [2]",
            "topic 2": "[3] > [1] > [4] > [2]",
        }
        return next(order for topic, order in orders.items() if topic in first)

    verdict, _ = told(tmp_path, reply, method="utility_ranking", rank_share=0.5, max_attempts=1)
    assert verdict.exchanges[-1].positions == (2, 3, 7, 6)
    assert verdict.exchanges[-1].chosen == (7, 2, 6, 3)
    assert [place for place, label in enumerate(verdict.labels) if label == "positive"] == [2, 7]


def test_only_the_window_that_failed_is_asked_again(tmp_path: Path) -> None:
    def reply(request: CompletionRequest) -> str:
        shows_last = any("topic 7" in turn.content for turn in request.turns)
        return PROSE if shows_last and "all relevant" in request.turns[-1].content and not request.seed else "[1]"

    verdict, _ = told(tmp_path, reply, window=4)
    selections = [its for its in verdict.exchanges if its.template == "relevance_selection"]
    assert [(its.positions[0], its.rung, its.outcome) for its in selections] == [
        (0, "first", "ok"),
        (4, "first", "unparseable"),
        (4, "new_seed", "ok"),
    ]


def test_what_fails_on_every_rung_has_no_label_and_keeps_its_completion(tmp_path: Path) -> None:
    verdict, _ = told(tmp_path, lambda _: PROSE)
    assert (verdict.labels, verdict.outcome, verdict.completion) == ((), "unparseable", PROSE)
    assert [its.outcome for its in verdict.exchanges] == ["unparseable"] * 4


def test_a_refused_answer_is_not_an_answer(tmp_path: Path) -> None:
    verdict, _ = told(tmp_path, by_template("[1]", "<think>the moon", "[1]"))
    assert (verdict.labels, verdict.outcome) == ((), "unparseable")
    assert [its.template for its in verdict.exchanges] == ["relevance_selection", "answer", "answer"]


@pytest.mark.parametrize(("share", "expected"), [(0.1, 1), (0.25, 2), (0.49, 3), (0.5, 4)])
def test_the_top_share_is_a_floor_of_at_least_one(tmp_path: Path, share: float, expected: int) -> None:
    ranking = " > ".join(f"[{number}]" for number in range(8, 0, -1))
    everything = ", ".join(f"[{number}]" for number in range(1, 9))
    verdict, _ = told(
        tmp_path, by_template(everything, "Because.", ranking), method="utility_ranking", rank_share=share
    )
    assert [place for place, label in enumerate(verdict.labels) if label == "positive"] == list(range(8 - expected, 8))


def matches(pattern: str) -> Iterator[str]:
    for text in (
        "None",
        "[1]",
        "[3]",
        "[1], [2]",
        "[2], [2], [1]",
        "[4]",
        "[1],",
        "[1] > [2]",
        "[3] > [1] > [2]",
        "",
        "[0]",
        "[12]",
    ):
        if regex.fullmatch(pattern, text):
            yield text


def test_the_pattern_holds_what_the_template_asks_for() -> None:
    assert list(matches(reply_pattern("utility_selection", 3))) == ["None", "[1]", "[3]", "[1], [2]", "[2], [2], [1]"]
    assert list(matches(reply_pattern("utility_ranking", 3))) == ["[1]", "[3]", "[1] > [2]", "[3] > [1] > [2]"]


@pytest.mark.parametrize("num_passages", [1, 2, 9, 10, 16, 31])
def test_whatever_matches_a_pattern_parses(num_passages: int) -> None:
    everything = [f"[{number}]" for number in range(1, num_passages + 1)]
    selection, ranking = (
        reply_pattern("relevance_selection", num_passages),
        reply_pattern("utility_ranking", num_passages),
    )
    assert regex.fullmatch(selection, ", ".join(everything))
    assert regex.fullmatch(ranking, " > ".join(everything))
    assert parse_selection(", ".join(everything), num_passages=num_passages, finish_reason="stop").outcome == "ok"
    assert parse_ranking(" > ".join(everything), num_passages=num_passages, finish_reason="stop").outcome == "ok"


def test_replug_weighs_the_collections_answer_and_needs_one(tmp_path: Path) -> None:
    engine = FakeEngine()
    with Journal(tmp_path / "journal") as journal:
        driver = Driver(engine, journal, model="fake", artifact="a", num_in_flight=1)
        its = config(method="replug")
        queries = [Query("q", "why", ("passage 3 moon",)), Query("without", "why")]
        with_answer, without = driver.run(judge(query, PASSAGES, its, can_constrain=False) for query in queries)
    assert all(
        isinstance(request, LikelihoodRequest) and request.continuation == " passage 3 moon"
        for request in engine.requests
    )
    # Passage 3 shares two words with the answer, the others one: -5 + 2 and -5 + 1.
    assert with_answer.scores == (-4.0, -4.0, -4.0, -3.0, -4.0, -4.0, -4.0, -4.0)
    assert sum(with_answer.distribution) == pytest.approx(1.0)
    assert with_answer.distribution[3] == pytest.approx(1 / (1 + 7 * 2.718281828**-1))
    assert without.labels == ()
    assert "replug needs" in without.detail


def test_answer_likelihood_weighs_the_llms_own_answer(tmp_path: Path) -> None:
    engine = FakeEngine(replies=lambda _: "the moon")
    with Journal(tmp_path / "journal") as journal:
        driver = Driver(engine, journal, model="fake", artifact="a", num_in_flight=1)
        its = config(method="answer_likelihood")
        (verdict,) = driver.run([judge(Query("q", "why", ("gold",)), PASSAGES, its, can_constrain=False)])
    weighed = [request for request in engine.requests if isinstance(request, LikelihoodRequest)]
    assert {request.continuation for request in weighed} == {" the moon"}
    assert [its.template for its in verdict.exchanges] == ["answer", "answer_likelihood"]
    assert (verdict.prompt_tokens, verdict.completion_tokens, verdict.cached_tokens) == (20 + 8 * 10, 3, 5)
    assert verdict.engine_seconds == 0.5 + 8 * 0.25


def test_the_collections_answer_stands_for_one_that_the_llm_would_write_where_that_is_asked_for(tmp_path: Path) -> None:
    reply = by_template("[1], [2]", PROSE, "[1]")
    verdict, requests = told(tmp_path, reply, answers="collection")
    assert [exchange.template for exchange in verdict.exchanges] == ["relevance_selection", "utility_selection"]
    assert "The reference answer is: the moon" in requests[-1].turns[-1].content
    verdict, requests = told(tmp_path / "written", reply)
    assert [exchange.template for exchange in verdict.exchanges] == [
        "relevance_selection",
        "answer",
        "utility_selection",
    ]
    assert f"The reference answer is: {PROSE}" in requests[-1].turns[-1].content
