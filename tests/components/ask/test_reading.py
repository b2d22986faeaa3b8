"""Completions as models really write them, and the one query that each holds, or why it holds none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ask.reading import read_query
from components.ask.styles import STYLES
from components.shared.engines.engine import FinishReason

_Q = "How long do bees live?"
_CHINESE = "\u871c\u8702\u80fd\u6d3b\u591a\u4e45\uff1f"

# completion, style, finish reason, outcome, query
TABLE: tuple[tuple[str, str, FinishReason, str, str], ...] = (
    (_Q, "question", "stop", "ok", _Q),
    (f"  {_Q}\n", "question", "stop", "ok", _Q),
    (f'"{_Q}"', "question", "stop", "repaired", _Q),
    (f"\u201c{_Q}\u201d", "question", "stop", "repaired", _Q),
    (f"Question: {_Q}", "question", "stop", "repaired", _Q),
    (f"**Question:** {_Q}", "question", "stop", "repaired", _Q),
    (f"Q: {_Q}\nA: About six weeks.", "question", "stop", "repaired", _Q),
    (f"Search query: {_Q}", "question", "stop", "repaired", _Q),
    (f"1. {_Q}\n2. What do bees eat?", "question", "stop", "repaired", _Q),
    (f"- {_Q}", "question", "stop", "repaired", _Q),
    (f"Question 1: {_Q}", "question", "stop", "repaired", _Q),
    (f"Sure! Here is a question based on the passage:\n\n{_Q}", "question", "stop", "repaired", _Q),
    (f"Sure, here's one question: {_Q}", "question", "stop", "repaired", _Q),
    (f'Here is a possible question that the passage answers: "{_Q}"', "question", "stop", "repaired", _Q),
    (f"Based on the passage, one question could be: {_Q}", "question", "stop", "repaired", _Q),
    (f"{_Q} Bees live for about six weeks in summer.", "question", "stop", "repaired", _Q),
    (f"{_Q}\n\nNote: this asks for a duration.", "question", "stop", "repaired", _Q),
    (f"{_Q} (Note: this asks for a duration.)", "question", "stop", "repaired", _Q),
    (f"<think>Something about age.</think>\n{_Q}", "question", "stop", "ok", _Q),
    (f"<think>Something about age.\n{_Q}", "question", "stop", "unparseable", ""),
    ("<think>Something about", "question", "length", "truncated", ""),
    (f'```json\n{{"question": "{_Q}"}}\n```', "question", "stop", "repaired", _Q),
    (f'{{"query": "{_Q}", "style": "question"}}', "question", "stop", "repaired", _Q),
    (f"<query>{_Q}</query>", "question", "stop", "repaired", _Q),
    (f"{_Q}<|im_end|>\n<|im_start|>user\nAnd wasps?", "question", "stop", "ok", _Q),
    ("I'm sorry, but I cannot help with that.", "question", "stop", "refused", ""),
    ("Sure, I'm sorry, but I can't assist with this passage.", "question", "stop", "refused", ""),
    ("anything", "question", "content_filter", "refused", ""),
    ("", "question", "stop", "unparseable", ""),
    ("?!", "question", "stop", "unparseable", ""),
    ("[insert question here]", "question", "stop", "unparseable", ""),
    ("Question:", "question", "stop", "unparseable", ""),
    ("How long do bees live in", "question", "length", "truncated", ""),
    # The question is whole, whatever was cut behind it.
    (f"{_Q} They live for", "question", "length", "repaired", _Q),
    (f"{_Q}\nThey live for", "question", "length", "repaired", _Q),
    ("life span honey bee summer", "keywords", "stop", "ok", "life span honey bee summer"),
    ("Keywords: bee, life span, summer", "keywords", "stop", "repaired", "bee, life span, summer"),
    ("Summer bees die early.", "claim", "stop", "ok", "Summer bees die early."),
    ("Claim: Summer bees die early.\nSource: the passage", "claim", "stop", "repaired", "Summer bees die early."),
    ("A good statement: Summer bees die early.", "claim", "stop", "repaired", "Summer bees die early."),
    (
        "I keep bees. How long will they live? I want to plan.",
        "conversational",
        "stop",
        "ok",
        "I keep bees. How long will they live? I want to plan.",
    ),
    (_CHINESE, "question", "stop", "ok", _CHINESE),
    ("What does \"Apis\" mean?", "question", "stop", "ok", "What does \"Apis\" mean?"),
)  # fmt: skip


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0][:40] or "empty")
def test_a_completion_holds_this_query(row: tuple[str, str, FinishReason, str, str]) -> None:
    completion, style, finish_reason, outcome, query = row
    reading = read_query(completion, STYLES[style], finish_reason=finish_reason)
    assert (reading.outcome, reading.query) == (outcome, query), reading


@given(st.text(max_size=200), st.sampled_from(sorted(STYLES)), st.sampled_from(["stop", "length", "content_filter"]))
def test_any_text_gives_a_reading_and_a_query_only_with_an_outcome_that_has_one(
    completion: str, style: str, finish_reason: FinishReason
) -> None:
    reading = read_query(completion, STYLES[style], finish_reason=finish_reason)
    assert bool(reading.query) == (reading.outcome in ("ok", "repaired"))
    assert "\n" not in reading.query
    assert reading.query == reading.query.strip()


@pytest.mark.parametrize("query", [_Q, "bee life span", "Summer bees die early."])
def test_a_plain_query_is_left_as_it_is(query: str) -> None:
    for style in STYLES.values():
        assert read_query(query, style, finish_reason="stop").query == query
