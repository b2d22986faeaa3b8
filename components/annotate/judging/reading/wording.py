"""The words around a list of identifiers: which of them offer it as the answer, and which say the opposite.

A lead-in is accepted word by word: one with a word that is not known here is not an offer, whatever the language. So
nobody has to foresee how a model may say that passages are off topic; what is not understood is asked again.
"""

from __future__ import annotations

import re
import tomllib
from importlib import resources

_WORDS = tomllib.loads(resources.files("components.annotate.judging.reading").joinpath("words.toml").read_text("utf-8"))


def _words(kind: str) -> frozenset[str]:
    return frozenset(word for language in _WORDS[kind].values() for word in language.split())


# At least one of them makes a lead-in an offer: it names what was asked for.
_OFFERS = _words("offers")
# They offer a list only before a colon: `Passages: [2]` answers, `the passages are [2]` may only enumerate.
_NOUNS = _words("nouns")
# They may stand between the others; alone they offer nothing.
_FILLERS = _words("fillers")
# The only ones that may stand beside a noun where nothing else offers the list.
_PLAIN_FILLERS = frozenset(
    {"a", "the", "here", "is", "are", "my", "of", "final", "these", "as", "follows", "number", "numbers"}
)
_QUESTION_WORDS = frozenset({"which", "what", "are", "is", "do", "does", "did", "how", "why", "when", "where", "who"})
_UNSPACED_LEAD = re.compile("|".join(_WORDS["unspaced"]["leads"]))
_FOREIGN_NEGATIONS = "|".join(sorted(_words("negations")))
_FOREIGN_REVERSED = "|".join(sorted(_words("reversed")))
# Words that end a lead-in as a colon does, and `None` in other languages, for the patterns of parsing.py.
COPULAS = rf"(?<!\w)(?:{'|'.join(_WORDS['copulas']['all'].split())})|[{_WORDS['copulas']['unspaced']}]"
FOREIGN_NONE = "|".join((*_WORDS["none"]["all"].split(), *_WORDS["none"]["unspaced"]))
# What may follow one of them is the query's own matter, which no list of words can hold.
_COMPLEMENT = re.compile(
    r"^(.*?\b(?:(?:query|question|search|topic)\b|(?:passages?|documents?|texts?|ones) (?:that|which) (?:\w+ly )?"
    r"answers?\b|for answering\b))(.*)$",
    re.DOTALL,
)
_NEGATION = re.compile(
    r"(?<!\w)(?:not|non|no|none|nor|neither|never|cannot|without|except\w*|exclud\w+|unless|irrelevan\w+|unrelated"
    r"|unhelpful|useless|unneeded|unnecessary|reject\w*|discard\w*|dismiss\w*|ignor\w+|omit\w*|remov\w+|eliminat\w*"
    r"|skip\w*|avoid\w*|lack\w*|fail\w*|miss(?:es|ing)?|nonrelevant|off.topic|duplicat\w*|redundan\w*|distract\w*"
    r"|mislead\w*|wrong|incorrect\w*|false|instead of|rather than|ruled out|left out|tangential\w*|nothing|nobody"
    rf"|{_FOREIGN_NEGATIONS})(?!\w)|n't(?!\w)|[{_WORDS['unspaced']['negations']}]",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"(?<!\w)(?:others?|another|different|elsewhere|rest|remaining|everything else)(?!\w)", re.IGNORECASE
)
_DOUBT = re.compile(
    r"(?<!\w)(?:but|however|although|though|despite|instead|rather|partial\w*|partly|somewhat|marginal\w*|loosely|barely"
    r"|hardly|slightly|possibly|maybe|perhaps|might|may|could|would|unclear|doubt\w*|uncertain|unsure|weak\w*|least|less"
    r"|lower|lowest|worst|low|poor\w*|bad|if|potential\w*|number of|count of|amount of|total of|how many"
    r"|opposite|contrary|ascending|increasing|revers\w+|inverse\w*|example|e\.?g|vs|versus|before|until)(?!\w)",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"(?<!\w)(?:wait|actually|correction|second thoughts?|scratch that|sorry|instead|i mean|i meant|however|disagree"
    r"|mistaken?|mistakenly|strike that|reconsider\w*|hmm+|oops|my bad|changed my mind|on reflection)(?!\w)",
    re.IGNORECASE,
)
_COLLECTIVE = re.compile(
    r"(?<!\w)(?:these|those|they|them|both|it|this|above|listed|lists?|selected|chosen|following|all|former|latter"
    r"|passages?|documents?|ones)(?!\w)",
    re.IGNORECASE,
)
_REVERSED = re.compile(
    r"(?<!\w)(?:"
    # `least useful first`, `lowest to highest`, `from worst`; never `most to least`.
    r"(?<!to )(?<!to the )(?:least|lowest|worst|weakest|poorest|smallest|bottom)(?:\W+\w+){0,3}?\W+"
    r"(?:first|to|up|upwards?|on top|at the top|comes? first|goes first|before)"
    r"|(?:from|with)(?: the)? (?:least|lowest|worst|weakest|poorest|smallest|bottom)"
    r"|(?:most|highest|best|strongest|top)(?:\W+\w+){0,3}?\W+(?:last|at the (?:end|bottom)|comes last)"
    r"|first(?:\W+\w+){0,5}?\W+(?:least|lowest|worst|weakest)|last(?:\W+\w+){0,5}?\W+(?:most|highest|best|strongest)"
    r"|ascending|increasing|increasingly|revers(?:e|ed|al|ing)|inverse|inverted|backwards?|bottom.up|upside"
    r"|less (?:useful|relevant|helpful|important) than|(?:worse|lower) than|least.to.most|low.to.high"
    rf"|{_FOREIGN_REVERSED})(?!\w)|{'|'.join(_WORDS['unspaced']['reversed'])}",
    re.IGNORECASE,
)
_MOST_TO_LEAST = re.compile(
    r"(?<!\w)(?:from )?(?:the )?(?:most|highest|best|greatest)(?: (?:useful|relevant|helpful|utility|important))?"
    r"(?: passages?)? to (?:the )?(?:least|lowest|worst)(?: (?:useful|relevant|helpful|utility|important))?"
    r"|(?<!\w)(?:most|highest|best)(?: (?:useful|relevant|helpful|utility|important))?(?: passages?)? first",
    re.IGNORECASE,
)
_LOW = re.compile(r"(?<!\w)(?:least|lowest|worst|weakest|poorest|bottom|last place)(?!\w)", re.IGNORECASE)
_HIGH = re.compile(
    r"(?<!\w)(?:most (?:useful|relevant|helpful|important)|highest|best|strongest|top)(?!\w)", re.IGNORECASE
)
# A comma within `[2], [3] are not useful` separates identifiers, not clauses.
_CLAUSE = re.compile(
    r"[.;!?\n]|,(?!\s*(?:and\s+)?\[?\d+\]?\s*(?:,|and\b|or\b|are\b|do\b))|\b(?:while|whereas)\b", re.IGNORECASE
)
_MENTION = re.compile(
    r"\[\s*([0-9]{1,9})\s*\]|(?:passages?|documents?|docs?|texts?|#)\s*#?([0-9]{1,9})\b", re.IGNORECASE
)
_AFFIRMED = re.compile(r"(?<!\w)(?:relevant|useful|helpful|answers)(?!\w)", re.IGNORECASE)
_QUOTED = re.compile(r"\"[^\"\n]*\"|(?<!\w)'[^'\n]*'(?!\w)")
_PLEASANTRY = re.compile(
    r"(?:sure|certainly|of course|okay|ok|alright|got it|understood|here you go|let me think|yes)(?: thing)?"
    r"(?:,? here you go)?[.!,]*",
    re.IGNORECASE,
)
# How many passages are offered says nothing about which.
_COUNT = re.compile(r"(?<=\btop )\d{1,2}\b|(?<=\bthe )\d{1,2}\b|(?<=\bfollowing )\d{1,2}\b")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def offers_list(lead: str) -> bool:
    """Whether a lead-in, which ends in a colon or in `are` or `is`, offers the list behind it as the answer."""
    ends_in_colon = lead.rstrip().endswith(":")
    text = _MOST_TO_LEAST.sub(" ", _QUOTED.sub(" ", lead.casefold().replace("_", " "))).strip(" :.-")
    if _PLEASANTRY.fullmatch(text):
        return False
    if _UNSPACED_LEAD.fullmatch(text):
        return True
    if _NEGATION.search(text) or _OTHERS.search(text) or _DOUBT.search(text):
        return False
    words = _WORD.findall(_COUNT.sub(" ", text))
    if not words:
        # Nothing but a direction of a ranking, such as `most useful to least useful:`.
        return ends_in_colon and _MOST_TO_LEAST.search(lead) is not None
    if words[0] in _QUESTION_WORDS or re.search(r"\d", _COUNT.sub(" ", text)):
        return False
    if _are_known(words):
        return _names_answer(words, ends_in_colon=ends_in_colon)
    complement = _COMPLEMENT.match(text)
    head = _WORD.findall(complement[1]) if complement else []
    return _are_known(head) and _names_answer(head, ends_in_colon=False)


def is_pleasantry(text: str) -> bool:
    """Whether a sentence before a list only says that an answer follows."""
    return _PLEASANTRY.fullmatch(text.strip()) is not None


def is_denied(reason: str) -> bool:
    """Whether the reason beside an identifier says that its passage is not wanted."""
    return any(pattern.search(reason) for pattern in (_NEGATION, _OTHERS, _RETRACTION)) or bool(
        re.search(
            r"(?<!\w)(?:partial\w*|partly|somewhat|marginal\w*|loosely|barely|hardly|slightly)(?!\w)", reason, re.I
        )
    )


def is_plain_remark(remark: str) -> bool:
    """Whether what follows a list in its own sentence or in parentheses only confirms it."""
    return not any(pattern.search(remark) for pattern in (_NEGATION, _OTHERS, _DOUBT, _RETRACTION))


def contradicts(text: str, identifiers: frozenset[int]) -> bool:
    """Whether what is said after a list takes it back, as a whole or for one of its identifiers."""
    if _RETRACTION.search(text):
        return True
    for clause in _CLAUSE.split(text):
        mentioned = {int(match[1] or match[2]) for match in _MENTION.finditer(clause)}
        if not _NEGATION.search(clause):
            # After `None` a passage that is called useful after all.
            if not identifiers and mentioned and _AFFIRMED.search(clause):
                return True
            continue
        if mentioned & identifiers:
            return True
        if identifiers and not mentioned and _COLLECTIVE.search(clause) and not _OTHERS.search(clause):
            return True
    return False


def is_reversed(text: str) -> bool:
    """Whether words anywhere in the answer say that a ranking begins with the least useful passage."""
    return _REVERSED.search(_MOST_TO_LEAST.sub(" ", text)) is not None


def ranks_otherwise(text: str, *, first: int, last: int) -> bool:
    """Whether what is said beside a ranking calls its first passage the least useful one, or its last the most."""
    for clause in _CLAUSE.split(text):
        mentioned = {int(match[1] or match[2]) for match in _MENTION.finditer(clause)}
        if (first in mentioned and _LOW.search(clause)) or (last in mentioned and _HIGH.search(clause)):
            return True
    return False


def reasons_turn_round(reasons: list[str]) -> bool:
    """Whether a ranking's reasons call an item above the last the least useful, or one below the first the most."""
    return any(_LOW.search(reason) for reason in reasons[:-1]) or any(_HIGH.search(reason) for reason in reasons[1:])


def _are_known(words: list[str]) -> bool:
    return all(word in _OFFERS or word in _NOUNS or word in _FILLERS for word in words)


def _names_answer(words: list[str], *, ends_in_colon: bool) -> bool:
    if any(word in _OFFERS for word in words):
        return True
    # `The passages given are:` only enumerates.
    is_plain = all(word in _NOUNS or word in _PLAIN_FILLERS for word in words)
    return ends_in_colon and is_plain and any(word in _NOUNS for word in words)
