"""What a method needs and gives is said in its record, and the records are true."""

from pathlib import Path
from typing import get_args

import pytest

from components.annotate.config import Method as MethodName
from components.annotate.judging.inquiry import Verdict
from components.annotate.judging.judge import judge
from components.annotate.judging.methods import METHODS, QUESTIONS
from components.shared.calls.driver import Driver
from components.shared.durable.journal import Journal
from components.shared.records import Query
from tests.components.annotate.fake_engine import FakeEngine, config

PASSAGES = [f"passage about topic {number}" for number in range(4)]


def judged(folder: Path, passages: list[str], *, answers: tuple[str, ...] = ("the moon",), **values: object) -> Verdict:
    engine = FakeEngine(replies=lambda request: "[1]" if "[" in request.turns[-1].content else "Because of the moon.")
    with Journal(folder / "journal") as journal:
        driver = Driver(engine, journal, model="fake", artifact="a", num_in_flight=1)
        (verdict,) = driver.run([judge(Query("q", "why", answers), passages, config(**values), can_constrain=False)])
    return verdict


def test_every_method_of_the_settings_has_a_record_and_its_questions_templates() -> None:
    assert set(METHODS) == set(get_args(MethodName))
    assert {method.question for method in METHODS.values()} <= set(QUESTIONS)
    prompts = Path("components/annotate/judging/prompts")
    assert {path.stem for path in prompts.glob("*/*.txt")} == set(QUESTIONS)


@pytest.mark.parametrize("name", METHODS)
def test_a_record_is_true_of_what_is_asked(tmp_path: Path, name: MethodName) -> None:
    method = METHODS[name]
    verdict = judged(tmp_path, PASSAGES, method=name)
    templates = [exchange.template for exchange in verdict.exchanges]
    assert ("answer" in templates) == method.writes_answer
    assert templates[-1] == method.question
    assert bool(verdict.scores) == (method.gives == "scores")
    assert (judged(tmp_path / "none", PASSAGES, answers=(), method=name).labels == ()) == method.needs_answers


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_the_passages_changes_the_calls_only_where_the_record_says_so(
    tmp_path: Path, name: MethodName
) -> None:
    one_way, other_way = (
        {call for exchange in judged(tmp_path / way, passages, method=name).exchanges for call in exchange.calls}
        for way, passages in (("one", PASSAGES), ("other", PASSAGES[::-1]))
    )
    assert (one_way != other_way) == METHODS[name].depends_on_order


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.gives == "scores"])
@pytest.mark.parametrize("likelihood", ["mean", "sum"])
def test_the_distribution_is_of_sums_unless_the_method_and_the_setting_say_means(
    tmp_path: Path, name: MethodName, likelihood: str
) -> None:
    from components.annotate.judging.likelihoods import softmax

    verdict = judged(tmp_path, PASSAGES, method=name, likelihood=likelihood)
    is_mean = METHODS[name].per_token and likelihood == "mean"
    assert verdict.distribution == tuple(softmax(verdict.scores if is_mean else verdict.score_sums))
