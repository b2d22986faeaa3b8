import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.answer.reading import OUTCOMES, read_answer


@pytest.mark.parametrize(
    ("completion", "outcome", "answer"),
    [
        ("Paris", "ok", "Paris"),
        ("  Paris \n", "ok", "Paris"),
        ("Answer: Paris", "repaired", "Paris"),
        ("The answer is: Paris", "repaired", "Paris"),
        ("Answer:\nParis", "repaired", "Paris"),
        ("**Paris**", "repaired", "Paris"),
        ("**Answer:** Paris", "repaired", "Paris"),
        ('"Paris"', "repaired", "Paris"),
        ("Paris\nIt is the capital of France.", "repaired", "Paris"),
        ("<think>Is it Rome?</think>Paris", "repaired", "Paris"),
        ("Paris<|im_end|>\n<|im_start|>user\nmore", "repaired", "Paris"),
        ("yes", "ok", "yes"),
        ("-5 degrees", "ok", "-5 degrees"),
        ("2", "ok", "2"),
        ("<think>Is it Rome?", "empty", ""),
        ("", "empty", ""),
        ("Answer:", "empty", ""),
        ("I'm sorry, but I cannot help with that.", "refused", ""),
        ("As an AI language model, I cannot know.", "refused", ""),
    ],
)
def test_a_reply_is_read_as_one_short_answer(completion: str, outcome: str, answer: str) -> None:
    reading = read_answer(completion, finish_reason="stop")
    assert (reading.outcome, reading.answer) == (outcome, answer)


def test_a_cut_answer_is_what_was_written_up_to_there() -> None:
    assert read_answer("the year in which", finish_reason="length").outcome == "truncated"
    assert read_answer("the year in which", finish_reason="length").answer == "the year in which"
    # Cut behind the line that counts.
    assert read_answer("1984\nIt was written in", finish_reason="length").outcome == "repaired"
    assert read_answer("anything", finish_reason="content_filter").outcome == "refused"


@given(st.text(max_size=80))
def test_any_text_gives_an_answer_or_a_reason_why_there_is_none(completion: str) -> None:
    reading = read_answer(completion, finish_reason="stop")
    assert reading.outcome in OUTCOMES
    assert bool(reading.answer) == (reading.outcome not in ("refused", "empty"))
    assert "\n" not in reading.answer
