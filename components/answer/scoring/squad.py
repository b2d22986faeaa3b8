"""EM and F1 of an answer against several reference answers, as SQuAD defines them.

Source: Rajpurkar et al. 2016 and 2018 (arXiv 1606.05250, 1806.03822) with the official evaluation script of SQuAD 2.0:
lower case, ASCII punctuation and English articles removed, white space collapsed; the best of the references counts; a
reference that is nothing but these is none, and where all are, the right answer is the empty one.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """An answer as answers are compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 where the answer is one of the references, else 0."""
    said = normalise_answer(answer)
    return float(any(said == reference for reference in _comparable(references)))


def f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over words, of the reference that it is highest for."""
    said = normalise_answer(answer).split()
    return max(_overlap(said, reference.split()) for reference in _comparable(references))


def _comparable(references: Sequence[str]) -> list[str]:
    return [reference for reference in map(normalise_answer, references) if reference] or [""]


def _overlap(said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    num_common = sum((Counter(said) & Counter(wanted)).values())
    # 2PR / (P + R) with P = common / said and R = common / wanted.
    return 2 * num_common / (len(said) + len(wanted))
