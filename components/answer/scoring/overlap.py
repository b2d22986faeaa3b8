"""ROUGE-L by rouge-score and BLEU by sacrebleu, each with all reference answers of a query.

BLEU is of the corpus: counts of n-grams are added over all answers before anything is divided. So each answer gives ten
numbers (length, length of the nearest reference, matches and totals of four orders), and only their sums a score.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import metadata

import numpy as np
from jaxtyping import Float64
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from components.answer.scoring.wording import ENGLISH, Wording

Counts = Float64[np.ndarray, "answer count"]
NUM_COUNTS = 10
_ORDERS = 4
_ENGLISH = Wording(ENGLISH)


def rouge_l(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, stemmer: bool, wording: Wording = _ENGLISH
) -> list[float]:
    """F measure of the longest common subsequence of words, of the reference that it is highest for.

    In English the words are rouge-score's: letters and digits of ASCII, by their stems where asked.
    """
    scorer = RougeScorer(["rougeL"], use_stemmer=stemmer, tokenizer=None if wording.is_official else wording)
    pairs = zip(answers, references, strict=True)
    return [float(scorer.score_multi(list(wanted), answer)["rougeL"].fmeasure) for answer, wanted in pairs]


def rouge_signature(*, stemmer: bool, wording: Wording = _ENGLISH) -> str:
    """What a ROUGE-L is of; implementations differ by points."""
    version = metadata.version("rouge-score")
    words = f"stemmer:{'yes' if stemmer else 'no'}" if wording.is_official else f"words:{wording.language}"
    return f"rougeL|F measure|best reference|{words}|rouge-score:{version}"


def bleu_counts(answers: Sequence[str], references: Sequence[Sequence[str]], wording: Wording = _ENGLISH) -> Counts:
    """The ten numbers of each answer."""
    metric = _bleu(wording)
    rows = []
    for answer, wanted in zip(answers, references, strict=True):
        score = metric.sentence_score(answer, list(wanted))
        rows.append([score.sys_len, score.ref_len, *score.counts, *score.totals])
    return np.array(rows, dtype=np.float64).reshape(-1, NUM_COUNTS)


def bleu(sums: Float64[np.ndarray, " count"]) -> float:
    """BLEU-4 from 0 to 100 of added counts, with sacrebleu's default smoothing."""
    length, reference_length, *counts = (round(number) for number in sums)
    score = BLEU.compute_bleu(
        correct=counts[:_ORDERS],
        total=counts[_ORDERS:],
        sys_len=length,
        ref_len=reference_length,
        smooth_method=_bleu(_ENGLISH).smooth_method,
    )
    return float(score.score)


def bleu_signature(wording: Wording = _ENGLISH) -> str:
    """What a BLEU is of, in sacrebleu's own words."""
    metric = BLEU(tokenize=wording.bleu_tokenizer)
    # Before a first score sacrebleu does not know how many references there are.
    metric.corpus_score([""], [[""]])
    return str(metric.get_signature()).replace("nrefs:1", "nrefs:var")


@functools.cache
def _bleu(wording: Wording) -> BLEU:
    # Its sentence scores are never read, only their counts; without this it warns of each.
    return BLEU(effective_order=True, tokenize=wording.bleu_tokenizer)
