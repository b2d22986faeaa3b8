"""Texts -> the terms that BM25 counts: words without stop words, each by its stem.

A collection has one language, stored with its BM25 index, so that queries become terms as passages did.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import Stemmer

from components.shared.language.table import language_of
from components.shared.language.words import normalise, words


class Terms:
    """The terms of one language."""

    def __init__(self, language: str) -> None:
        """Takes the code of a listed language, or `other`.

        Raises:
            ValueError: Where the code is not listed.
        """
        known = language_of(language)
        self._language = known.code
        self._stop_words = {normalise(word, language=known.code) for word in known.function_words}
        self._stem_letters = known.stem_letters
        # Its library says of a stemmer that threads may not share it; a server's threads do.
        self._lock = threading.Lock()
        self._stemmer = Stemmer.Stemmer(known.stemmer) if known.stemmer else None

    def of(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text, in order."""
        numbers, names = self.numbered(texts)
        return [[names[number] for number in row] for row in numbers]

    def numbered(self, texts: Sequence[str]) -> tuple[list[list[int]], list[str]]:
        """The terms of each text as positions in the list of all their terms, and that list."""
        vocabulary: dict[str, int] = {}
        rows = [
            [
                vocabulary.setdefault(word, len(vocabulary))
                for word in words(text, language=self._language)
                if word not in self._stop_words
            ]
            for text in texts
        ]
        names: dict[str, int] = {}
        terms = [names.setdefault(stem, len(names)) for stem in self._stems(list(vocabulary))]
        return [[terms[word] for word in row] for row in rows], list(names)

    def _stems(self, unstemmed: list[str]) -> list[str]:
        if self._stem_letters:
            # A word with a digit is a number or a code, and means all of itself.
            return [word if any(map(str.isdigit, word)) else word[: self._stem_letters] for word in unstemmed]
        if self._stemmer is None:
            return unstemmed
        with self._lock:
            stems = self._stemmer.stemWords(unstemmed)
        # A stemmer that takes all of a word away leaves nothing to search for.
        return [stem or word for stem, word in zip(stems, unstemmed, strict=True)]
