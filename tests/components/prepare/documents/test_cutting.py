"""Passages are cut by structure first, then by size; every part of a text is in a passage, and offsets lead back."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.prepare.documents.cutting import CutPassage, cut
from components.prepare.documents.formats.blocks import Block
from components.prepare.documents.formats.plain import read_plain
from components.prepare.documents.measure import count_tokens, token_spans
from tests.components.prepare.documents.folders import prepared


def cut_text(text: str, max_tokens: int, overlap_tokens: int) -> list[CutPassage]:
    return list(cut(read_plain([text]), max_tokens=max_tokens, overlap_tokens=overlap_tokens))


def letters(first: str, last: str) -> str:
    """Words of one letter, each of one token."""
    return " ".join(chr(code) for code in range(ord(first), ord(last) + 1))


@pytest.mark.parametrize(
    ("text", "num_tokens"),
    [
        ("The moon pulls.", 4),  # three words of up to six letters, one mark
        ("installation", 2),  # twelve letters
        ("a/b.txt 12345", 7),  # a, /, b, ., txt, and five digits are two
        ("\u6f6e\u6c50\u3002", 3),  # two characters of Han and a mark
        ("\u0e19\u0e49\u0e33", 2),  # Thai: a consonant with its tone, and a vowel that is a letter
        ("Gr\u00f6\u00dfe", 1),
        (" \n", 0),
    ],
)
def test_tokens_are_letters_in_sixes_digits_in_threes_and_marks(text: str, num_tokens: int) -> None:
    assert count_tokens(text) == num_tokens
    assert sum(tokens for _, _, tokens in token_spans(text)) == num_tokens


def test_paragraphs_that_fit_are_packed_and_never_cut() -> None:
    # 6 + 5 tokens fit into 12, 6 + 5 + 7 do not.
    text = f"{letters('a', 'f')}\n\n{letters('g', 'k')}\n\n{letters('l', 'r')}"
    passages = cut_text(text, 12, 0)
    assert [p.text for p in passages] == [f"{letters('a', 'f')}\n\n{letters('g', 'k')}", letters("l", "r")]
    assert [text[p.start : p.end] for p in passages] == [p.text for p in passages]


def test_a_long_paragraph_is_cut_at_sentence_ends() -> None:
    # Four sentences of 5 words and a mark.
    text = f"A {letters('b', 'e')}. F {letters('g', 'j')}! K {letters('l', 'o')}? P {letters('q', 't')}."
    assert [p.text for p in cut_text(text, 12, 0)] == [
        f"A {letters('b', 'e')}. F {letters('g', 'j')}!",
        f"K {letters('l', 'o')}? P {letters('q', 't')}.",
    ]


def test_a_passage_begins_with_the_last_sentence_of_the_one_before_where_it_fits_into_the_overlap() -> None:
    text = f"A {letters('b', 'e')}. F g h. I {letters('j', 'm')}."
    # 6 + 4 tokens, then 4 (of at most 5) again and 6.
    passages = cut_text(text, 11, 5)
    assert [p.text for p in passages] == [f"A {letters('b', 'e')}. F g h.", f"F g h. I {letters('j', 'm')}."]
    assert [text[p.start : p.end] for p in passages] == [p.text for p in passages]


def test_where_no_sentence_begins_the_last_words_are_repeated() -> None:
    text = f"{letters('a', 'j')}\n\n{letters('k', 'p')}"
    assert [p.text for p in cut_text(text, 10, 3)] == [letters("a", "j"), f"h i j\n\n{letters('k', 'p')}"]


def test_the_overlap_gives_way_where_a_paragraph_needs_the_room() -> None:
    text = f"{letters('a', 'j')}\n\n{letters('k', 's')}"
    assert [p.text for p in cut_text(text, 10, 3)] == [letters("a", "j"), f"j\n\n{letters('k', 's')}"]


def test_code_that_fits_is_never_cut_and_never_repeated() -> None:
    code = Block("if a:\n    b = 1\n    c = 2", 0, 24, kind="code")
    prose = Block(letters("a", "f"), 30, 50)
    passages = list(cut([prose, code, prose], max_tokens=10, overlap_tokens=4))
    # The code has 9 tokens, so 1 of the prose before it still fits; behind it nothing is repeated.
    assert [p.text for p in passages] == [letters("a", "f"), f"f\n\n{code.text}", letters("a", "f")]


def test_code_that_does_not_fit_is_cut_at_line_ends() -> None:
    lines = [f"x = {number}" for number in range(8)]
    code = Block("\n".join(lines), 0, 100, kind="code")
    passages = list(cut([code], max_tokens=12, overlap_tokens=0))
    assert [p.text for p in passages] == ["\n".join(lines[:4]), "\n".join(lines[4:])]


def test_a_passage_never_crosses_a_heading() -> None:
    text = "One\n===\n\nFirst.\n\nTwo\n===\n\nSecond.\n"
    assert [(p.headings, p.text) for p in cut_text(text, 100, 20)] == [(("One",), "First."), (("Two",), "Second.")]


@pytest.mark.parametrize(
    "sentence",
    [
        "潮汐是由月球的引力引起的。",
        "น้ำขึ้นน้ำลงเกิดจากแรงดึงดูดของดวงจันทร์ ",
        "潮の満ち引きは月の引力によって起こる。",
    ],
    ids=["Chinese", "Thai", "Japanese"],
)
def test_languages_without_spaces_are_cut_by_their_characters(sentence: str) -> None:
    text = sentence * 40
    passages = cut_text(text, 100, 20)
    assert len(passages) > 4
    assert all(60 <= count_tokens(p.text) <= 100 for p in passages[:-1])
    assert all(text[p.start : p.end] == p.text for p in passages)
    # Nothing is lost, and each begins inside of the one before.
    assert all(later.start < earlier.end for earlier, later in itertools.pairwise(passages))
    assert (passages[0].start, passages[-1].end) == (0, len(text.rstrip()))


@pytest.mark.parametrize("text", ["潮汐" * 50_000, "YWJj" * 25_000])
def test_a_text_without_any_white_space_is_cut_too(tmp_path: Path, text: str) -> None:
    result = prepared(tmp_path, {"a.txt": text}, duplicates="keep", cut_tokens=50, cut_overlap_tokens=0)
    assert max(map(count_tokens, result.texts)) <= 50
    assert "".join(result.texts) == text


WORDS = st.lists(
    st.sampled_from(
        ["the", "sea", "Moon", "rises.", "潮汐", "น้ำ", "x=1", "\n\n", "\n", "- item", "    code", "a" * 30]
    ),
    max_size=120,
)


@given(WORDS, st.integers(16, 40), st.integers(0, 8))
@settings(max_examples=150, deadline=None)
def test_no_word_is_lost_and_no_passage_too_large(words: list[str], max_tokens: int, overlap_tokens: int) -> None:
    text = " ".join(words)
    passages = cut_text(text, max_tokens, overlap_tokens)
    assert all(count_tokens(p.text) <= max_tokens for p in passages)
    assert all(text[p.start : p.end].split() == p.text.split() for p in passages)
    covered = {position for p in passages for position in range(p.start, p.end)}
    assert all(position in covered or text[position].isspace() for position in range(len(text)))
