"""Completions as models write them, and what may be read from each: five passages stand before the model."""

import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.annotate.judging.parsing import Parsed, parse_ranking, parse_selection
from components.shared.calls.replies import strip_thinking
from components.shared.engines.engine import FinishReason

_NUM_PASSAGES = 5

# completion, outcome, identifiers
SELECTIONS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    # As asked.
    ("[2], [5]", "ok", (2, 5)),
    ("[2],[5]", "ok", (2, 5)),
    ("[5], [2]", "ok", (5, 2)),
    ("[3]", "ok", (3,)),
    ("  [2], [5].\n", "ok", (2, 5)),
    ("None", "ok_empty", ()),
    ("none.", "ok_empty", ()),
    ("[2], [5]<|im_end|>", "ok", (2, 5)),
    # The same list in another form.
    ("[2, 5]", "repaired", (2, 5)),
    ("[2; 5]", "repaired", (2, 5)),
    ("[2] [5]", "repaired", (2, 5)),
    ("[2] and [5]", "repaired", (2, 5)),
    ("[1], [2], and [5].", "repaired", (1, 2, 5)),
    ("[2]\n[5]", "repaired", (2, 5)),
    ("- [2]\n- [5]", "repaired", (2, 5)),
    ("* [2]\n* [5]", "repaired", (2, 5)),
    ("1. [2]\n2. [5]", "repaired", (2, 5)),
    ("**[2]**, **[5]**", "repaired", (2, 5)),
    ("```\n[2], [5]\n```", "repaired", (2, 5)),
    ("`[2], [5]`", "repaired", (2, 5)),
    ("\\boxed{[2], [5]}", "repaired", (2, 5)),
    ("<answer>[2], [5]</answer>", "repaired", (2, 5)),
    ('["2", "5"]', "repaired", (2, 5)),
    ('{"relevant": [2, 5]}', "repaired", (2, 5)),
    ("[[2]], [[5]]", "repaired", (2, 5)),
    ("[Passage 2], [Passage 5]", "repaired", (2, 5)),
    ("Passage [2], Passage [5]", "repaired", (2, 5)),
    ("[02]", "repaired", (2,)),
    ("[2], [5],", "repaired", (2, 5)),
    # Numbers without brackets: only as the whole answer.
    ("2, 5", "repaired", (2, 5)),
    ("2\n5", "repaired", (2, 5)),
    ("4", "repaired", (4,)),
    ("(2), (5)", "repaired", (2, 5)),
    ("Passage 2, Passage 5", "repaired", (2, 5)),
    ("There are 3 relevant passages.", "unparseable", ()),
    ("Number of relevant passages: 3", "unparseable", ()),
    ("25%", "unparseable", ()),
    ("2.5", "unparseable", ()),
    # Ranges.
    ("[1-3]", "repaired", (1, 2, 3)),
    ("[1\u20133], [5]", "repaired", (1, 2, 3, 5)),
    ("[1 to 3]", "repaired", (1, 2, 3)),
    ("[3-1]", "unparseable", ()),
    ("[1]-[3]", "unparseable", ()),
    ("[1] to [3]", "unparseable", ()),
    ("[1], ..., [5]", "unparseable", ()),
    ("[1-100000000]", "out_of_range", ()),
    # Repetition.
    ("[2], [2], [5]", "repaired", (2, 5)),
    ("[1-3], [2]", "repaired", (1, 2, 3)),
    # Identifiers that nobody gave.
    ("[0]", "out_of_range", ()),
    ("[0], [1], [2]", "out_of_range", ()),
    ("[6]", "out_of_range", ()),
    ("[2], [17]", "out_of_range", ()),
    ("[-1]", "out_of_range", ()),
    ("[2024]", "out_of_range", ()),
    (f"[{'9' * 5000}]", "out_of_range", ()),
    # Digits of other scripts.
    ("\uff3b\uff12\uff3d\uff0c\uff3b\uff15\uff3d", "repaired", (2, 5)),
    ("[\uff12], [\uff15]", "repaired", (2, 5)),
    ("\u3010\u0032\u3011\u3001\u3010\u0035\u3011", "repaired", (2, 5)),
    ("\u2461, \u2464", "repaired", (2, 5)),
    ("[\u2461], [\u2464]", "repaired", (2, 5)),
    ("\u2777 \u277a", "repaired", (2, 5)),
    ("\u2469", "out_of_range", ()),  # circled ten
    ("[\u00b2], [\u2075]", "repaired", (2, 5)),
    ("\u00b2, \u2075", "repaired", (2, 5)),
    ("[1\u00b2]", "unparseable", ()),  # neither 12 nor 1
    ("[2]\u00b9, [5]\u00b2", "unparseable", ()),  # footnotes
    ("[\u0662], [\u0665]", "repaired", (2, 5)),  # Arabic-Indic
    ("[\u200b2\u200b], [5]", "repaired", (2, 5)),  # zero-width spaces
    ("\u4e8c", "unparseable", ()),  # a word for two
    # Thinking.
    ("<think>Passage [1] looks good, [3] too.</think>\n[2], [5]", "ok", (2, 5)),
    ("Passage [1] looks good.</think>[2]", "ok", (2,)),  # the prompt held the opening tag
    ("<think>[1]</think>", "unparseable", ()),
    ("<think>[1], [2]", "unparseable", ()),
    ("[1]\n<think>or rather", "unparseable", ()),
    ("<think>a</think>[1]<think>b</think>[2]", "ok", (2,)),
    ("<thinking>[1]</thinking>None", "ok_empty", ()),
    ("[THINK]maybe [1][/THINK][2]", "ok", (2,)),
    ("<|channel|>analysis<|message|>[1]?<|end|><|start|>assistant<|channel|>final<|message|>[2]", "ok", (2,)),
    ("<|channel|>analysis<|message|>We need [1] and [3]", "unparseable", ()),
    # Prose with a verdict.
    ("The relevant passages are [2] and [5].", "repaired", (2, 5)),
    ("Relevant passages: [2], [5]", "repaired", (2, 5)),
    ("Here are the identifiers:\n\n[2], [5]", "repaired", (2, 5)),
    ("[2] and [5] are relevant to the query.", "repaired", (2, 5)),
    ("[2], [5]\n\nExplanation: [2] names the year, [1] does not.", "repaired", (2, 5)),
    ("[1] is about bees, so it does not help. [2] answers it.\nFinal answer: [2]", "repaired", (2,)),
    ("Answer: [2], [5]\nAnswer: [2], [5]", "repaired", (2, 5)),
    # Prose that a person would have to interpret.
    ("Passage [3] is not relevant.", "unparseable", ()),
    ("All passages except [3]", "unparseable", ()),
    ("Irrelevant passages:\n[1], [3]", "unparseable", ()),
    ('{"not_relevant": [1, 3]}', "unparseable", ()),
    ('{"relevant": [2], "irrelevant": [1]}', "unparseable", ()),
    ("[1]: about bees.\n[2]: about tides.", "unparseable", ()),
    ("[2]\nNo, wait:\n[3]", "unparseable", ()),
    ("Relevant: [2]\nUseful: [3]", "unparseable", ()),
    ("\u4e0d\u76f8\u5173\uff1a\n[1]", "unparseable", ()),  # "not relevant" in a language that no rule knows
    # A small model goes on copying what it was shown.
    ("[1] Tides in the harbour rise and fall twice a day.", "unparseable", ()),
    ("[1] Tides rise.\n[2] Glaciers carve valleys.", "unparseable", ()),
    ("Query: which passages are relevant? [1] Tides rise", "unparseable", ()),
    ("The query asks about the moon and the sea.", "unparseable", ()),
    ("[2], [", "unparseable", ()),
    ("[2], [5]<|im_end|>\n<|im_start|>user\nSelect [1]", "ok", (2, 5)),
    # Nothing selected, in other words; and nothing said, which is another thing.
    ("[None]", "repaired empty", ()),
    ("[]", "repaired empty", ()),
    ("Answer: None", "repaired empty", ()),
    ("None of the passages are relevant to the query.", "repaired empty", ()),
    ("There are no relevant passages.", "repaired empty", ()),
    ("None\n\nPassage [1] is about bees.", "repaired empty", ()),
    ("None of the passages except [3]", "unparseable", ()),
    ("None of the passages is irrelevant.", "unparseable", ()),
    ("None\n[2]", "unparseable", ()),
    ("", "unparseable", ()),
    (" \n", "unparseable", ()),
    ("...", "unparseable", ()),
    # Refusals.
    ("I'm sorry, but I can't help with that.", "refused", ()),
    ("I\u2019m sorry, but I cannot assist with that request.", "refused", ()),
    ("I cannot provide medical advice. [1]", "refused", ()),
    ("As an AI language model, I do not have opinions.", "refused", ()),
    ("I am unable to judge these passages.", "refused", ()),
    ("<think>policy?</think>I can't comply.", "refused", ()),
)

RANKINGS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("[3] > [1] > [2] > [5] > [4]", "ok", (3, 1, 2, 5, 4)),
    ("[3]>[1]>[2]>[5]>[4]", "ok", (3, 1, 2, 5, 4)),
    ("<think>[1] > [2]?</think>[3] > [1] > [2] > [5] > [4].", "ok", (3, 1, 2, 5, 4)),
    ("[3] > [1]", "repaired", (3, 1)),
    ("[3]", "repaired", (3,)),
    ("[3] >> [1] >> [2] >> [5] >> [4]", "repaired", (3, 1, 2, 5, 4)),
    ("[3] -> [1] -> [2] -> [5] -> [4]", "repaired", (3, 1, 2, 5, 4)),
    ("[3] \u2192 [1] \u2192 [2]", "repaired", (3, 1, 2)),
    ("\uff3b\uff13\uff3d \uff1e \uff3b\uff11\uff3d", "repaired", (3, 1)),
    ("\u2462 > \u2460 > \u2461", "repaired", (3, 1, 2)),
    ("3 > 1 > 2", "repaired", (3, 1, 2)),
    ("[3], [1], [2]", "repaired", (3, 1, 2)),
    ("1. [3]\n2. [1]\n3. [2]", "repaired", (3, 1, 2)),
    ("[3] >\n[1] >\n[2]", "repaired", (3, 1, 2)),
    ("[Passage 3] > [Passage 1]", "repaired", (3, 1)),
    ("Ranking: [3] > [1] > [2]", "repaired", (3, 1, 2)),
    ("[3] > [1] > [2]. Passage [2] only names the place.", "repaired", (3, 1, 2)),
    ("[3] > [1] > [3]", "repaired", (3, 1)),
    ("[3] > [1] > [9]", "out_of_range", ()),
    ("[0] > [1]", "out_of_range", ()),
    ("[3] > [1] < [2] > [4]", "unparseable", ()),
    ("[3] < [1] < [2]", "unparseable", ()),
    ("[3] >= [1] > [2]", "unparseable", ()),
    ("[3] = [1] > [2]", "unparseable", ()),
    ("[1, 2] > [3]", "unparseable", ()),
    ("[1-5]", "unparseable", ()),
    ("[3] > [1] >", "unparseable", ()),
    ("[3] > ... > [1]", "unparseable", ()),
    ("[3] > [1]. No: [1] > [3]", "unparseable", ()),
    ("From least to most useful: [3] > [1] > [2]", "unparseable", ()),
    ("None", "unparseable", ()),
    ("[1] Tides rise.\n[2] Glaciers carve valleys.", "unparseable", ()),
    ("", "unparseable", ()),
    ("<think>[3] > [1]", "unparseable", ()),
    ("I can't help with that.", "refused", ()),
)


@pytest.mark.parametrize(("completion", "outcome", "identifiers"), SELECTIONS)
def test_a_selection_is_read_as_decided(completion: str, outcome: str, identifiers: tuple[int, ...]) -> None:
    parsed = parse_selection(completion, num_passages=_NUM_PASSAGES, finish_reason="stop")
    # "repaired empty" in the table: an empty selection, said otherwise than asked; its detail names how.
    said_otherwise = parsed.outcome == "ok_empty" and parsed.detail != ""
    assert ("repaired empty" if said_otherwise else parsed.outcome, parsed.identifiers) == (outcome, identifiers), (
        parsed.detail
    )


@pytest.mark.parametrize(("completion", "outcome", "identifiers"), RANKINGS)
def test_a_ranking_is_read_as_decided(completion: str, outcome: str, identifiers: tuple[int, ...]) -> None:
    parsed = parse_ranking(completion, num_passages=_NUM_PASSAGES, finish_reason="stop")
    assert (parsed.outcome, parsed.identifiers) == (outcome, identifiers), parsed.detail


@pytest.mark.parametrize("completion", ["[2], [5]", "[2], [", "None", "<think>[1]", "I can't help with that.", ""])
def test_what_was_cut_at_max_tokens_is_truncated_even_where_it_looks_complete(completion: str) -> None:
    expected = Parsed("truncated", "cut at max_tokens", ())
    assert parse_selection(completion, num_passages=_NUM_PASSAGES, finish_reason="length") == expected
    assert parse_ranking(completion, num_passages=_NUM_PASSAGES, finish_reason="length") == expected


def test_a_content_filter_is_a_refusal_and_an_abort_is_a_cut() -> None:
    assert parse_selection("[2]", num_passages=_NUM_PASSAGES, finish_reason="content_filter").outcome == "refused"
    assert parse_selection("[2]", num_passages=_NUM_PASSAGES, finish_reason="abort").outcome == "truncated"


def test_every_repair_is_named() -> None:
    parsed = parse_selection("**Passage** [\uff11-2], [2]", num_passages=_NUM_PASSAGES, finish_reason="stop")
    assert parsed == Parsed("repaired", "characters, markup, form, range, duplicates", (1, 2))
    parsed = parse_ranking("[3] > [3]", num_passages=_NUM_PASSAGES, finish_reason="stop")
    assert parsed == Parsed("repaired", "duplicates, partial", (3,))


def test_a_failure_says_why() -> None:
    parsed = parse_selection("[0], [2], [9]", num_passages=_NUM_PASSAGES, finish_reason="stop")
    assert parsed == Parsed("out_of_range", "[0], [9] of 5 passages", ())
    parsed = parse_selection("<think>[1]", num_passages=_NUM_PASSAGES, finish_reason="stop")
    assert parsed == Parsed("unparseable", "nothing but thought", ())


def test_strip_thinking_keeps_what_follows_the_last_thought() -> None:
    assert strip_thinking("<think>x</think> Because the moon pulls.") == " Because the moon pulls."
    assert strip_thinking("Because the moon pulls.") == "Because the moon pulls."
    assert strip_thinking("<think>the moon") == ""


# Pieces that completions are made of, so that random text comes close to lists; beside them, any characters at all.
_CHARACTERS = "[](){}<>,.;:-=0123456789 \n\t\"'*`#\u00b2\u2461\uff13\u0665\u00bd\u2469\u3010\u3011\u200b\ud800"
_WORDS = (
    "[1]",
    "[2], [5]",
    "None",
    "<think>",
    "</think>",
    "[1-3]",
    " > ",
    "Passage ",
    "Answer: ",
    "not ",
    "relevant ",
    "I can't help",
)
_PIECES = (*_CHARACTERS, *_WORDS, "<|im_end|>", "[0]", "[99]", "```", "\\boxed{", "}", "- ", "1. ", "are useful.")
_FINISH_REASONS: tuple[FinishReason, ...] = ("stop", "stop", "stop", "length", "abort", "content_filter")


def _check_promises(completion: str, num_passages: int, finish_reason: FinishReason) -> None:
    for parse in (parse_selection, parse_ranking):
        parsed = parse(completion, num_passages=num_passages, finish_reason=finish_reason)
        assert len(set(parsed.identifiers)) == len(parsed.identifiers)
        assert all(1 <= identifier <= num_passages for identifier in parsed.identifiers)
        assert bool(parsed.identifiers) == (parsed.outcome in ("ok", "repaired"))
        assert parsed.outcome == "ok_empty" or bool(parsed.detail) == (parsed.outcome != "ok")
        assert finish_reason == "stop" or not parsed.identifiers


@settings(max_examples=1000, deadline=None)
@given(
    completion=st.one_of(st.text(max_size=80), st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)),
    num_passages=st.integers(1, 31),
    finish_reason=st.sampled_from(_FINISH_REASONS),
)
def test_no_text_gives_an_invalid_identifier_or_an_exception(
    completion: str, num_passages: int, finish_reason: FinishReason
) -> None:
    _check_promises(completion, num_passages, finish_reason)


def test_nor_do_ten_thousand_texts_made_of_the_pieces_of_completions() -> None:
    # Beside hypothesis, which spends 3 ms on making a text, and this 0.02 ms.
    source = random.Random(7)
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        completion = "".join(source.choices(_PIECES, k=source.randrange(12)))
        finish_reason = source.choice(_FINISH_REASONS)
        _check_promises(completion, source.randrange(1, 32), finish_reason)
        outcomes[parse_selection(completion, num_passages=5, finish_reason=finish_reason).outcome] += 1
    assert outcomes.total() == 10_000
    assert set(outcomes) == {"ok", "ok_empty", "repaired", "truncated", "refused", "out_of_range", "unparseable"}


@settings(max_examples=500, deadline=None)
@given(thought=st.text(max_size=40).filter(lambda text: "<" not in text), identifiers=st.permutations(range(1, 6)))
def test_no_thought_changes_the_answer(thought: str, identifiers: list[int]) -> None:
    answer = " > ".join(f"[{identifier}]" for identifier in identifiers)
    parsed = parse_ranking(f"<think>{thought} [9], [1]</think>\n{answer}", num_passages=5, finish_reason="stop")
    assert parsed == Parsed("ok", "", tuple(identifiers))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "[1], " * 5_000,
        "[1" * 10_000,
        "<think" * 5_000,
        "[" + " " * 20_000 + "[",
        "1" * 20_000,
        "- [" * 7_000,
        "a: " * 7_000,
        "\u00b2 " * 5_000,
    ],
)
def test_long_nonsense_is_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    parse_selection(text, num_passages=5, finish_reason="stop")
    parse_ranking(text, num_passages=5, finish_reason="stop")
    # 0.1 s here; reading that goes back over 20,000 characters for each of them takes minutes.
    assert time.process_time() - start < 5.0
