"""Completion -> one query: the only place where an LLM's words become a query.

Pure and total: any text gives a `Reading`, never an exception. The prompts ask for the query and nothing else; what
models put around it all the same is taken off, and then the reading is called repaired: thoughts, imitated turns,
markdown, a lead-in (`Sure! Here is a question:`), a label (`Question:`), numbering, quotes, an object, and what follows
on later lines (an answer, a note, more queries; the first counts). Nothing is put together from pieces, and a reply
that declines or says nothing gives no query.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from components.ask.styles import Style
from components.shared.calls.replies import first_turn, is_refusal, strip_thinking
from components.shared.engines.engine import FinishReason

Outcome = Literal["ok", "repaired", "refused", "truncated", "unparseable"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a completion says; `query` is filled for ok and repaired only, `detail` names the repairs or the problem."""

    outcome: Outcome
    detail: str = ""
    query: str = ""


_KINDS = r"(?:search |user(?:'s)? |web |test |possible |example |generated |follow-?up |factual |short )*"
_THING = (
    r"(?:quer(?:y|ies)|questions?|keywords?|key words|search terms?|claims?|statements?|requests?|messages?|prompt)"
)
_LABEL = re.compile(
    rf"(?:the |my |your )?{_KINDS}(?:{_THING}|q)\s*(?:#?\d{{1,2}})?\s*(?:[:\uff1a]|\s-\s)\s*", re.IGNORECASE
)
_YES = r"(?:sure|certainly|of course|okay|ok|absolutely|great|yes)"
# A line that announces the query and holds none; what stands behind its colon is read on.
_LEAD_IN = re.compile(
    rf"(?:{_YES}\b[^:\n]*|(?:here(?:'s| is| are)|this is|below is)\b[^:\n]*"
    rf"|(?:based on|from|according to|given) (?:the|this|these) (?:passage|text|passages|information)\b[^:\n]*"
    rf"|(?:one|a|an) (?:possible |good |suitable )?{_THING}\b[^:\n]{{0,80}})[:\uff1a]\s*",
    re.IGNORECASE,
)
_PLEASANTRY = re.compile(rf"{_YES}(?: thing)?[!.,]+\s*", re.IGNORECASE)
_NUMBERING = re.compile(r"(?:\(?\d{1,2}[.):]|[-*+\u2022\u00b7])\s+")
_AROUND = ((_PLEASANTRY, "lead-in"), (_LEAD_IN, "lead-in"), (_NUMBERING, "numbering"), (_LABEL, "label"))
_MARKUP = re.compile(r"\*\*|__|`+|^#{1,6}\s+|^>\s+", re.MULTILINE)
_FENCE = re.compile(r"^```\w*\s*$", re.MULTILINE)
_NOTE = re.compile(r"\b(?:answer|explanation|note)\s*[:\uff1a]|\((?:note|this)\b", re.IGNORECASE)
_QUOTES = dict(zip("\"'\u201c\u2018\u00ab\u300c\u201e", "\"'\u201d\u2019\u00bb\u300d\u201c", strict=True))
_TAGS = re.compile(r"</?(?:query|question|answer|output|result|keywords|claim)>", re.IGNORECASE)
_MARKS = "?\uff1f\u061f"
_MARK = re.compile(f"[{_MARKS}]")
# What a placeholder of a form looks like.
_PLACEHOLDER = re.compile(
    r"[\[<{(]?\s*(?:insert|your|the) (?:query|question|claim|keywords?)(?: here)?\s*[\]>})]?\.*", re.IGNORECASE
)


def read_query(completion: str, style: Style, *, finish_reason: FinishReason) -> Reading:
    """The one query of a completion."""
    if finish_reason == "content_filter":
        return Reading("refused", "stopped by the server's content filter")
    answer = first_turn(strip_thinking(completion))
    if not answer:
        is_thought = bool(completion.strip())
        if is_thought and finish_reason == "length":
            return Reading("truncated", "cut at query_tokens in the middle of a thought")
        return Reading("unparseable", "nothing but thought" if is_thought else "empty")
    if is_refusal(_PLEASANTRY.sub("", answer, count=1)):
        return Reading("refused", "the model declines")
    line, repairs, is_last = _first_line(answer)
    query, cuts = _bare(line, style)
    if is_last and finish_reason == "length" and not (style.ends_at_mark and query.endswith(tuple(_MARKS))):
        return Reading("truncated", "cut at query_tokens")
    if not any(map(str.isalpha, query)):
        return Reading("unparseable", "holds no query")
    if _PLACEHOLDER.fullmatch(query):
        return Reading("unparseable", "a placeholder")
    repairs += cuts
    return Reading("repaired" if repairs else "ok", ", ".join(repairs), query)


def _first_line(answer: str) -> tuple[str, list[str], bool]:
    """The line that holds the query, what was overlooked around it, and whether it is the last one."""
    repairs = []
    if (held := _in_object(answer)) is not None:
        return held, ["object"], False
    unmarked = _TAGS.sub(" ", _MARKUP.sub("", _FENCE.sub("", answer)))
    if unmarked.strip() != answer:
        repairs.append("markup")
    lines = [line.strip() for line in unmarked.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        rest = line
        for pattern, name in (
            (_PLEASANTRY, "lead-in"),
            (_LEAD_IN, "lead-in"),
            (_NUMBERING, "numbering"),
            (_LABEL, "label"),
        ):
            match = pattern.match(rest)
            if match:
                rest = rest[match.end() :].strip()
                repairs.append(name)
        if rest:
            is_last = number == len(lines) - 1
            return rest, repairs if is_last else [*repairs, "later lines"], is_last
    return "", repairs, True


def _in_object(answer: str) -> str | None:
    """The query in a JSON object with one text, or whose key says that it is the query."""
    text = _FENCE.sub("", answer).strip()
    if not text.startswith("{"):
        return None
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return None
    texts = {key: value for key, value in held.items() if isinstance(value, str)}
    named = [value for key, value in texts.items() if re.fullmatch(_THING, str(key).strip(), re.IGNORECASE)]
    if named:
        return str(named[0]).strip()
    return str(next(iter(texts.values()))).strip() if len(texts) == 1 else None


def _bare(line: str, style: Style) -> tuple[str, list[str]]:
    """The line without quotes and without what follows its question; and the names of what was cut."""
    repairs = []
    query = " ".join(line.split())
    if (inner := _unquoted(query)) != query:
        query = inner
        repairs.append("quotes")
    if note := _NOTE.search(query, 1):
        kept = query[: note.start()].rstrip(" ([-")
        if kept:
            query = kept
            repairs.append("note")
    if style.ends_at_mark and (mark := _MARK.search(query)) and query[mark.end() :].strip(" \"'\u201d)"):
        query = query[: mark.end()]
        repairs.append("behind the question")
    return _unquoted(query).strip(), repairs


def _unquoted(query: str) -> str:
    closing = _QUOTES.get(query[:1])
    if closing and query.rstrip(".,").endswith(closing) and len(query) > 2:
        inner = query.rstrip(".,")[1:-1]
        # A quotation inside that begins and ends the line by chance is left alone.
        return inner.strip() if closing not in inner.replace("'s", "") else query
    return query
