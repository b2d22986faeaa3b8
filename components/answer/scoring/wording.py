"""Answers as they are compared, and their words, in any language.

English, and what does not say its language, follows SQuAD's rules to the letter. They cannot serve other languages:
only ASCII punctuation and English articles are removed, and words stand between spaces.
Source of the rules for others: Lewis, Oguz, Rinott, Riedel and Schwenk 2020 (MLQA, arXiv 1910.07475): punctuation by
Unicode, the articles of the language, and every character a word where a script has no spaces.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass

import regex

from components.shared.language.words import normalise, separate_words

ENGLISH = "en"
_ARTICLES = {
    "de": "ein eine einen einem eines einer der die das den dem des",
    "es": "un una unos unas el la los las",
    "fr": "un une des le la les",
    "it": "un uno una il lo la i gli le",
    "nl": "een de het",
    # A mixture of languages, or part numbers and code among English words.
    "other": "a an the",
    "pt": "um uma uns umas o a os as",
}
_ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PUNCTUATION = regex.compile(r"[\p{P}\p{S}]")
# French and Italian write it onto the next word.
_ELIDED_ARTICLE = re.compile("\\bl['\u2019](?=\\w)")


@dataclass(frozen=True)
class Wording:
    """The rules of one language; its code, empty where it is not known."""

    language: str

    @property
    def is_official(self) -> bool:
        """Whether the rules are those of the measures' official scripts and libraries."""
        return self.language in ("", ENGLISH)

    def normalise(self, text: str) -> str:
        """An answer as answers are compared for EM and F1: no case, punctuation or articles, single spaces."""
        if self.is_official:
            return " ".join(_ENGLISH_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())
        text = normalise(text, language=self.language)
        if self.language in ("fr", "it"):
            text = _ELIDED_ARTICLE.sub("", text)
        articles = set(_ARTICLES.get(self.language, "").split())
        return " ".join(word for word in _PUNCTUATION.sub("", text).split() if word not in articles)

    def words(self, normal: str) -> list[str]:
        """The words of a normalised answer."""
        return normal.split() if self.is_official else separate_words(normal)

    def tokenize(self, text: str) -> list[str]:
        """The words of a text for ROUGE, whose own know the letters and digits of ASCII only.

        The name is the one that rouge-score calls.
        """
        return separate_words(_PUNCTUATION.sub(" ", normalise(text, language=self.language)))

    @property
    def bleu_tokenizer(self) -> str:
        """The tokenizer of sacrebleu that serves the language without a package of its own."""
        if self.language == "zh":
            return "zh"
        return "char" if self.language in ("ja", "th", "lo", "km", "my") else "13a"
