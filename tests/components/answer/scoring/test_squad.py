"""EM and F1 by hand, as the official script of SQuAD 2.0 gives them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.answer.scoring.squad import exact_match, f1
from components.answer.scoring.wording import Wording


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles", "beatles"),
        ("  A   cat and an apple, the end! ", "cat and apple end"),
        ("theatre", "theatre"),
        ("another", "another"),
        ("U.S.", "us"),
        ("don't", "dont"),
        ("well-known", "wellknown"),
        ("$1,000.50", "100050"),
        ("The", ""),
        ("?!", ""),
        ("Röntgen", "röntgen"),
        ("ÉCOLE", "école"),
        # Only ASCII punctuation goes.
        ("\u201cquoted\u201d", "\u201cquoted\u201d"),
        ("what\u2019s", "what\u2019s"),
        # White space of all kinds is one space.
        ("two\u00a0words\tand\nmore", "two words and more"),
        # An article between letters of other scripts stands at a border of words only where Unicode sees one.
        ("\u0430 a \u0431", "\u0430 \u0431"),
    ],
)
def test_an_answer_is_compared_in_lower_case_without_punctuation_and_articles(text: str, normal: str) -> None:
    assert Wording("en").normalise(text) == normal
    assert Wording("").normalise(text) == normal


@pytest.mark.parametrize(
    ("answer", "references", "match", "overlap"),
    [
        ("the Eiffel Tower", ["Eiffel Tower"], 1.0, 1.0),
        ("Eiffel Tower!", ["a tower", "The Eiffel Tower"], 1.0, 1.0),
        # One word of two and one of one: 2 * 1 / (2 + 1).
        ("big tower", ["tower"], 0.0, 2 / 3),
        # Words count as often as they stand in both: 2 * 1 / (2 + 1).
        ("tower tower", ["tower"], 0.0, 2 / 3),
        # The best reference counts: 2 * 2 / (3 + 2) and 2 * 1 / (3 + 4).
        ("in may 1984", ["may 1984", "during spring of 1984"], 0.0, 0.8),
        ("1985", ["1984"], 0.0, 0.0),
        ("yes", ["Yes."], 1.0, 1.0),
        ("no", ["yes"], 0.0, 0.0),
        ("no way", ["no"], 0.0, 2 / 3),
        # Nothing said, and nothing to be said.
        ("", ["1984"], 0.0, 0.0),
        ("1984", [""], 0.0, 0.0),
        ("", [""], 1.0, 1.0),
        ("the", ["a"], 1.0, 1.0),
        ("...", ["1984"], 0.0, 0.0),
        # A reference that is nothing but an article is none where there is another one.
        ("the", ["a", "1984"], 0.0, 0.0),
        ("Wilhelm Conrad R\u00f6ntgen", ["Wilhelm Conrad R\u00d6NTGEN"], 1.0, 1.0),
        ("Rontgen", ["R\u00f6ntgen"], 0.0, 0.0),
    ],
)
def test_exact_match_and_f1_by_hand(answer: str, references: list[str], match: float, overlap: float) -> None:
    assert exact_match(answer, references) == match
    assert f1(answer, references) == pytest.approx(overlap)


_TEXTS = st.lists(st.sampled_from(["a", "the", "cat", "dog", "cat.", "!", "1984"]), max_size=5).map(" ".join)


@given(_TEXTS, st.lists(_TEXTS, min_size=1, max_size=4))
def test_f1_is_1_exactly_where_the_words_match_and_never_below_the_exact_match(
    answer: str, references: list[str]
) -> None:
    assert 0.0 <= exact_match(answer, references) <= f1(answer, references) <= 1.0
    assert f1(answer, [answer]) == exact_match(answer, [answer]) == 1.0
    # More references never make an answer worse, unless the first ones were empty.
    if Wording("en").normalise(references[0]):
        assert f1(answer, references) >= f1(answer, references[:1])
