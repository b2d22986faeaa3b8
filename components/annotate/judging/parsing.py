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
called repaired;
  numbers without brackets only where they are the whole answer. `1` beside a superscript (`[1<sup>2</sup>]` in Unicode)
  is not 12.
- Prose around: a list alone on its line counts if it is the only such list and no negation leads to it; a list inside a
sentence
  counts only where that sentence gives a verdict ("the relevant passages are [2] and [5]"), without negation, and no
  other identifier is mentioned. So a model that goes on copying passages (`[1] Tides rise ...`) selects nothing.
- `None` must be said; an empty completion is unparseable. `None` is no ranking.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

from components.annotate.engines.engine import FinishReason

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
class _Found:
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
# Nothing that goes on comparing may follow: a chain that breaks off ranks nothing.
_RANKING = re.compile(rf"{_ONE}(?:\s*-{{0,2}}>+\s*{_ONE})+(?!\s*-*[<=>])", re.IGNORECASE)
_TURNS_ROUND = re.compile(r"\]\s*(?:[<=]|>+\s*=)")
_BARE = rf"{_LABEL}?[({{]?-?[0-9]+[)}}]?"
_BARE_LIST = re.compile(rf"{_BARE}(?:\s*(?:,\s*and\b|[,;&\n]|\band\b)\s*{_BARE})*\s*[.,]?", re.IGNORECASE)
_BARE_RANKING = re.compile(rf"{_BARE}(?:\s*>+\s*{_BARE})+\s*\.?", re.IGNORECASE)

_STRICT_LIST = re.compile(r"\[[1-9][0-9]*\](?:\s*,\s*\[[1-9][0-9]*\])*\.?")
_STRICT_RANKING = re.compile(r"\[[1-9][0-9]*\](?:\s*>\s*\[[1-9][0-9]*\])*\.?")
_STRICT_NONE = re.compile(r"none\.?", re.IGNORECASE)
_NONE = re.compile(
    r"[\[({]?\s*(?:none|n/a|nil|empty|no (?:relevant |useful |helpful )?(?:passages?|documents?|identifiers?)(?: found| selected)?"
    r"|there (?:is|are) no (?:relevant|useful|helpful) (?:passages?|documents?)"
    r"|none of (?:the |these |them)?(?:\w+ )?(?:passages|documents)?(?: (?:is|are) (?:relevant|useful|helpful))"
    r"|no (?:passages?|documents?) (?:is|are) (?:relevant|useful|helpful))"
    r"(?: (?:to|for) (?:the|this|your) (?:query|question|search))?\s*[\])}]?\.?|\[\s*\]\.?|\(\s*\)|\{\s*\}",
    re.IGNORECASE,
)

_VERDICT = re.compile(
    r"(?<![a-z])(?:relevant|useful|helpful|utility|select\w*|chosen|choose|answers?|output|results?|final|pick\w*|list|identifiers?"
    r"|passages?|documents?|rank\w*|order)(?![a-z])",
    re.IGNORECASE,
)
_VERDICT_AFTER = re.compile(
    r"\s*(?:is|are|seems?|appears?|would be)\s[^.\n]{0,60}?(?:relevant|useful|helpful|selected|needed)", re.IGNORECASE
)
# What may follow a list in its sentence; a passage's own words may not.
_GOES_ON = re.compile(
    r"\s*(?:$|[.,;:!)]|(?:is|are|because|since|as|which|that|for|in|to|based|respectively)\b)", re.IGNORECASE
)
_NEGATION = re.compile(
    r"(?<![a-z])(?:not|non|no|none|nor|neither|never|cannot|without|except\w*|exclud\w+|unless|irrelevan\w+|unrelated|unhelpful|useless"
    r"|other than|rather than|instead of|reject\w*|discard\w*|ignor\w+|omit\w*|remov\w+|lack\w*|fail\w*|nonrelevant|off.topic|but"
    r"|least|worst|ascending)(?![a-z])|n't(?![a-z])",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(?:i(?:'m| am) (?:really |very |so )?sorry|sorry|i apologi[sz]e|unfortunately)?[\s,.!]*(?:but )?"
    r"(?:as an ai\b|as a (?:large )?language model\b|i(?:'m| am) (?:unable|not able|not allowed|not permitted)\b"
    r"|i (?:can't|cannot|can not|won't|will not|must decline|decline)(?: to)? "
    r"(?:help|assist|comply|answer|provide|fulfil\w*|do|continue|engage|create|process|complete|respond|discuss)\b)",
    re.IGNORECASE,
)

_THOUGHT_END = re.compile(
    r"</\s*(?:think(?:ing)?|thought|reasoning)\s*>|\[/THINK\]|\u25c1/think\u25b7|<\|channel\|>\s*final\s*<\|message\|>",
    re.IGNORECASE,
)
_THOUGHT_START = re.compile(
    r"<\s*(?:think(?:ing)?|thought|reasoning)\b[^>]*(?:>|$)|\[THINK\]|\u25c1think\u25b7|<\|channel\|>\s*(?:analysis|commentary)",
    re.IGNORECASE,
)
_TURN_END = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<(?:end_of_turn|start_of_turn|eos|bos)>|\[/?INST\]", re.IGNORECASE)
_MARKUP = re.compile(
    r"```\w*|[*`]+|\\boxed\{|\\text\{|\}\s*$|</?(?:answer|output|result|selection|ranking|final)>", re.IGNORECASE
)
_BULLET = re.compile(
    rf"^[ \t]*(?:[-+\u2022\u00b7]|[0-9]{{1,3}}[.)])[ \t]+(?={_LABEL}?\[)", re.IGNORECASE | re.MULTILINE
)
_PREFIX = re.compile(r"([^\[\]0-9\n]{0,80}?:)?\s*(.*?)\s*", re.DOTALL)
# After a letter, a digit or a closing bracket a superscript is an exponent or a footnote, not an identifier.
_SUPERSCRIPT = re.compile(r"(?<![\w\]])[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u2080-\u2089]+(?![0-9])")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u3010\u3014\u3016\u300c\u300e\u27e6\uff3b\u2045", "["),
        **dict.fromkeys("\u3011\u3015\u3017\u300d\u300f\u27e7\uff3d\u2046", "]"),
        **dict.fromkeys("\uff0c\u3001\u060c", ","),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\uff0d", "-"),
        **dict.fromkeys("\u301c\uff5e", "~"),
        **dict.fromkeys("\u2018\u2019\u201c\u201d", "'"),
        **dict.fromkeys("\uff1e\u3009\u203a\u00bb\u227b\u2192\u21d2", ">"),
        "\uff1c": "<",
        "\uff08": "(",
        "\uff09": ")",
        "\uff1a": ":",
        "\uff1b": ";",
        "\u2026": "...",
        "\u00a0": " ",
    }
)


def parse_selection(completion: str, *, num_passages: int, finish_reason: FinishReason) -> Parsed:
    """Reads a relevance or utility selection; `ok_empty` where the model says that none is to be selected."""
    answer = _answer(completion, finish_reason)
    if isinstance(answer, Parsed):
        return answer
    if _STRICT_LIST.fullmatch(answer):
        return _checked(_Found(_numbers(answer), ()), num_passages)
    if _STRICT_NONE.fullmatch(answer):
        return Parsed("ok_empty", "", ())
    plain, repairs = _plain(answer)
    found = _find_selection(plain)
    if isinstance(found, str):
        return _failed(plain, found)
    if not found.numbers:
        return Parsed("ok_empty", ", ".join((*repairs, *found.repairs)), ())
    return _checked(_Found(found.numbers, (*repairs, *found.repairs)), num_passages)


def parse_ranking(completion: str, *, num_passages: int, finish_reason: FinishReason) -> Parsed:
    """Reads a utility ranking, best first; a partial one is repaired(`partial`) and holds what the model ranked."""
    answer = _answer(completion, finish_reason)
    if isinstance(answer, Parsed):
        return answer
    if _STRICT_RANKING.fullmatch(answer):
        return _checked(_Found(_numbers(answer), ()), num_passages, is_ranking=True)
    plain, repairs = _plain(answer)
    found = _find_ranking(plain)
    if isinstance(found, str):
        return _failed(plain, found)
    return _checked(_Found(found.numbers, (*repairs, *found.repairs)), num_passages, is_ranking=True)


def strip_thinking(completion: str) -> str:
    """What follows the last end of a thought; empty where a thought has no end."""
    answer = completion
    for match in _THOUGHT_END.finditer(completion):
        answer = completion[match.end() :]
    return "" if _THOUGHT_START.search(answer) else answer


def _answer(completion: str, finish_reason: FinishReason) -> str | Parsed:
    """The completion without thought and without imitated turns; Parsed where there is no answer to read."""
    if finish_reason == "content_filter":
        return Parsed("refused", "stopped by the server's content filter", ())
    if finish_reason != "stop":
        return Parsed("truncated", "cut at max_tokens" if finish_reason == "length" else "aborted", ())
    answer = strip_thinking(completion)
    if not answer.strip():
        return Parsed("unparseable", "nothing but thought" if completion.strip() else "empty", ())
    if turn := _TURN_END.search(answer):
        # Tokens of the chat template open an answer where the server shows them; after it begins another speaker's
        # turn.
        before = answer[: turn.start()]
        answer = before if before.strip() else _TURN_END.split(answer[turn.end() :])[0]
    return answer.strip() or Parsed("unparseable", "empty", ())


def _plain(answer: str) -> tuple[str, tuple[str, ...]]:
    """The answer in ASCII digits and square brackets, without markdown and bullets; and the names of what was changed."""
    repairs = []
    digits = answer if answer.isascii() else _ascii(answer)
    if digits != answer:
        repairs.append("characters")
    unmarked = _MARKUP.sub("", digits)
    unmarked = re.sub(r"\[(?:\s*\[)+", "[", re.sub(r"\](?:\s*\])+", "]", unmarked))
    listed = _BULLET.sub("", unmarked)
    if listed != digits:
        repairs.append("markup")
    return listed.strip(), tuple(repairs)


def _ascii(answer: str) -> str:
    """Digits, brackets and separators of other scripts in ASCII; invisible characters dropped, all else left."""
    superscripts = _SUPERSCRIPT.sub(
        lambda match: "".join(str(unicodedata.digit(character)) for character in match[0]), answer
    )
    digits = _NOT_ASCII.sub(lambda match: _plain_digit(match[0]), superscripts).translate(_CHARACTERS)
    return "".join(character for character in digits if unicodedata.category(character) != "Cf")


def _plain_digit(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    value = unicodedata.numeric(character, 0.5) if category == "No" else 0.5
    # Circled, parenthesised and full-stop numbers delimit themselves; a superscript that is still here is a footnote.
    if not value.is_integer() or _SUPERSCRIPT.fullmatch(character):
        return character
    return f"[{int(value)}]"


def _find_selection(plain: str) -> _Found | str:
    if _LIST.fullmatch(plain.rstrip(".,")):
        return _Found(_numbers(plain), () if _STRICT_LIST.fullmatch(plain) else ("form",))
    if _BARE_LIST.fullmatch(plain):
        return _Found(_numbers(plain), ("no brackets",))
    alone = _lists_alone(plain)
    lists = {numbers for numbers, _ in alone}
    if len(lists) > 1:
        return "several lists"
    if alone:
        leads = all(_leads_to_list(lead) for _, lead in alone)
        return _Found(lists.pop(), ("prose",)) if leads else "a list after a negation or without a verdict"
    return _find_in_sentence(plain)


def _lists_alone(plain: str) -> list[tuple[tuple[tuple[str, ...], ...], str]]:
    """Numbers of the lists and Nones that have lines to themselves, each with its lead: its own `Answer:` or the line before."""
    alone: list[tuple[list[str], str]] = []
    previous, previous_is_list = "", False
    for line in filter(None, map(str.strip, plain.splitlines())):
        prefix, rest = _split_prefix(line)
        is_list = _LIST.fullmatch(rest) is not None
        if is_list and previous_is_list and not prefix:
            alone[-1][0].append(rest)
        elif is_list or _NONE.fullmatch(rest):
            alone.append(([rest], prefix or previous))
        previous, previous_is_list = line, is_list
    return [(_numbers("\n".join(lines)), lead) for lines, lead in alone]


def _split_prefix(line: str) -> tuple[str, str]:
    match = _PREFIX.fullmatch(line)
    assert match is not None
    return (match[1] or "").strip(), match[2].rstrip(" .,") or match[2]


def _leads_to_list(lead: str) -> bool:
    return not lead or (_VERDICT.search(lead) is not None and _NEGATION.search(lead) is None)


def _find_in_sentence(plain: str) -> _Found | str:
    matches = list(_LIST.finditer(plain))
    if not matches:
        return "no list"
    if len(matches) > 1:
        return "identifiers scattered over prose"
    (match,) = matches
    before, after = plain[: match.start()], plain[match.end() :].split("\n", 1)[0]
    if _NEGATION.search(before) or _NEGATION.search(after):
        return "a list beside a negation"
    if not (_VERDICT.search(before) and _GOES_ON.match(after)) and not (
        not before.strip() and _VERDICT_AFTER.match(after)
    ):
        return "identifiers without a verdict"
    return _Found(_numbers(match[0]), ("prose",))


def _find_ranking(plain: str) -> _Found | str:
    if _TURNS_ROUND.search(plain):
        return "not one descending order"
    matches = list(_RANKING.finditer(plain))
    rankings = {_numbers(match[0]) for match in matches}
    if len(rankings) > 1:
        return "several rankings"
    if rankings:
        if _NEGATION.search(plain[: matches[0].start()]):
            return "a ranking after a negation"
        form = () if _STRICT_RANKING.fullmatch(plain) else ("form",)
        return _Found(rankings.pop(), form if matches[0][0] == plain.rstrip(".") else ("prose",))
    if _LIST.fullmatch(plain.rstrip(".,")):
        numbers = _numbers(plain)
        return "a range ranks nothing" if any(len(each) > 1 for each in numbers) else _Found(numbers, ("separators",))
    if _BARE_RANKING.fullmatch(plain) or _BARE_LIST.fullmatch(plain):
        return _Found(_numbers(plain), ("no brackets",))
    return "no ranking"


def _numbers(text: str) -> tuple[tuple[str, ...], ...]:
    """Each item's number as written, or the two ends of its range."""
    items = re.finditer(rf"(-?[0-9]+)[\"']?(?:{_RANGE}([0-9]+))?", text, re.IGNORECASE)
    return tuple((item[1], item[2]) if item[2] else (item[1],) for item in items)


def _checked(found: _Found, num_passages: int, *, is_ranking: bool = False) -> Parsed:
    """Every number within 1..num_passages, ranges spread out, repetitions dropped."""
    # A number of nine digits or more is beyond any pool, and int() refuses thousands of digits.
    outside = [text for item in found.numbers for text in item if len(text) > 9 or not 1 <= int(text) <= num_passages]
    if outside:
        shown = ", ".join(f"[{text[:20]}]" for text in outside[:5])
        return Parsed("out_of_range", f"{shown} of {num_passages} passages", ())
    repairs = list(found.repairs)
    identifiers: list[int] = []
    for item in found.numbers:
        first, last = int(item[0]), int(item[-1])
        if first > last:
            return Parsed("unparseable", f"a range that runs backwards: [{first}-{last}]", ())
        identifiers += range(first, last + 1)
    unique = tuple(dict.fromkeys(identifiers))
    repairs += ["range"] * any(len(item) > 1 for item in found.numbers)
    repairs += ["duplicates"] * (len(unique) < len(identifiers))
    repairs += ["partial"] * (is_ranking and len(unique) < num_passages)
    return Parsed("repaired" if repairs else "ok", ", ".join(repairs), unique)


def _failed(plain: str, problem: str) -> Parsed:
    return Parsed("refused", "the model declines", ()) if _REFUSAL.match(plain) else Parsed("unparseable", problem, ())
