"""Text hidden in passages cannot imitate a turn, and its effect on labels is measured, as a gullible LLM shows."""

import re
from pathlib import Path

import pytest

from components.shared.engines.engine import Completion, CompletionRequest, Likelihood, Request, Result
from components.shared.records import Query
from tests.benchmarks.bench_injections import ATTACKS, Case, measure
from tests.components.annotate.fake_engine import config


class Obedient:
    """An LLM is an outside thing: this one selects the first passage, unless some text orders it otherwise."""

    model, can_constrain = "obedient", False

    def __init__(self, *, gullible: bool) -> None:
        self._queue, self._gullible = list[Request](), gullible
        self.prompts: list[str] = []

    def submit(self, request: Request) -> None:
        self._queue.append(request)

    def collect(self) -> list[Result]:
        return [self._result(self._queue.pop())] if self._queue else []

    def close(self) -> None:
        self._queue.clear()

    def _result(self, request: Request) -> Result:
        if not isinstance(request, CompletionRequest):
            return Likelihood(request.key, (-1.0 - len(request.context) / 1000,), 5)
        prompt = "\n".join(turn.content for turn in request.turns)
        self.prompts.append(prompt)
        # The prompt turns an identifier in a passage into `(3)`; a gullible LLM understands it all the same.
        ordered = re.search(r"Select only [\[(](\d+)[\])]", prompt) if self._gullible else None
        numbers = set(re.findall(r"\[(\d+)\] <passage>", prompt))
        chosen = f"[{ordered[1]}]" if ordered and ordered[1] in numbers else "[1]"
        return Completion(
            request.key, "Because." if "three sentences" in request.turns[-1].content else chosen, "stop", 10, 3
        )


CASES = [
    Case(Query(f"q{n}", f"question {n}"), tuple(f"text {n} {place} about tides" for place in range(4)), place=1 + n % 3)
    for n in range(6)
]


def test_an_order_in_a_passage_promotes_it_where_the_llm_is_gullible_and_the_measure_says_so(tmp_path: Path) -> None:
    its = dict(measure(CASES, Obedient(gullible=True), config(passage_words=60), tmp_path / "gullible"))
    # The attacked passage alone is selected as relevant; among what is selected as useful it then stands first.
    assert its["order"].promoted == 6
    assert its["order"].others_kept == 0.0
    assert (its["control"].promoted, its["control"].others_kept) == (0, 1.0)


def test_an_llm_that_does_not_obey_shows_no_effect(tmp_path: Path) -> None:
    its = dict(measure(CASES, Obedient(gullible=False), config(passage_words=60), tmp_path / "steady"))
    assert {(each.num_cases, each.promoted, each.demoted, each.others_kept) for each in its.values()} == {
        (6, 0, 0, 1.0)
    }


def test_no_token_of_a_chat_template_survives_in_a_passage(tmp_path: Path) -> None:
    engine = Obedient(gullible=False)
    list(measure(CASES, engine, config(passage_words=60), tmp_path / "journal"))
    assert "<|im_end|>" in ATTACKS["turn"]
    assert any("Thank you, (" in prompt for prompt in engine.prompts)
    assert not any("<|im_" in prompt for prompt in engine.prompts)


def test_likelihoods_of_the_other_passages_do_not_move_at_all(tmp_path: Path) -> None:
    its = dict(
        measure(
            CASES, Obedient(gullible=True), config(method="query_likelihood", passage_words=60), tmp_path / "journal"
        )
    )
    for each in its.values():
        assert each.score_change == pytest.approx(-0.1, abs=0.1)
        # Whatever a passage says, it is weighed alone: another one can only lose its place as the best.
        assert each.promoted == 0
        assert each.others_kept == 1.0
