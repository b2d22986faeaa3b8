"""Completion -> identifiers: the only place where an LLM's words become labels.

Pure and total: any text gives a `Parsed`, never an exception. An identifier is the number a prompt gave to a passage,
counted from 1. The rule behind every decision: a completion that a person would have to interpret is not interpreted.
It becomes a counted failure, which the caller may try again; what is repaired says how; nothing is filled up, and no
order or label is assumed.

The prompts ask for `[2], [5]` or `None` (selection) and for `[3] > [1] > [2]` (ranking). Decisions beyond that form:

- Thinking yields nothing: the answer is what follows the last end of a thought; a thought without an end has no answer.
- Cut at max_tokens is `truncated` even where a list stands: nobody knows whether it was complete.
- One identifier outside 1..num_passages (0 too) spoils the whole list: the model counted otherwise than the prompt.
- `[1-3]` is 1, 2, 3 in a selection; it ranks nothing in a ranking. `[1]-[3]` and `[1], ..., [3]` are anybody's guess:
  unparseable.
- An imitated next turn (`<|im_end|>` and on) is cut off; the list before it is whole.
- Repeated identifiers keep their first place. A ranking may be partial; who is missing stays missing.
- `[2, 5]`, `2, 5`, `(2)`, `Passage 2`, bullets, markdown, full-width, circled and superscript digits are read and
  called repaired; numbers without brackets only where they are the whole answer. `1` beside a superscript
  (`[1<sup>2</sup>]` in Unicode) is not 12.
- Prose is never a selection. A list counts where it is the whole answer, where it has a statement to itself behind a
  lead-in that ends in a colon or in `are` or `is` and that offers it (`The relevant passages are [2] and [5]`), or
  where the whole answer is `[2] and [5] are relevant`. A lead-in with a word that is not known here offers nothing
  (reading/wording.py), so neither `Off topic: [1]` nor `[5] is a duplicate` nor a copied passage selects anything.
- Everything offered must be the same list, and what is said after it must not take it back.
- A bullet list of identifiers with reasons (`- [2]: names the cause`) is a list where every item has that form, no
  reason says that its passage is not wanted, and the lead-in, if any, offers it. Without a lead-in it must not count up
  from [1]: then the model comments on what it was shown. A table is no list.
- A ranking that anything in the answer calls reversed, ascending or least useful first is refused, and so is a numbered
  list that counts down.
- `None` must be said; an empty completion is unparseable. `None` is no ranking.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from components.annotate.judging.reading import wording
from components.annotate.judging.reading.statements import Statement, split_statements
from components.annotate.judging.reading.surface import plain
from components.shared.calls.replies import first_turn, is_refusal, strip_thinking
from components.shared.engines.engine import FinishReason

Outcome = Literal["ok", "ok_empty", "repaired", "truncated", "refused", "out_of_range", "unparseable"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a completion says; `identifiers` (1-based, unique, in the order given) are filled for ok and repaired only.

    `detail` names the repairs, or what was wrong.
    """

    outcome: Outcome
    detail: str
    identifiers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Listed:
    """A list in an answer: numbers as written (a range is two), and what had to be overlooked to read it."""

    numbers: tuple[tuple[str, ...], ...]
    repairs: tuple[str, ...]


_LABEL = r"(?:(?:passages?|documents?|docs?|texts?|identifiers?|ids?|numbers?|nos?\.?|#)\s*[:#]?\s*)"
_NUMBER = rf"{_LABEL}?[\"']?-?[0-9]+[\"']?"
_RANGE = r"\s*(?:-|to|through|\.\.+|~)\s*"
_ITEM = rf"{_NUMBER}(?:{_RANGE}[0-9]+)?"
_GROUP = rf"{_LABEL}?\[\s*{_ITEM}(?:\s*[,;]\s*{_ITEM})*\s*,?\s*\]"
_BETWEEN = r"\s*(?:,\s*and\b|,\s*&|[,;&]|\band\b)?\s*"
_LIST = re.compile(rf"{_GROUP}(?:{_BETWEEN}{_GROUP})*", re.IGNORECASE)
_ONE = rf"{_LABEL}?\[\s*{_NUMBER}\s*\]"
_RANKING = re.compile(rf"{_ONE}(?:\s*-{{0,2}}>+\s*{_ONE})+", re.IGNORECASE)
_TURNS_ROUND = re.compile(r"\]\s*(?:[<=]|>+\s*=)")
_BARE = rf"{_LABEL}?[({{]?-?[0-9]+[)}}]?"
_BARE_LIST = re.compile(rf"{_BARE}(?:\s*(?:,\s*and\b|[,;&\n]|\band\b)\s*{_BARE})*\s*[.,]?", re.IGNORECASE)
_BARE_RANKING = re.compile(rf"{_BARE}(?:\s*>+\s*{_BARE})+\s*\.?", re.IGNORECASE)
_BULLET = re.compile(rf"^[ \t]*(?:[-+\u2022\u00b7]|[0-9]{{1,3}}[.)])[ \t]+(?={_LABEL}?\[)", re.I | re.MULTILINE)

_STRICT_LIST = re.compile(r"\[[1-9][0-9]*\](?:\s*,\s*\[[1-9][0-9]*\])*\.?")
_STRICT_RANKING = re.compile(r"\[[1-9][0-9]*\](?:\s*>\s*\[[1-9][0-9]*\])*\.?")
_STRICT_NONE = re.compile(r"none\.?", re.IGNORECASE)
_NONE = re.compile(
    rf"[\[({{]?\s*(?:none|n/a|nil|empty|{wording.FOREIGN_NONE}"
    r"|no (?:relevant |useful |helpful )?(?:passages?|documents?|identifiers?)(?: found| selected)?"
    r"|there (?:is|are) no (?:relevant|useful|helpful) (?:passages?|documents?)"
    r"|none of (?:the |these |them)?(?:\w+ )?(?:passages|documents)?(?: (?:is|are) (?:relevant|useful|helpful))"
    r"|no (?:passages?|documents?) (?:is|are) (?:relevant|useful|helpful))"
    r"(?: (?:to|for) (?:the|this|your) (?:query|question|search))?\s*[\])}]?\.?|\[\s*\]\.?|\(\s*\)|\{\s*\}",
    re.IGNORECASE,
)
# Before the first bracket of a statement: its lead-in, and a label such as `Passage` that belongs to the list.
_BEFORE = re.compile(
    rf"(?:(?P<lead>.*(?::|{wording.COPULAS}))\s*)?"
    r"(?P<label>(?:only\s+)?(?:(?:the\s+)?(?:passages?|documents?|docs?|texts?|identifiers?|ids?|numbers?)\s*#?\s*)?)",
    re.IGNORECASE | re.DOTALL,
)
_VERDICT_AFTER = re.compile(
    r"(?:is|are)(?: (?:all|both|the|only|most|directly|highly|clearly|very|passages?|documents?|ones?))*"
    r" (?:relevant|useful|helpful)(?: (?:passages?|documents?|ones?))?"
    r"(?: (?:to|for|in)(?: answering)? (?:the|this|your|that) (?:given |user's )?(?:query|question|search))?[.!]?",
    re.IGNORECASE,
)
_ORDER = re.compile(r"\b(?:rank\w*|order\w*|sorted|most (?:useful|relevant|helpful))\b", re.IGNORECASE)
_REMARK = re.compile(r"\([^()\[\]0-9]*\)[.,;]?|,?\s*(?:because|since|as|which)\s[^\[\]0-9]*", re.IGNORECASE)
_ITEM_WITH_REASON = re.compile(
    rf"(?:[-+\u2022\u00b7]|(?P<number>[0-9]{{1,3}})[.)])[ \t]+{_LABEL}?\[\s*(?P<identifier>-?[0-9]+)\s*\]"
    r"\s*(?:[:,]|-{1,2}|\()\s*(?P<reason>[^\[\]]*)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"^[ \t]*([0-9]{1,3})[.)][ \t]+(?=\D{0,20}\[)", re.MULTILINE)


def parse_selection(completion: str, *, num_passages: int, finish_reason: FinishReason) -> Parsed:
    """Reads a relevance or utility selection; `ok_empty` where the model says that none is to be selected."""
    answer = _answer(completion, finish_reason)
    if isinstance(answer, Parsed):
        return answer
    if _STRICT_LIST.fullmatch(answer):
        return _checked(_Listed(_numbers(answer), ()), num_passages)
    if _STRICT_NONE.fullmatch(answer):
        return Parsed("ok_empty", "", ())
    text, repairs = plain(answer)
    listed = _find_selection(text)
    if isinstance(listed, str):
        return _failed(text, listed)
    if not listed.numbers:
        return Parsed("ok_empty", ", ".join((*repairs, *listed.repairs)), ())
    return _checked(_Listed(listed.numbers, (*repairs, *listed.repairs)), num_passages)


def parse_ranking(completion: str, *, num_passages: int, finish_reason: FinishReason) -> Parsed:
    """Reads a utility ranking, best first; a partial one is repaired(`partial`) and holds what the model ranked."""
    answer = _answer(completion, finish_reason)
    if isinstance(answer, Parsed):
        return answer
    if _STRICT_RANKING.fullmatch(answer):
        return _checked(_Listed(_numbers(answer), ()), num_passages, is_ranking=True)
    text, repairs = plain(answer)
    listed = _find_ranking(text)
    if isinstance(listed, str):
        return _failed(text, listed)
    return _checked(_Listed(listed.numbers, (*repairs, *listed.repairs)), num_passages, is_ranking=True)


def _answer(completion: str, finish_reason: FinishReason) -> str | Parsed:
    """The completion without thought and without imitated turns; Parsed where there is no answer to read."""
    if finish_reason == "content_filter":
        return Parsed("refused", "stopped by the server's content filter", ())
    if finish_reason != "stop":
        return Parsed("truncated", "cut at max_tokens" if finish_reason == "length" else "aborted", ())
    answer = strip_thinking(completion)
    if not answer.strip():
        return Parsed("unparseable", "nothing but thought" if completion.strip() else "empty", ())
    return first_turn(answer) or Parsed("unparseable", "empty", ())


def _find_selection(text: str) -> _Listed | str:
    if text.startswith("{"):
        return _find_in_object(text)
    bare, bulleted = _without_bullets(text)
    if _LIST.fullmatch(bare.rstrip(".,")):
        form = () if _STRICT_LIST.fullmatch(bare) else ("form",)
        return _Listed(_numbers(bare), (*bulleted, *form))
    if _BARE_LIST.fullmatch(bare):
        return _Listed(_numbers(bare), (*bulleted, "no brackets"))
    return _find_offered(text, _LIST)


def _find_ranking(text: str) -> _Listed | str:
    if _TURNS_ROUND.search(text):
        return "not one descending order"
    if wording.is_reversed(text) or _counts_otherwise(text):
        return "an order that is not best first"
    bare, bulleted = _without_bullets(text)
    if _RANKING.fullmatch(bare.rstrip(".")):
        form = () if _STRICT_RANKING.fullmatch(bare) else ("form",)
        return _Listed(_numbers(bare), (*bulleted, *form))
    if _LIST.fullmatch(bare.rstrip(".,")):
        numbers = _numbers(bare)
        is_order = all(len(number) == 1 for number in numbers)
        return _Listed(numbers, (*bulleted, "separators")) if is_order else "a range ranks nothing"
    if _BARE_RANKING.fullmatch(bare) or _BARE_LIST.fullmatch(bare):
        return _Listed(_numbers(bare), (*bulleted, "no brackets"))
    listed = _find_offered(text, _RANKING)
    if isinstance(listed, str) and _ORDER.search(text.split(":", 1)[0]):
        # `Ranking:`, and one identifier a line.
        listed = _find_offered(text, _LIST)
    if isinstance(listed, str):
        return listed
    is_order = bool(listed.numbers) and all(len(number) == 1 for number in listed.numbers)
    return listed if is_order else "no ranking"


def _without_bullets(text: str) -> tuple[str, tuple[str, ...]]:
    bare = _BULLET.sub("", text).strip()
    return bare, ("bullets",) * (bare != text)


def _counts_otherwise(text: str) -> bool:
    """Whether numbered lines do not count up from 1: a list that counts down has its best item last."""
    numbers = [int(match[1]) for match in _NUMBERED.finditer(text)]
    return bool(numbers) and numbers != list(range(1, len(numbers) + 1))


def _find_in_object(text: str) -> _Listed | str:
    """A JSON object with one list of identifiers whose key offers it; beside it only words, none of them a negation."""
    try:
        held = json.loads(text if text.endswith("}") else text + "}")
    except (ValueError, RecursionError):
        return "an object that is not JSON"
    lists = {key: value for key, value in held.items() if isinstance(value, list)}
    if len(lists) != 1 or not all(isinstance(value, str) for key, value in held.items() if key not in lists):
        return "not one list of identifiers"
    ((key, values),) = lists.items()
    if not wording.offers_list(f"{key}:"):
        return "a list after a negation or without a verdict"
    items = ", ".join(f"[{value}]" if isinstance(value, int) else str(value) for value in values)
    items = ", ".join(f"[{value}]" if re.fullmatch(r"\s*\d+\s*", value) else value for value in items.split(", "))
    if values and not _LIST.fullmatch(items):
        return "not one list of identifiers"
    numbers = _numbers(items)
    remarks = ". ".join(value for other, value in held.items() if other != key)
    if wording.contradicts(remarks, frozenset(_plain_identifiers(numbers))):
        return "a list that is taken back"
    return _Listed(numbers, ("object",))


def _find_offered(text: str, form: re.Pattern[str]) -> _Listed | str:
    """The one list that the answer's statements offer, in the given form or, for a ranking, as a plain list too."""
    statements = split_statements(text)
    if any(statement.text.count("|") > 1 for statement in statements):
        return "a table"
    offered = _offered(statements, form)
    if isinstance(offered, str):
        return offered
    if not offered:
        return _find_items(statements, is_ranking=form is _RANKING)
    if len({numbers for numbers, _ in offered}) > 1:
        return "several lists"
    numbers, last = offered[-1]
    after = "\n".join(statement.text for statement in statements[last + 1 :])
    identifiers = _plain_identifiers(numbers)
    if wording.contradicts(after, frozenset(identifiers)):
        return "a list that is taken back"
    if identifiers and form is _RANKING and wording.ranks_otherwise(after, first=identifiers[0], last=identifiers[-1]):
        return "an order that is not best first"
    return _Listed(numbers, ("prose",))


_Offered = list[tuple[tuple[tuple[str, ...], ...], int]]


def _offered(statements: list[Statement], form: re.Pattern[str]) -> _Offered | str:
    """Numbers of every list that is a statement, with the position of its last line; or why one of them is none."""
    offered: _Offered = []
    is_open = False
    for position, statement in enumerate(statements):
        lead, items = _split_lead(statement.without_bullet, form)
        if items is None:
            if statement.is_bulleted and position and position - 1 == (offered[-1][1] if offered else -1):
                return "a list with other items"
            is_open = False
            continue
        if is_open and not lead and offered:
            offered[-1] = (offered[-1][0] + _numbers(items), position)
            continue
        before = statements[position - 1].text if position else ""
        if lead or before.endswith(":"):
            if not wording.offers_list(lead or before):
                return "a list after a negation or without a verdict"
        elif before and not wording.is_pleasantry(before):
            return "a list behind prose"
        offered.append((_numbers(items), position))
        is_open = form is _LIST and bool(_numbers(items)) and not statement.ends_early
    return offered


def _split_lead(text: str, form: re.Pattern[str]) -> tuple[str, str | None]:
    """A statement's lead-in and its list or `None`; the list is None where the statement is prose."""
    if "[" not in text or _NONE.fullmatch(text):
        head, colon, rest = text.rpartition(":")
        return (head + colon, "") if _NONE.fullmatch(rest.strip()) else ("", None)
    before = _BEFORE.fullmatch(text[: text.index("[")])
    if before is None:
        return "", None
    lead, rest = (before["lead"] or "").strip(), text[text.index("[") :]
    if lead and _NONE.fullmatch(rest):
        return lead, ""
    match = form.match(rest)
    if match is None:
        return "", None
    after = rest[match.end() :].strip()
    if after.rstrip(".,;!") and not _confirms(after, has_lead=bool(lead)):
        return "", None
    return lead, match[0]


def _confirms(after: str, *, has_lead: bool) -> bool:
    if not has_lead and _VERDICT_AFTER.fullmatch(after):
        return True
    return _REMARK.fullmatch(after) is not None and wording.is_plain_remark(after)


def _find_items(statements: list[Statement], *, is_ranking: bool) -> _Listed | str:
    """A bullet list of identifiers, each with its reason."""
    matches = [_ITEM_WITH_REASON.fullmatch(statement.text) for statement in statements]
    positions = [position for position, match in enumerate(matches) if match]
    if not positions:
        return "no list" if not any("[" in statement.text for statement in statements) else "identifiers in prose"
    first, last = positions[0], positions[-1]
    items = [match for match in matches[first : last + 1] if match]
    if len(items) <= last - first or last + 1 < len(statements) or first > 1:
        return "identifiers in prose"
    if first and not (statements[0].text.endswith(":") and wording.offers_list(statements[0].text)):
        return "a list after a negation or without a verdict"
    reasons = [item["reason"] for item in items]
    identifiers = [int(item["identifier"][:9]) for item in items]
    if any(wording.is_denied(reason) for reason in reasons):
        return "a list with a reason against one of its passages"
    if is_ranking and (wording.reasons_turn_round(reasons) or not items[0]["number"]):
        return "an order that is not said to be one"
    if not first and identifiers[:2] in ([1], [1, 2]) and not is_ranking:
        return "a comment on each passage shown"
    return _Listed(tuple((item["identifier"],) for item in items), ("reasons",))


def _plain_identifiers(numbers: tuple[tuple[str, ...], ...]) -> list[int]:
    return [int(text[:9]) for item in numbers for text in item]


def _numbers(text: str) -> tuple[tuple[str, ...], ...]:
    """Each item's number as written, or the two ends of its range."""
    items = re.finditer(rf"(-?[0-9]+)[\"']?(?:{_RANGE}([0-9]+))?", text, re.IGNORECASE)
    return tuple((item[1], item[2]) if item[2] else (item[1],) for item in items)


def _checked(listed: _Listed, num_passages: int, *, is_ranking: bool = False) -> Parsed:
    """Every number within 1..num_passages, ranges spread out, repetitions dropped."""
    # A number of nine digits or more is beyond any pool, and int() refuses thousands of digits.
    outside = [text for item in listed.numbers for text in item if len(text) > 9 or not 1 <= int(text) <= num_passages]
    if outside:
        shown = ", ".join(f"[{text[:20]}]" for text in outside[:5])
        return Parsed("out_of_range", f"{shown} of {num_passages} passages", ())
    repairs = list(listed.repairs)
    identifiers: list[int] = []
    for item in listed.numbers:
        first, last = int(item[0]), int(item[-1])
        if first > last:
            return Parsed("unparseable", f"a range that runs backwards: [{first}-{last}]", ())
        identifiers += range(first, last + 1)
    unique = tuple(dict.fromkeys(identifiers))
    repairs += ["range"] * any(len(item) > 1 for item in listed.numbers)
    repairs += ["duplicates"] * (len(unique) < len(identifiers))
    repairs += ["partial"] * (is_ranking and len(unique) < num_passages)
    return Parsed("repaired" if repairs else "ok", ", ".join(repairs), unique)


def _failed(text: str, problem: str) -> Parsed:
    return Parsed("refused", "the model declines", ()) if is_refusal(text) else Parsed("unparseable", problem, ())
