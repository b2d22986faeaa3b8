"""What each annotation method and each question to the LLM can do and needs: the one file that knows them by name.

Everything else asks a record. `METHODS` are ways to label a pool; `QUESTIONS` are the templates that they ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.annotate.config import Method as MethodName

Gives = Literal["selection", "ranking", "answer", "likelihood"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One template: what its reply is, and how many tokens the reply may have where its length is not a setting."""

    gives: Gives
    max_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to label a pool.

    `gives`: a selection, a ranking, or a score for each passage. `question`: the template that decides the labels.
    `needs_answers`: the collection's own answers. `writes_answer`: the LLM writes one first. `follows_instructions`:
    the LLM has to. `per_token`: its scores may be averaged over tokens; else a passage's utility is the sum.
    `is_calibrated`: its margins are fitted to human positives where there are enough. `depends_on_order`: other calls
    are made where the same passages are shown in another order.
    """

    name: MethodName
    gives: Literal["selection", "ranking", "scores"]
    question: str
    needs_answers: bool = False
    writes_answer: bool = False
    follows_instructions: bool = False
    per_token: bool = False
    is_calibrated: bool = False
    depends_on_order: bool = True


QUESTIONS: Mapping[str, Question] = {
    "relevance_selection": Question(gives="selection", max_tokens=160),
    "utility_selection": Question(gives="selection", max_tokens=160),
    "utility_ranking": Question(gives="ranking", max_tokens=256),
    "answer": Question(gives="answer"),
    "query_likelihood": Question(gives="likelihood"),
    "answer_likelihood": Question(gives="likelihood"),
}

_ALL = (
    Method(
        name="utility_selection",
        gives="selection",
        question="utility_selection",
        writes_answer=True,
        follows_instructions=True,
    ),
    Method(
        name="utility_ranking",
        gives="ranking",
        question="utility_ranking",
        writes_answer=True,
        follows_instructions=True,
    ),
    Method(
        name="query_likelihood",
        gives="scores",
        question="query_likelihood",
        per_token=True,
        is_calibrated=True,
        depends_on_order=False,
    ),
    # The answer is written from the pool's first window, so the order decides what is weighed.
    Method(
        name="answer_likelihood",
        gives="scores",
        question="answer_likelihood",
        writes_answer=True,
        per_token=True,
        is_calibrated=True,
    ),
    Method(name="replug", gives="scores", question="answer_likelihood", needs_answers=True, depends_on_order=False),
)
METHODS: Mapping[MethodName, Method] = {method.name: method for method in _ALL}
