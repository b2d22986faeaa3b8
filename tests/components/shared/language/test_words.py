"""Words by Unicode's rules: normal forms, marks, scripts without spaces, and where a text is cut."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.language.words import first_words, normalise, words


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Red apples, x = 3, don't", "", ["red", "apples", "don"]),
        ("caf\u00e9 cafe\u0301", "", ["caf\u00e9", "caf\u00e9"]),
        ("STRASSE Stra\u00dfe", "", ["strasse", "strasse"]),
        ("\uff34\uff45\uff53\uff54 \ufb01ne", "", ["test", "fine"]),
        ("co\u00adop\u200bera\u2060te", "", ["coop", "erate"]),
        # Capital I: dotless in Turkish only.
        ("ISI \u0130ZM\u0130R", "tr", ["\u0131s\u0131", "izmir"]),
        ("ISI \u0130ZM\u0130R", "", ["isi", "izmir"]),
        # Devanagari keeps its vowel signs; the half nasal is the dot.
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "hi", ["\u0939\u093f\u0902\u0926\u0940"]),
        # Arabic without its vowel marks and tatweel, digits of any script as ours.
        ("\u0643\u0650\u062a\u064e\u0640\u0627\u0628 \u0661\u0669", "", ["\u0643\u062a\u0627\u0628", "19"]),
        ("\u0451\u043b\u043a\u0430", "ru", ["\u0435\u043b\u043a\u0430"]),
        # Characters and pairs; a kana alone only where nothing stands beside it.
        ("\u7eff\u8336", "", ["\u7eff", "\u8336", "\u7eff\u8336"]),
        ("DNA\u691c\u67fb", "", ["dna", "\u691c", "\u67fb", "\u691c\u67fb"]),
        ("\u98df\u3079", "", ["\u98df", "\u98df\u3079"]),
        ("\u3079", "", ["\u3079"]),
        # Thai: vowels and tone marks stay with their consonant (water, and a ghost).
        ("\u0e19\u0e49\u0e33", "", ["\u0e19\u0e49\u0e4d\u0e32"]),
        ("\u0e1c\u0e35", "", ["\u0e1c\u0e35"]),
        ("\u0e40\u0e01\u0e25", "", ["\u0e40\u0e01", "\u0e25", "\u0e40\u0e01\u0e25"]),
        ("\ubb3c\uc740", "", ["\ubb3c", "\uc740", "\ubb3c\uc740"]),
        ("", "", []),
        ("\u3002!?", "", []),
    ],
)
def test_the_words_of_a_text(text: str, language: str, expected: list[str]) -> None:
    found = words(text, language=language)
    # What NFKC makes of the sara am of the Thai word for water has its tone mark behind.
    assert [unicodedata.normalize("NFKC", word) for word in found] == [
        unicodedata.normalize("NFKC", word) for word in expected
    ]


@given(st.text())
def test_normal_forms_of_a_text_have_the_same_words(text: str) -> None:
    forms = {form: words(unicodedata.normalize(form, text)) for form in ("NFC", "NFD")}
    assert forms["NFC"] == forms["NFD"]


@given(st.text())
def test_a_normalised_text_stays_as_it_is(text: str) -> None:
    assert words(normalise(text)) == words(text)


@given(st.text(st.characters(max_codepoint=0x2FF)), st.integers(1, 20))
def test_words_between_spaces_are_cut_as_split_gives_them(text: str, num_words: int) -> None:
    assert first_words(text, num_words) == " ".join(text.split()[:num_words])


@pytest.mark.parametrize(
    ("num_words", "expected"),
    [
        (1, "\u6ce1\u7eff"),
        (3, "\u6ce1\u7eff\u8336\u7684\u6c34\u6e29,"),
        (4, "\u6ce1\u7eff\u8336\u7684\u6c34\u6e29, green"),
        (5, "\u6ce1\u7eff\u8336\u7684\u6c34\u6e29, green tea"),
        (99, "\u6ce1\u7eff\u8336\u7684\u6c34\u6e29, green tea\u8336\u3002"),
    ],
)
def test_two_characters_without_spaces_count_as_a_word(num_words: int, expected: str) -> None:
    assert first_words("\u6ce1\u7eff\u8336\u7684\u6c34\u6e29, green  tea\u8336\u3002", num_words) == expected


def test_a_long_text_without_spaces_is_cut() -> None:
    assert len(first_words("\u8336" * 10_000, 100)) == 200
    thai = "\u0e19\u0e49\u0e33" * 1_000
    assert first_words(thai, 10) == "\u0e19\u0e49\u0e33" * 20


def test_korean_is_cut_between_its_spaces() -> None:
    assert first_words("\ubb3c\uc740 \ub053\ub294\ub2e4 \uc628\ub3c4", 2) == "\ubb3c\uc740 \ub053\ub294\ub2e4"
