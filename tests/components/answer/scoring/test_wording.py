"""Measures of answers in other languages than English: none scores 0 because its rules were made for another script."""

import pytest

from components.answer.scoring.overlap import bleu, bleu_counts, bleu_signature, rouge_l, rouge_signature
from components.answer.scoring.squad import exact_match, f1, squad_signature
from components.answer.scoring.wording import Wording


@pytest.mark.parametrize(
    ("language", "answer", "reference", "match", "overlap"),
    [
        # Full stop, quotes and full width of the script itself.
        ("zh", "\u5317\u4eac\u3002", "\u5317\u4eac", 1.0, 1.0),
        # Two characters of three and of two: 2 * 2 / (3 + 2).
        ("zh", "\u5317\u4eac\u5e02", "\u5317\u4eac", 0.0, 0.8),
        ("ja", "\u6771\u4eac\uff12\uff10\uff12\uff10", "\u6771\u4eac2020", 1.0, 1.0),
        ("th", "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e", "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e", 1.0, 1.0),
        ("de", "Der Eiffelturm", "Eiffelturm", 1.0, 1.0),
        ("de", "\u201eEiffelturm\u201c", "Eiffelturm", 1.0, 1.0),
        ("fr", "l\u2019\u00e9cole", "L'e\u0301cole", 1.0, 1.0),
        ("fr", "la tour", "une tour", 1.0, 1.0),
        # The a of Spanish is no article: 2 * 2 / (3 + 2).
        ("es", "a la derecha mucho", "a derecha", 0.0, 0.8),
        ("ru", "\u00ab\u041c\u043e\u0441\u043a\u0432\u0430\u00bb", "\u043c\u043e\u0441\u043a\u0432\u0430", 1.0, 1.0),
        ("tr", "ISPARTA", "\u0131sparta", 1.0, 1.0),
        ("ar", "\u0661\u0669\u0668\u0660\u061f", "1980", 1.0, 1.0),
        ("hi", "\u0926\u093f\u0932\u094d\u0932\u0940\u0964", "\u0926\u093f\u0932\u094d\u0932\u0940", 1.0, 1.0),
        ("other", "the model X-200", "model x200", 1.0, 1.0),
    ],
)
def test_equal_answers_match_by_the_rules_of_their_language(
    language: str, answer: str, reference: str, match: float, overlap: float
) -> None:
    wording = Wording(language)
    assert exact_match(answer, [reference], wording) == match
    assert f1(answer, [reference], wording) == pytest.approx(overlap)


@pytest.mark.parametrize("language", ["zh", "ja", "th", "ko", "ru", "hi", "ar", "el"])
def test_equal_texts_have_all_of_rouge_and_bleu_in_every_script(language: str) -> None:
    text = {
        "zh": "\u5317\u4eac\u662f\u4e2d\u534e\u4eba\u6c11\u5171\u548c\u56fd\u7684\u9996\u90fd",
        "ja": "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059",
        "th": "\u0e01\u0e23\u0e38\u0e07\u0e40\u0e17\u0e1e\u0e40\u0e1b\u0e47\u0e19\u0e40\u0e21\u0e37\u0e2d\u0e07",
        "ko": "\uc11c\uc6b8\uc740 \ub300\ud55c\ubbfc\uad6d\uc758 \uc218\ub3c4 \uc785\ub2c8\ub2e4",
        "ru": "\u0430\u0430 \u0431\u0431 \u0432\u0432 \u0433\u0433 \u0434\u0434",
        "hi": "\u0939\u0948 \u0915\u0940 \u092d\u093e\u0930\u0924 \u0939\u0948 \u0915\u0940",
        "ar": "\u0645\u0635\u0631 \u0639\u0627\u0635 \u0645\u0629 \u0645\u0635\u0631",
        "el": "\u0391\u03b8\u03ae\u03bd\u03b1 \u03b5\u03af\u03bd\u03b1\u03b9 \u03c0\u03cc\u03bb\u03b7 \u03b5\u03b4",
    }[language]
    wording = Wording(language)
    assert rouge_l([text], [[text]], stemmer=False, wording=wording) == [1.0]
    # A part of it is neither all nor nothing.
    assert 0.2 < rouge_l([text[: 2 * len(text) // 3]], [[text]], stemmer=False, wording=wording)[0] < 1
    assert bleu(bleu_counts([text], [[text]], wording).sum(axis=0)) == pytest.approx(100)


def test_the_signatures_say_whose_rules_they_are() -> None:
    english, chinese = Wording("en"), Wording("zh")
    assert squad_signature(english) == squad_signature(Wording(""))
    assert "words:zh" in squad_signature(chinese)
    assert "words:zh" in rouge_signature(stemmer=True, wording=chinese)
    assert "tok:zh" in bleu_signature(chinese)
    assert "tok:13a" in bleu_signature(english)
