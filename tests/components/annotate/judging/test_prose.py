"""Prose is never a selection, and what answers in many words is read all the same."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.annotate.judging.parsing import parse_ranking, parse_selection
from tests.components.annotate.judging.answer_completions import RANKED, SELECTED
from tests.components.annotate.judging.prose_completions import EXTRA_PROSE, PROSE, REVERSED

_READ = ("ok", "ok_empty", "repaired")


@pytest.mark.parametrize("completion", [*PROSE, *EXTRA_PROSE])
def test_prose_selects_nothing_and_ranks_nothing(completion: str) -> None:
    parsed = parse_selection(completion, num_passages=8, finish_reason="stop")
    assert parsed.outcome not in _READ, parsed
    parsed = parse_ranking(completion, num_passages=8, finish_reason="stop")
    assert parsed.outcome not in _READ, parsed


@pytest.mark.parametrize(("completion", "identifiers"), SELECTED)
def test_a_list_is_read_in_whatever_style_it_is_offered(completion: str, identifiers: tuple[int, ...]) -> None:
    parsed = parse_selection(completion, num_passages=8, finish_reason="stop")
    assert parsed.identifiers == identifiers, parsed


@pytest.mark.parametrize("completion", REVERSED)
def test_an_order_that_says_it_is_not_best_first_is_refused(completion: str) -> None:
    parsed = parse_ranking(completion, num_passages=8, finish_reason="stop")
    assert parsed.outcome not in _READ, parsed


@pytest.mark.parametrize(("completion", "identifiers"), RANKED)
def test_an_order_is_read_in_whatever_style_it_is_offered(completion: str, identifiers: tuple[int, ...]) -> None:
    parsed = parse_ranking(completion, num_passages=8, finish_reason="stop")
    assert parsed.identifiers == identifiers, parsed


_LEADS = (
    "Relevant passages",
    "The relevant passages are",
    "Final answer",
    "Here are the identifiers of the relevant passages",
    "The passages that are useful for answering the question are",
)
_OPPOSITES = ("not", "irrelevant", "unrelated", "duplicate", "other", "rejected", "less", "least", "partially", "wrong")
_identifiers = st.lists(st.integers(1, 8), min_size=1, max_size=8, unique=True)
_words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=9).map(lambda word: f"x{word}")


def _list(identifiers: list[int], separator: str = ", ") -> str:
    return separator.join(f"[{identifier}]" for identifier in identifiers)


@settings(max_examples=100, deadline=None)
@given(lead=st.sampled_from(_LEADS), identifiers=_identifiers, break_=st.sampled_from((" ", "\n", "\n\n")))
def test_what_an_offer_offers_is_read_whole_and_in_order(lead: str, identifiers: list[int], break_: str) -> None:
    completion = f"{lead}:{break_}{_list(identifiers)}"
    parsed = parse_selection(completion, num_passages=8, finish_reason="stop")
    assert parsed.identifiers == tuple(identifiers)


@settings(max_examples=100, deadline=None)
@given(
    lead=st.sampled_from(_LEADS),
    word=st.one_of(st.sampled_from(_OPPOSITES), _words),
    place=st.integers(0, 20),
    identifiers=_identifiers,
)
def test_a_lead_in_with_one_opposite_or_unknown_word_offers_nothing(
    lead: str, word: str, place: int, identifiers: list[int]
) -> None:
    words = lead.split()
    # Behind `for answering` stands the query's own matter, which may hold any word: so only before it.
    end = words.index("answering") if "answering" in words else len(words)
    words.insert(place % (end + 1), word)
    parsed = parse_selection(f"{' '.join(words)}: {_list(identifiers)}", num_passages=8, finish_reason="stop")
    assert parsed.outcome not in _READ, parsed


@settings(max_examples=100, deadline=None)
@given(
    before=st.lists(_words, min_size=1, max_size=6),
    after=st.lists(_words, min_size=1, max_size=6),
    identifiers=_identifiers,
    breaks=st.tuples(st.sampled_from((" ", "\n")), st.sampled_from((" ", "\n"))),
)
def test_identifiers_within_a_sentence_select_nothing_wherever_its_lines_break(
    before: list[str], after: list[str], identifiers: list[int], breaks: tuple[str, str]
) -> None:
    completion = f"{' '.join(before)}{breaks[0]}{_list(identifiers)}{breaks[1]}{' '.join(after)}."
    for parse in (parse_selection, parse_ranking):
        assert parse(completion, num_passages=8, finish_reason="stop").outcome not in _READ


@settings(max_examples=100, deadline=None)
@given(
    identifiers=st.lists(st.integers(1, 8), min_size=2, max_size=8, unique=True),
    direction=st.sampled_from(("lowest first", "least useful first", "ascending order", "reversed", "worst to best")),
    form=st.sampled_from(("{order} ({direction})", "{direction}: {order}", "{order}\n\nNote: {direction}.")),
)
def test_no_order_is_read_that_says_it_runs_the_other_way(identifiers: list[int], direction: str, form: str) -> None:
    completion = form.format(order=_list(identifiers, " > "), direction=direction)
    assert parse_ranking(completion, num_passages=8, finish_reason="stop").outcome not in _READ


@settings(max_examples=100, deadline=None)
@given(identifiers=_identifiers, taken=st.integers(0, 7))
def test_a_list_that_is_taken_back_afterwards_selects_nothing(identifiers: list[int], taken: int) -> None:
    mentioned = identifiers[taken % len(identifiers)]
    for remark in (
        f"Passage {mentioned} is not useful.",
        f"[{mentioned}] is off topic.",
        "All of these are irrelevant.",
    ):
        parsed = parse_selection(f"{_list(identifiers)}\n\n{remark}", num_passages=8, finish_reason="stop")
        assert parsed.outcome not in _READ, remark


@pytest.mark.parametrize(
    "text",
    [
        "relevant to the query " * 3_000 + ": [1]",
        "passages are\n" * 3_000 + "[1]",
        "- [1]: a reason, " * 3_000,
        "first a b c d e " * 3_000 + "[1] > [2]",
        "least a b c " * 3_000 + "[1] > [2]",
        '{"relevant": ' + "[" * 20_000,
        "'" * 20_000,
        "most to " * 3_000 + ": [1]",
        "# heading\n" * 3_000,
        "**bold** " * 3_000,
    ],
)
def test_long_prose_is_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    parse_selection(text, num_passages=5, finish_reason="stop")
    parse_ranking(text, num_passages=5, finish_reason="stop")
    assert time.process_time() - start < 3.0
