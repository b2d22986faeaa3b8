"""ROUGE-L and BLEU are those of their libraries, with any number of references."""

import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from components.answer.scoring.overlap import bleu, bleu_counts, bleu_signature, rouge_l, rouge_signature

_WORDS = ["the", "cat", "cats", "sat", "on", "a", "mat", "1984", "R\u00f6ntgen", "don't", ","]
_TEXT = st.lists(st.sampled_from(_WORDS), min_size=0, max_size=9).map(" ".join)
_PAIRS = st.lists(st.tuples(_TEXT, st.lists(_TEXT.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=12)


@given(_PAIRS)
def test_corpus_bleu_is_sacrebleus_with_as_many_references_as_a_query_has(pairs: list[tuple[str, list[str]]]) -> None:
    answers, references = [answer for answer, _ in pairs], [texts for _, texts in pairs]
    most = max(map(len, references))
    padded = [[texts[place] if place < len(texts) else None for texts in references] for place in range(most)]
    expected = sacrebleu.corpus_bleu(answers, padded).score  # type: ignore[arg-type]
    assert bleu(bleu_counts(answers, references).sum(axis=0)) == pytest.approx(expected, abs=1e-9)


def test_bleu_of_equal_texts_is_100_and_of_nothing_0() -> None:
    text = "the first nobel prize was awarded in 1901"
    assert bleu(bleu_counts([text], [[text]]).sum(axis=0)) == pytest.approx(100)
    assert bleu(bleu_counts([""], [[text]]).sum(axis=0)) == 0.0
    assert bleu(np.zeros(10)) == 0.0


@given(_PAIRS, st.booleans())
def test_rouge_l_is_that_of_rouge_score_for_the_best_reference(
    pairs: list[tuple[str, list[str]]], stemmer: bool
) -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=stemmer)
    expected = [max(scorer.score(text, answer)["rougeL"].fmeasure for text in texts) for answer, texts in pairs]
    values = rouge_l([answer for answer, _ in pairs], [texts for _, texts in pairs], stemmer=stemmer)
    assert values == pytest.approx(expected)


def test_the_stemmer_makes_a_difference_and_is_named() -> None:
    assert rouge_l(["cats"], [["cat"]], stemmer=False) == [0.0]
    assert rouge_l(["running cats"], [["running cat"]], stemmer=True) == [1.0]
    assert rouge_signature(stemmer=True) != rouge_signature(stemmer=False)


def test_the_signature_of_bleu_is_sacrebleus_own() -> None:
    signature = bleu_signature()
    assert "nrefs:var" in signature
    assert f"version:{sacrebleu.__version__}" in signature
    assert "smooth:exp" in signature
    assert "tok:13a" in signature


def test_the_order_of_the_answers_does_not_matter() -> None:
    generator = random.Random(0)
    answers = [" ".join(generator.choices(_WORDS, k=6)) for _ in range(20)]
    references = [[" ".join(generator.choices(_WORDS, k=6))] for _ in range(20)]
    counts = bleu_counts(answers, references)
    shuffled = counts[generator.sample(range(20), 20)]
    assert bleu(counts.sum(axis=0)) == bleu(shuffled.sum(axis=0))
