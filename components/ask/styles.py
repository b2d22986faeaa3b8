"""The styles of queries: what each is called, how many passages it needs, and how a mix of them is written.

The words of each prompt are data: prompts/<style>.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """A style of queries; `ends_at_mark`: a reply's query ends with its first question mark."""

    name: str
    num_passages: int = 1
    ends_at_mark: bool = False


STYLES: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style("question", ends_at_mark=True),
        Style("keywords"),
        Style("claim"),
        Style("conversational"),
        Style("two_passages", num_passages=2, ends_at_mark=True),
    )
}
# Chosen as what people type into a search box: mostly questions and key words.
DEFAULT_STYLES = "question=0.5,keywords=0.2,claim=0.2,conversational=0.1"


def parse_styles(mix: str) -> dict[str, float]:
    """Style -> share of the queries; the shares add up to 1 whatever was written.

    Raises:
        ValueError: Where a style is unknown or named twice, or a share is no positive number.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in mix.split(","))):
        name, _, written = (piece.strip() for piece in part.partition("="))
        if name not in STYLES:
            raise ValueError(f"there is no style {name!r}; known are {', '.join(STYLES)}")
        if name in shares:
            raise ValueError(f"style {name} is named twice; add its shares up")
        try:
            shares[name] = float(written)
        except ValueError as error:
            raise ValueError(f"{part!r} has no share; write {name}=0.5") from error
        if not 0 < shares[name] < float("inf"):
            raise ValueError(f"{part!r}: a share is a number above 0; leave out a style that is not wanted")
    if not shares:
        raise ValueError("names no style; write question=0.5,keywords=0.5")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def deal(mix: Mapping[str, float], num_queries: int) -> dict[str, int]:
    """Number of queries of each style: the shares rounded so that they add up (largest remainders first)."""
    counts = {name: int(share * num_queries) for name, share in mix.items()}
    by_remainder = sorted(mix, key=lambda name: counts[name] - mix[name] * num_queries)
    for name in by_remainder[: num_queries - sum(counts.values())]:
        counts[name] += 1
    return counts
