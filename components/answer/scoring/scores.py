"""All measures of all answers, by the rules and libraries of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from components.answer.config import AnswerConfig
from components.answer.scoring.bertscore import bertscore, bertscore_signature
from components.answer.scoring.overlap import bleu_counts, bleu_signature, rouge_l, rouge_signature
from components.answer.scoring.squad import exact_match, f1
from components.answer.scoring.table import Scores

_SQUAD = "SQuAD 2.0|best reference"


def signatures(config: AnswerConfig) -> dict[str, str]:
    """Measure -> what exactly it is of, in the order of the page; the last one is the corpus's."""
    named = {"EM": _SQUAD, "F1": _SQUAD, "ROUGE-L": rouge_signature(stemmer=config.rouge_stemmer == "yes")}
    if config.bertscore_uri:
        named["BERTScore"] = bertscore_signature(config.bertscore_uri, config.bertscore_layer)
    return {**named, "BLEU": bleu_signature()}


def score(answers: Sequence[str], references: Sequence[Sequence[str]], config: AnswerConfig) -> Scores:
    """The scores of one system's answers, in points of 100; the columns are the measures of single answers."""
    columns = [
        [exact_match(answer, wanted) for answer, wanted in zip(answers, references, strict=True)],
        [f1(answer, wanted) for answer, wanted in zip(answers, references, strict=True)],
        rouge_l(answers, references, stemmer=config.rouge_stemmer == "yes"),
    ]
    if config.bertscore_uri:
        columns.append(bertscore(answers, references, encoder_uri=config.bertscore_uri, layer=config.bertscore_layer))
    return Scores(100 * np.array(columns, dtype=np.float64).T, bleu_counts(answers, references))
