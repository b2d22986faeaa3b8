"""Charts of the report: colours are classes (`bm25`, `base`, `trained`); where colour alone would carry meaning, a shape says it too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from components.shared import svg

# A difference chart draws at most this many bars; more queries than that are averaged in groups.
_MOST_BARS = 320
_RANKS = ((1, 1, "1"), (2, 3, "2-3"), (4, 10, "4-10"), (11, 100, "11-100"), (101, 10**9, "> 100"), (0, 0, "not found"))


def bars(systems: Mapping[str, Mapping[str, Mapping[str, float]]], measures: Sequence[str]) -> Markup:
    """Means of each measure, a bar a system, with the interval as a whisker."""
    top = max(1.0, *(interval["high"] for its in systems.values() for interval in its.values()))
    x = svg.Scale(0.0, top, 76, 340)
    rows, y = [], 18.0
    for measure in measures:
        rows.append(svg.text(70, y + 9 + 15 * (len(systems) - 1) / 2, measure, anchor="end"))
        for name, its in systems.items():
            interval = its[measure]
            rows.append(
                f'<rect class="{name}" x="{x(0):.1f}" y="{y - 1:.1f}" width="{x(interval["mean"]) - x(0):.1f}" height="11" rx="1"/>'
            )
            rows.append(svg.whisker(x(interval["low"]), x(interval["high"]), y + 4.5))
            rows.append(svg.text(394, y + 8.5, f"{interval['mean']:.3f}", anchor="end"))
            y += 15
        y += 10
    axis = svg.vertical_grid(x, svg.ticks(0, top, 4), 10, y)
    return svg.drawing("Mean of each measure by system, with intervals", y + 18, [*axis, *rows])


def forest(comparisons: Sequence[Mapping[str, Any]]) -> Markup:
    """Differences with their intervals around the line of no difference."""
    reach = max(1e-3, *(max(abs(its["low"]), abs(its["high"])) for its in comparisons)) * 1.08
    x = svg.Scale(-reach, reach, 76, 340)
    rows, y, measure = [], 12.0, ""
    for its in comparisons:
        if its["measure"] != measure:
            measure, y = its["measure"], y + 8
            rows.append(svg.text(70, y + 10, measure, anchor="end"))
        name = its["against"]
        rows.append(
            f'<line class="stroke {name}" x1="{x(its["low"]):.1f}" x2="{x(its["high"]):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        rows.append(_marker(name, x(its["difference"]), y))
        rows.append(svg.text(394, y + 4, f"{its['difference']:+.3f}", anchor="end"))
        y += 16
    axis = svg.vertical_grid(x, svg.ticks(-reach, reach, 4), 8, y, sign=True)
    zero = f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="8" y2="{y:.1f}"/>'
    return svg.drawing(
        "Difference of the trained encoder to each other system, with intervals", y + 18, [*axis, zero, *rows]
    )


def recall_curve(cutoffs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Markup:
    """Recall by how many hits are looked at, on a logarithmic axis."""
    x = svg.Scale(0.0, math.log10(max(cutoffs[-1], 2)), svg.LEFT, svg.RIGHT)
    y = svg.Scale(0.0, 1.0, 220, 12)
    parts = svg.horizontal_grid(y, svg.ticks(0, 1, 5))
    for cutoff in (tick for tick in (1, 10, 100, 1000) if tick <= cutoffs[-1]):
        parts.append(svg.text(x(math.log10(cutoff)), 236, f"{cutoff}", anchor="middle"))
    for name, its in curves.items():
        points = [(x(math.log10(cutoff)), y(value)) for cutoff, value in zip(cutoffs, its, strict=True)]
        parts.append(
            f'<polyline class="line {name}" points="{" ".join(f"{left:.1f},{up:.1f}" for left, up in points)}"/>'
        )
        parts += [_marker(name, left, up) for left, up in points]
    parts.append(svg.text((svg.LEFT + svg.RIGHT) / 2, 254, "hits looked at (logarithmic)", anchor="middle"))
    return svg.drawing("Recall by cutoff", 260, parts)


def differences(values: Sequence[float]) -> Markup:
    """Each query's difference, sorted: the area above the line is gained, the area below is lost."""
    groups = np.array_split(np.sort(np.asarray(values, dtype=float))[::-1], min(len(values), _MOST_BARS))
    heights = [float(group.mean()) for group in groups]
    reach = max(1e-3, *(abs(height) for height in heights))
    y = svg.Scale(-reach, reach, 226, 12)
    step = (svg.RIGHT - svg.LEFT) / len(heights)
    parts = svg.horizontal_grid(y, svg.ticks(-reach, reach, 4), sign=True)
    for number, height in enumerate(heights):
        if height:
            name = "trained" if height > 0 else "base"
            up, down = sorted((y(0), y(height)))
            parts.append(svg.bar(name, svg.LEFT + number * step, up, max(step + 0.1, 0.5), down - up))
    parts.append(f'<line class="zero" x1="{svg.LEFT}" x2="{svg.RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>')
    parts.append(
        svg.text((svg.LEFT + svg.RIGHT) / 2, 246, f"{len(values)} queries, most gained first", anchor="middle")
    )
    return svg.drawing("Difference of the trained to the base encoder for each query, sorted", 252, parts)


def scatter(base: Sequence[float], trained: Sequence[float]) -> Markup:
    """Base against trained, one bubble for queries with the same two values, its area their number."""
    top = max(1.0, *base, *trained)
    x, y = svg.Scale(0.0, top, svg.LEFT, 300), svg.Scale(0.0, top, 272, 16)
    counts = Counter((round(b / top * 50), round(t / top * 50)) for b, t in zip(base, trained, strict=True))
    largest = max(counts.values())
    parts = svg.horizontal_grid(y, svg.ticks(0, top, 4), right=300)
    parts += svg.vertical_grid(x, svg.ticks(0, top, 4), 16, 272)
    parts.append(f'<line class="zero dashed" x1="{x(0):.1f}" y1="{y(0):.1f}" x2="{x(top):.1f}" y2="{y(top):.1f}"/>')
    for (its_base, its_trained), count in sorted(counts.items(), key=lambda item: -item[1]):
        name = "trained" if its_trained > its_base else "base" if its_trained < its_base else "equal"
        radius = 2.5 + 11 * math.sqrt(count / largest)
        left, up = x(its_base * top / 50), y(its_trained * top / 50)
        parts.append(
            f'<circle class="bubble {name}" cx="{left:.1f}" cy="{up:.1f}" r="{radius:.1f}"><title>queries: {count}</title></circle>'
        )
    parts.append(svg.text(172, 304, "base encoder", anchor="middle"))
    parts.append('<text x="-144" y="12" transform="rotate(-90)" text-anchor="middle">trained encoder</text>')
    parts += [
        svg.text(312, 60, "above the line:"),
        svg.text(312, 76, "trained better"),
        svg.text(312, 220, "below the line:"),
        svg.text(312, 236, "base better"),
    ]
    return svg.drawing("Each query's value with the base and with the trained encoder", 310, parts)


def ranks(first_relevant: Mapping[str, Sequence[int]]) -> Markup:
    """At which rank a reader meets the first relevant passage: share of queries."""
    shares = {
        name: [sum(low <= rank <= high for rank in its) / max(1, len(its)) for low, high, _ in _RANKS]
        for name, its in first_relevant.items()
    }
    top = max(0.1, *(max(its) for its in shares.values()))
    y = svg.Scale(0.0, top, 220, 12)
    step = (svg.RIGHT - svg.LEFT) / len(_RANKS)
    width = step * 0.8 / len(shares)
    parts = svg.horizontal_grid(y, svg.ticks(0, top, 4), percent=True)
    for number, (_, _, label) in enumerate(_RANKS):
        left = svg.LEFT + number * step + step * 0.1
        parts.append(svg.text(left + step * 0.4, 236, label, anchor="middle"))
        for place, (name, its) in enumerate(shares.items()):
            up = y(its[number])
            parts.append(
                f'<rect class="{name}" x="{left + place * width:.1f}" y="{up:.1f}" width="{width - 1.5:.1f}" height="{220 - up:.1f}"/>'
            )
    parts.append(svg.text((svg.LEFT + svg.RIGHT) / 2, 254, "rank of the first relevant passage", anchor="middle"))
    return svg.drawing("Rank of the first relevant passage, share of queries by system", 260, parts)


def legend(names: Mapping[str, str], *, shapes: bool) -> Markup:
    """What the systems are called, beside their colour, and their marker where a chart draws lines."""
    items = []
    for name, text in names.items():
        shape = _marker(name, 8, 8) if shapes else f'<rect class="{name}" x="3" y="3" width="10" height="10" rx="1"/>'
        items.append(
            f'<span><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>{escape(text)}</span>'
        )
    return Markup('<p class="legend">' + "".join(items) + "</p>")


def _marker(name: str, x: svg.Number, y: svg.Number) -> str:
    if name == "bm25":
        return f'<rect class="{name}" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'
    if name == "base":
        return f'<path class="{name}" d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>'
    return f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
