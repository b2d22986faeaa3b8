"""Completion -> answer: the only place where an LLM's words become an answer.

Pure and total: any text gives a `Reading`, never an exception. What models put around a short answer all the same is
taken off, and then the reading is called repaired: thoughts, imitated turns, a label (`Answer:`), markdown, quotes, and
what follows on later lines. An answer that was cut at its length is what was written up to there. A reply that declines
or says nothing is no answer: it counts as an empty one, which is wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from components.shared.calls.replies import first_turn, is_refusal, strip_thinking
from components.shared.engines.engine import FinishReason

Outcome = Literal["ok", "repaired", "truncated", "refused", "empty"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "repaired", "truncated", "refused", "empty")

_LABEL = re.compile(r"(?:the |my |a )?(?:short |final )?answer(?: is)?\s*[:\uff1a]\s*", re.IGNORECASE)
_MARKUP = re.compile(r"\*\*|__|`+|^#{1,6}\s+|^>\s+|^[-*]\s+")
_QUOTES = dict(zip("\"'\u201c\u2018\u00ab\u300c\u201e", "\"'\u201d\u2019\u00bb\u300d\u201c", strict=True))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a completion says; `answer` is empty where it is refused or empty."""

    outcome: Outcome
    answer: str = ""


def read_answer(completion: str, *, finish_reason: FinishReason) -> Reading:
    """The one answer of a completion."""
    if finish_reason == "content_filter":
        return Reading("refused")
    said = first_turn(strip_thinking(completion))
    if is_refusal(said):
        return Reading("refused")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if lines and _LABEL.fullmatch(lines[0]):
        # The label on a line of its own.
        lines = lines[1:]
    answer = _bare(lines[0]) if lines else ""
    if not answer:
        return Reading("empty")
    # A cut that comes after the first line takes nothing from the answer.
    if finish_reason == "length" and len(lines) == 1:
        return Reading("truncated", answer)
    return Reading("ok" if answer == completion.strip() else "repaired", answer)


def _bare(line: str) -> str:
    bare = _LABEL.sub("", _MARKUP.sub("", line).strip(), count=1) if _LABEL.match(_MARKUP.sub("", line)) else line
    bare = _MARKUP.sub("", bare).strip()
    if len(bare) > 1 and _QUOTES.get(bare[0]) == bare[-1]:
        bare = bare[1:-1].strip()
    return bare
