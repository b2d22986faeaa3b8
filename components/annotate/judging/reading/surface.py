"""The characters that an answer is written in: markdown, digits, brackets.

Nothing here decides what an answer means; it only brings answers that say the same into the same letters.
"""

from __future__ import annotations

import re
import unicodedata

# A line that is a heading, or bold from end to end, introduces what follows it, as a colon does.
_HEADING = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+([^\[\]\n]*?[^\[\]\n:#*])[ \t:#*]*"
    r"|\*\*([^\[\]*\n]*?[^\[\]*\n:])[ \t]*:?[ \t]*\*\*[ \t]*:?)$",
    re.MULTILINE,
)
_MARKUP = re.compile(
    r"```\w*|[*`]+|\\boxed\{|\\text\{|\}\s*$|</?(?:answer|output|result|selection|ranking|final)>", re.IGNORECASE
)
_QUOTED_BRACKETS = re.compile(r"[\"'](\[\s*[0-9]+\s*\])[\"']")
_QUOTED_WHOLE = re.compile(r"\s*([\"'])([^\"']*)\1\s*")
# A star that begins a line is a bullet; all other stars are emphasis.
_STAR_BULLET = re.compile(r"^([ \t]*)\*(?=[ \t])", re.MULTILINE)
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
        "\u3002": ". ",
        "\u2026": "...",
        "\u00a0": " ",
    }
)


def plain(answer: str) -> tuple[str, tuple[str, ...]]:
    """The answer in ASCII digits and square brackets, without markdown; and the names of what was changed.

    Bullets stay, a star written as a minus; headings and bold lines end in a colon.
    """
    repairs = []
    digits = answer if answer.isascii() else _ascii(answer)
    if digits != answer:
        repairs.append("characters")
    headed = _HEADING.sub(lambda match: f"{(match[1] or match[2]).strip()}:", digits)
    unmarked = _MARKUP.sub("", _STAR_BULLET.sub(r"\1-", headed))
    if not unmarked.lstrip().startswith("{"):
        whole = _QUOTED_WHOLE.fullmatch(unmarked)
        unmarked = whole[2] if whole else unmarked
        unmarked = _QUOTED_BRACKETS.sub(r"\1", unmarked)
    single = re.sub(r"\[(?:\s*\[)+", "[", re.sub(r"\](?:\s*\])+", "]", unmarked))
    if single != digits:
        repairs.append("markup")
    return single.strip(), tuple(repairs)


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
