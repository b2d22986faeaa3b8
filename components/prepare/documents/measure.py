"""How large a text is, in estimated tokens: prepare knows no encoder, and its passages must fit every usual one.

Up to six letters, up to three digits, a mark, or a character of a script without spaces between words count one. On
passages of scifact, CMake's documentation and a Debian system's changelogs that is 1.09, 1.09 and .96 times the tokens
of all-MiniLM-L6-v2 (BERT's vocabulary). Words as white space separates them are 1.3 to 2.6 tokens each there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_ASCII_TOKEN = re.compile(r"[A-Za-z]{1,6}|[0-9]{1,3}|[^\sA-Za-z0-9]")
# A letter of these scripts with the marks behind it, such as the vowels of Thai.
_UNSPACED_LETTER = rf"(?:(?=[{_UNSPACED}])\w[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd]*)"
_TOKEN = re.compile(rf"{_UNSPACED_LETTER}|[^\W\d_{_UNSPACED}]{{1,6}}|\d{{1,3}}|[^\w\s]|\w")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_PIECE = re.compile(r"\S+")
# A piece without white space that is larger may be cut inside: a line of base64 is one.
_LARGEST_PIECE = 16


def count_tokens(text: str) -> int:
    """The estimated number of tokens of a text."""
    return len((_ASCII_TOKEN if text.isascii() else _TOKEN).findall(text))


def token_spans(text: str) -> Iterator[tuple[int, int, int]]:
    """Start, end and tokens of the smallest pieces that a text may be cut into, in order.

    A piece is what white space separates; in scripts without spaces it is a letter with the marks behind it.
    """
    for piece in _PIECE.finditer(text):
        num_tokens = count_tokens(piece[0])
        if num_tokens <= _LARGEST_PIECE and not _HAS_UNSPACED.search(piece[0]):
            yield piece.start(), piece.end(), num_tokens
        else:
            yield from _inside(piece[0], piece.start())


def _inside(piece: str, offset: int) -> Iterator[tuple[int, int, int]]:
    start = end = num_tokens = 0
    for token in _TOKEN.finditer(piece):
        # A mark stays with what stands before it, unless marks are all there is.
        if num_tokens and (token[0].isalnum() or num_tokens == _LARGEST_PIECE):
            yield offset + start, offset + end, num_tokens
            start, num_tokens = token.start(), 0
        end, num_tokens = token.end(), num_tokens + 1
    if num_tokens:
        yield offset + start, offset + len(piece), num_tokens
