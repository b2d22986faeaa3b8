"""EM and F1 of an answer against several reference answers, as SQuAD defines them.

Source: Rajpurkar et al. 2016 and 2018 (arXiv 1606.05250, 1806.03822) with the official evaluation script of SQuAD 2.0:
answers are compared as wording.py normalises them; the best of the references counts; a reference of which nothing is
left is none, and where all are, the right answer is the empty one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from components.answer.scoring.wording import ENGLISH, Wording

_ENGLISH = Wording(ENGLISH)


def squad_signature(wording: Wording) -> str:
    """What an EM or F1 is of."""
    return "SQuAD 2.0|best reference" if wording.is_official else f"SQuAD 2.0|words:{wording.language}|best reference"


def exact_match(answer: str, references: Sequence[str], wording: Wording = _ENGLISH) -> float:
    """1 where the answer is one of the references, else 0."""
    said = wording.normalise(answer)
    return float(any(said == reference for reference in _comparable(references, wording)))


def f1(answer: str, references: Sequence[str], wording: Wording = _ENGLISH) -> float:
    """Harmonic mean of precision and recall over words, of the reference that it is highest for."""
    said = wording.words(wording.normalise(answer))
    return max(_overlap(said, wording.words(reference)) for reference in _comparable(references, wording))


def _comparable(references: Sequence[str], wording: Wording) -> list[str]:
    return [reference for reference in map(wording.normalise, references) if reference] or [""]


def _overlap(said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    num_common = sum((Counter(said) & Counter(wanted)).values())
    # 2PR / (P + R) with P = common / said and R = common / wanted.
    return 2 * num_common / (len(said) + len(wanted))
