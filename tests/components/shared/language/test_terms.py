"""Queries find their passages in every kind of writing, whatever the normal form, case or width of the letters."""

import tomllib
import unicodedata
from pathlib import Path

import pytest

from components.shared.bm25 import BM25
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.language.detection import detect_language, language_of_text
from components.shared.language.terms import Terms
from components.shared.records import Passage

COLLECTIONS: dict[str, list[tuple[str, str]]] = {
    code: [(line.partition(" | ")[0], line.partition(" | ")[2]) for line in table["lines"].strip().splitlines()]
    for code, table in tomllib.loads((Path(__file__).parent / "collections.toml").read_text("utf-8")).items()
}


def indexed(folder: Path, passages: list[str], *, language: str = "") -> BM25:
    writer = DatasetWriter(folder, language=language)
    for number, text in enumerate(passages):
        writer.add_passage(Passage(str(number), "", text))
    writer.finish([], [])
    return BM25(Dataset(folder))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("code", COLLECTIONS)
def test_every_query_finds_its_passage_first_and_the_language_is_detected(tmp_path: Path, code: str, form: str) -> None:
    rows = COLLECTIONS[code]
    bm25 = indexed(tmp_path, [unicodedata.normalize(form, passage) for passage, _ in rows])
    assert bm25.language == code
    for number, (_, query) in enumerate(rows):
        if query:
            (hits,) = bm25.search([query], 10)
            assert [hit.passage_id for hit in hits[:1]] == [str(number)], query
            assert len(hits) == 1 or hits[0].score > hits[1].score


@pytest.mark.parametrize("code", COLLECTIONS)
def test_the_passages_of_a_language_are_told_from_all_others(code: str) -> None:
    assert detect_language(passage for passage, _ in COLLECTIONS[code]).language == code


def test_the_language_of_one_text_is_told_rightly_or_not_at_all() -> None:
    told = {
        code: {language_of_text(text) for row in rows for text in row if text} for code, rows in COLLECTIONS.items()
    }
    assert {code: codes - {code, ""} for code, codes in told.items() if codes - {code, ""}} == {}
    # Bulgarian shares letters and words of grammar with its neighbours: one sentence is too little.
    assert {code for code, codes in told.items() if code not in codes} == {"bg"}
    assert language_of_text("XJ-4711 apple") == language_of_text("") == ""


def test_a_mixture_of_languages_is_other_and_says_its_shares() -> None:
    mixed = [passage for code in ("en", "de", "ru", "zh") for passage, _ in COLLECTIONS[code]]
    detected = detect_language(mixed)
    assert detected.language == "other"
    assert set(detected.shares) >= {"en", "de", "ru", "zh"}


def test_texts_in_no_listed_language_are_other() -> None:
    assert detect_language(["\u1202\u120e \u1208\u121d"]).language == "other"
    assert detect_language([]).language == "other"


def test_latin_words_without_grammar_are_read_as_english_and_without_shares() -> None:
    detected = detect_language(["XJ-4711 QRT-9", "red apple tree"])
    assert (detected.language, detected.shares) == ("en", {})


def test_a_mixture_is_searched_in_all_its_languages(tmp_path: Path) -> None:
    rows = [row for code in ("de", "zh", "ru") for row in COLLECTIONS[code]]
    bm25 = indexed(tmp_path, [passage for passage, _ in rows], language="other")
    is_found = [bool(bm25.search([query], 5)[0]) for _, query in rows if query]
    # Two German and two Russian words have other endings in their passages, which only a stemmer takes off.
    assert sum(is_found) / len(is_found) > 0.8


def test_the_language_of_the_dataset_is_that_of_its_index(tmp_path: Path) -> None:
    # Stemmed as German, "Häuser" is "haus"; as English it is not.
    assert indexed(tmp_path, ["das haus"], language="de").search(["Häuser"], 1) != [[]]
    (tmp_path / "en").mkdir()
    assert indexed(tmp_path / "en", ["das haus"], language="en").search(["Häuser"], 1) == [[]]


def test_stop_words_are_those_of_the_language() -> None:
    assert Terms("en").of(["the will to die"]) == [["die"]]
    assert Terms("de").of(["die und der Wille"]) == [["will"]]
    assert Terms("other").of(["the and die und"]) == [["the", "and", "die", "und"]]


def test_words_without_a_stemmer_are_their_first_five_letters_and_numbers_whole() -> None:
    assert Terms("sk").of(["knihovna knihovne x1234567"]) == [["kniho", "kniho", "x1234567"]]


def test_an_unknown_code_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"language 'xx': not a known code; write auto .* de .* other"):
        Terms("xx")
