"""Texts normalised, and their words by Unicode's rules.

Words are normalised by NFKC and not by NFC: what a reader takes for the same word is then the same word, also in full
and half width, as a ligature, as an Arabic presentation form or with superscript digits, which NFC keeps apart. A
search for the exact form is not wanted in retrieval, and texts are normalised for comparing only: what is stored and
what an encoder reads stays as it is.

Chinese, Japanese, Thai, Lao, Khmer and Burmese have no spaces between words. A text of theirs is taken as its
characters, each with its marks and vowels, and its pairs of neighbouring characters. Korean is treated so too, because
its particles are written onto the words. A kana is left out unless it stands alone: like a letter, it means nothing.
Source: Nie, Gao, Zhang and Zhou 2000, who found characters and pairs together as good as a segmenter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import regex

# Part of the key of every stored BM25 index: raise it when the same text gives other words than before.
RULES_VERSION = 1

# Letters of scripts without spaces between words; the prolonged sound mark of kana belongs to no script. Version 1 of
# regex's patterns has the intersection of sets.
_NO_SPACES = (
    r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tai_Tham}\p{Tai_Viet}\p{New_Tai_Lue}]"
    r"&&[\p{L}\p{Nl}]]||[\u30fc]"
)
# Thai and Lao write some vowels as letters before and behind their consonant; Burmese and Khmer stack consonants.
_CHARACTER = (
    r"[\u0e40-\u0e44\u0ec0-\u0ec4]?[{letters}](?:[\u1039\u17d2]\p{{L}}|\p{{M}})*"
    r"[\u0e30\u0e32\u0e33\u0e45\u0eb0\u0eb2\u0eb3]*"
)
_PAIRED = rf"{_NO_SPACES}||[\p{{Hangul}}&&\p{{L}}]"
_PAIRED_CHARACTER = regex.compile("(?V1)" + _CHARACTER.format(letters=_PAIRED))
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}_]{2,}")
# A run of characters that are paired, or a word of two or more code points in any other script.
_PIECE = regex.compile(
    rf"(?V1)((?:{_CHARACTER.format(letters=_PAIRED)})+)|([[\p{{L}}\p{{M}}\p{{N}}_]--[{_PAIRED}]]{{2,}})"
)
# Python's own pattern is three times as fast, and finds the same words where a text has no combining marks and no
# paired characters: below, what lies outside of the blocks of Latin, Greek, Cyrillic and symbols without marks.
_PLAIN_WORD = re.compile(r"\w\w+")
_NOT_PLAIN = re.compile("[^\x00-\u02ff\u0370-\u0482\u048a-\u058f\u1e00-\u20cf\u2100-\u2bff]")
_KANA = regex.compile(r"[\p{Hiragana}\p{Katakana}\u30fc]")
# For cutting: a character of a script without spaces, or what stands between two of them.
_CUT = regex.compile(rf"(?V1)({_CHARACTER.format(letters=_NO_SPACES)})|[^{_NO_SPACES}]+")
_HAS_NO_SPACES = regex.compile(rf"(?V1)[{_NO_SPACES}]")
CHARACTERS_A_WORD = 2

# What changes how a text is drawn or joined and not what it says: soft hyphens, joiners, direction marks, variation
# selectors, and the vowel marks of Arabic and Hebrew, which most texts leave out.
_NOT_WRITTEN = re.compile(
    r"[\u00ad\u034f\u0640\u061c\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]"
    r"|[\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed]|[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7]"
)
# A letter to Unicode, an apostrophe to people: it ends a word as the other apostrophes do.
_LETTER_APOSTROPHE = "\u02bc"
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_TURKISH_CAPITALS = str.maketrans({"I": "\u0131", "\u0130": "i"})
_PERSIAN_LETTERS = str.maketrans({"\u064a": "\u06cc", "\u0649": "\u06cc", "\u0643": "\u06a9"})
# Hindi, Marathi and Nepali write a nasal before a consonant in two ways, with or without the half letter.
# Source: HindiNormalizer of Lucene.
_HALF_NASAL = re.compile("\u0928\u094d(?=[\u0915-\u0939])|\u0901")
_NUKTA = "\u093c"


def normalise(text: str, *, language: str = "") -> str:
    """A text in the form in which texts are compared: NFKC, case folded, without marks that are rarely written.

    Args:
        text: Any text.
        language: Code of its language. Turkish has two letters i, Russian writes its yo mostly as ye, Persian and Urdu
            are typed with Arabic and with Persian letters, and Hindi spells nasals in two ways.
    """
    if language == "tr":
        text = unicodedata.normalize("NFC", text).translate(_TURKISH_CAPITALS)
    if text.isascii():
        return text.lower()
    # Case folding can take a text out of its normal form, so it is normalised again.
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _NOT_WRITTEN.sub("", text).replace(_LETTER_APOSTROPHE, "'").replace("i\u0307", "i")
    text = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)
    if language == "ru":
        return text.replace("\u0451", "\u0435")
    if language in ("fa", "ur"):
        return text.translate(_PERSIAN_LETTERS)
    if language in ("hi", "mr", "ne"):
        return _HALF_NASAL.sub("\u0902", text.replace(_NUKTA, ""))
    return text


def words(text: str, *, language: str = "") -> list[str]:
    """The words of a text in order, normalised; of scripts without spaces the characters and their pairs.

    A word of one letter or one digit is left out, as in the usual analysers of English.
    """
    text = normalise(text, language=language)
    if text.isascii() or not _NOT_PLAIN.search(text):
        return _PLAIN_WORD.findall(text)
    if not _PAIRED_CHARACTER.search(text):
        spaced: list[str] = _WORD.findall(text)
        return spaced
    mixed: list[str] = []
    for run, word in _PIECE.findall(text):
        if word:
            mixed.append(word)
        else:
            mixed.extend(_characters_and_pairs(run))
    return mixed


def separate_words(text: str) -> list[str]:
    """The words of a text as white space separates them; of scripts without spaces the characters, each by itself."""
    if text.isascii() or not _HAS_NO_SPACES.search(text):
        return text.split()
    return [match[0] for piece in text.split() for match in _CUT.finditer(piece)]


def first_words(text: str, num_words: int) -> str:
    """The first words of a text, white space collapsed.

    Words are counted as white space separates them; in scripts without spaces two characters count as one word, which
    is about the length of a Chinese word. Korean has spaces.
    """
    pieces = text.split()
    if text.isascii() or not _HAS_NO_SPACES.search(text):
        return " ".join(pieces[:num_words])
    kept: list[str] = []
    # In characters, of which a spaced word counts as many as a word has.
    budget = num_words * CHARACTERS_A_WORD
    for piece in pieces:
        if budget <= 0:
            break
        end, cost = _cut_piece(piece, budget)
        kept.append(piece[:end])
        budget -= cost
        if end < len(piece):
            break
    return " ".join(kept).rstrip()


def _characters_and_pairs(run: str) -> Iterator[str]:
    characters = _PAIRED_CHARACTER.findall(run)
    for position, character in enumerate(characters):
        if len(characters) == 1 or not _KANA.match(character):
            yield character
        if position:
            yield characters[position - 1] + character


def _cut_piece(piece: str, budget: int) -> tuple[int, int]:
    """Where a piece without white space ends to fit the budget of characters, and what that part costs."""
    end = cost = 0
    for match in _CUT.finditer(piece):
        price = 1 if match[1] else CHARACTERS_A_WORD if any(map(str.isalnum, match[0])) else 0
        if cost + price > budget:
            break
        end, cost = match.end(), cost + price
    # Punctuation alone is a word too, as it is where white space separates words.
    return end, cost or CHARACTERS_A_WORD
