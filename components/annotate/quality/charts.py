"""Charts of the label-quality page; an annotator's colour is a class `s0` .. `s5`, its name stands beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from components.shared import svg

_COLOURS = 6
# Bars of a histogram; pools that select more fall into the last one.
_MOST_COUNTS = 16


def colour(number: int) -> str:
    """The class of the annotator of that number."""
    return f"s{number % _COLOURS}"


def legend(names: Sequence[str]) -> Markup:
    """Names beside their colours."""
    items = []
    for number, name in enumerate(names):
        swatch = f'<rect class="{colour(number)}" x="3" y="3" width="10" height="10" rx="1"/>'
        items.append(
            f'<span><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">{swatch}</svg>{escape(name)}</span>'
        )
    return Markup('<p class="legend">' + "".join(items) + "</p>")


def agreement(rows: Sequence[tuple[str, int, Mapping[str, Any]]]) -> Markup:
    """Precision and recall of each row (label, colour number, agreement with people), with their intervals."""
    x, y, parts = svg.Scale(0.0, 1.0, 96, 340), 18.0, []
    for label, number, its in rows:
        parts.append(svg.text(8, y + 4, label))
        y += 16
        for measure in ("precision", "recall"):
            estimate = its[measure]
            parts.append(svg.text(90, y + 4, measure, anchor="end"))
            if estimate["value"] is None:
                parts.append(svg.text(100, y + 4, "nothing selected"))
            else:
                parts.append(svg.bar(colour(number), x(0), y - 5, x(estimate["value"]) - x(0), 10))
                parts.append(svg.whisker(x(estimate["low"]), x(estimate["high"]), y))
                parts.append(svg.text(394, y + 4, f"{estimate['value']:.3f}", anchor="end"))
            y += 15
        y += 8
    grid = svg.vertical_grid(x, svg.ticks(0, 1, 4), 10, y)
    return svg.drawing("Precision and recall against people, with intervals", y + 20, [*grid, *parts])


def selection_counts(histograms: Sequence[tuple[int, Sequence[int]]]) -> Markup:
    """How many passages of a pool are selected: share of queries, for each (colour number, histogram)."""
    folded = [(number, _folded(counts)) for number, counts in histograms]
    longest = max((len(counts) for _, counts in folded), default=1)
    shares = [
        (number, [count / max(1, sum(counts)) for count in counts] + [0.0] * (longest - len(counts)))
        for number, counts in folded
    ]
    top = max(0.1, *(max(its) for _, its in shares)) if shares else 0.1
    y = svg.Scale(0.0, top, 220, 12)
    parts = svg.horizontal_grid(y, svg.ticks(0, top, 4), percent=True)
    step = (svg.RIGHT - svg.LEFT) / longest
    width = step * 0.86 / max(1, len(shares))
    for size in range(longest):
        left = svg.LEFT + size * step
        label = f"{size}+" if size == _MOST_COUNTS - 1 else f"{size}"
        parts.append(svg.text(left + step / 2, 236, label, anchor="middle"))
        for place, (number, its) in enumerate(shares):
            up = y(its[size])
            parts.append(
                svg.bar(colour(number), left + step * 0.07 + place * width, up, max(width - 0.5, 0.5), 220 - up)
            )
    parts.append(svg.text((svg.LEFT + svg.RIGHT) / 2, 254, "passages selected from a pool", anchor="middle"))
    return svg.drawing("Number of passages selected from a pool, share of queries", 260, parts)


def _folded(counts: Sequence[int]) -> list[int]:
    kept = list(counts[: _MOST_COUNTS - 1])
    return [*kept, sum(counts[_MOST_COUNTS - 1 :])] if len(counts) >= _MOST_COUNTS else kept


def positions(report: Mapping[str, Any], number: int) -> Markup:
    """Selection rate at each place of the prompt; the dashed line is what an unbiased annotator would select there."""
    rates, expected = report["rates"], report["expected"]
    top = max(0.05, *rates, *expected) if rates else 0.05
    y = svg.Scale(0.0, top, 170, 12)
    parts = svg.horizontal_grid(y, svg.ticks(0, top, 4), percent=True)
    step = (svg.RIGHT - svg.LEFT) / max(1, len(rates))
    every = max(1, len(rates) // 16)
    for place, (rate, its) in enumerate(zip(rates, expected, strict=True)):
        left = svg.LEFT + place * step
        parts.append(svg.bar(colour(number), left + step * 0.1, y(rate), step * 0.8, 170 - y(rate)))
        parts.append(
            f'<line class="zero dashed" x1="{left:.1f}" x2="{left + step:.1f}" y1="{y(its):.1f}" y2="{y(its):.1f}"/>'
        )
        if place % every == 0:
            parts.append(svg.text(left + step / 2, 186, f"{place + 1}", anchor="middle"))
    parts.append(svg.text((svg.LEFT + svg.RIGHT) / 2, 204, "place in the prompt", anchor="middle"))
    return svg.drawing("Selection rate by place in the prompt", 210, parts)
