"""The languages that are known by name, read from languages.toml.

`auto` asks for detection. `other` is a language without stop words and without a stemmer: words are still found by
Unicode's rules, so it suits any text, and any mixture of languages.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

AUTO, OTHER = "auto", "other"


@dataclass(frozen=True, slots=True)
class Language:
    """A language by its ISO 639-1 code.

    Attributes:
        code: Two letters.
        name: In English.
        stemmer: Name of its Snowball stemmer; empty where there is none.
        stem_letters: Without a stemmer, the first letters that stand for a word; 0: the whole word does.
            Source: McNamee, Nicholas and Mayfield 2009, who found five letters nearly as good as a stemmer.
        script: Unicode's name of its script where no other listed language shares it; empty otherwise.
        letters: Letters that few other listed languages write.
        function_words: Words that carry grammar and no topic.
    """

    code: str
    name: str
    stemmer: str = ""
    stem_letters: int = 0
    script: str = ""
    letters: str = ""
    function_words: tuple[str, ...] = ()


@cache
def languages() -> dict[str, Language]:
    """All listed languages by their code."""
    tables = tomllib.loads(resources.files("components.shared.language").joinpath("languages.toml").read_text("utf-8"))
    return {code: _language(code, **table) for code, table in tables.items()}


def language_of(code: str) -> Language:
    """The language of a code; `other` and the empty code are one without stop words and stemmer.

    Raises:
        ValueError: Where the code is not listed.
    """
    require_language(code or OTHER)
    return languages().get(code, Language(OTHER, "another language"))


def require_language(code: str) -> None:
    """Refuses a code that is neither listed nor `auto` nor `other`.

    Raises:
        ValueError: Naming the codes that are known.
    """
    if code not in (AUTO, OTHER, *languages()):
        raise ValueError(
            f"language {code!r}: not a known code; write {AUTO} (it is detected), "
            f"one of {' '.join(sorted(languages()))}, or {OTHER} (no stop words and no stemmer)"
        )


def _language(code: str, *, name: str, words: str, **fields: Any) -> Language:  # noqa: ANN401
    return Language(code, name, function_words=tuple(words.split()), **fields)
