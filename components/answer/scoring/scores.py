"""All measures of all answers, by the rules and libraries of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.answer.config import AnswerConfig
from components.answer.scoring.bertscore import bertscore, bertscore_signature
from components.answer.scoring.overlap import bleu_counts, bleu_signature, rouge_l, rouge_signature
from components.answer.scoring.squad import exact_match, f1, squad_signature
from components.answer.scoring.table import Scores
from components.answer.scoring.wording import Wording


def signatures(config: AnswerConfig, wording: Wording) -> dict[str, str]:
    """Measure -> what exactly it is of, in the order of the page; the last one is the corpus's."""
    stemmer = config.rouge_stemmer == "yes"
    named = {
        "EM": squad_signature(wording),
        "F1": squad_signature(wording),
        "ROUGE-L": rouge_signature(stemmer=stemmer, wording=wording),
    }
    if config.bertscore_uri:
        named["BERTScore"] = bertscore_signature(config.bertscore_uri, config.bertscore_layer)
    return {**named, "BLEU": bleu_signature(wording)}


def score(
    answers: Sequence[str], references: Sequence[Sequence[str]], config: AnswerConfig, wording: Wording
) -> Scores:
    """The scores of one system's answers, in points of 100; the columns are the measures of single answers."""
    columns = [
        [exact_match(answer, wanted, wording) for answer, wanted in zip(answers, references, strict=True)],
        [f1(answer, wanted, wording) for answer, wanted in zip(answers, references, strict=True)],
        rouge_l(answers, references, stemmer=config.rouge_stemmer == "yes", wording=wording),
    ]
    if config.bertscore_uri:
        columns.append(bertscore(answers, references, encoder_uri=config.bertscore_uri, layer=config.bertscore_layer))
    return Scores(100 * np.array(columns, dtype=np.float64).T, bleu_counts(answers, references, wording))
