"""The parts that charts are drawn from, as inline SVG: they follow the page's colours in light and dark and need no script.

Every chart is 400 units wide: on a telephone about 1 unit is 1 pixel, so letters stay readable. Colours are classes of
the page's style sheet (page.css and the page's own); `y` grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from markupsafe import Markup, escape

WIDTH = 400
LEFT, RIGHT = 44, 384
# Coordinates are counted in whole units where they are chosen and in fractions where they are computed.
Number: TypeAlias = float | int


class Scale:
    """Values low..high -> coordinates start..end."""

    def __init__(self, low: Number, high: Number, start: Number, end: Number) -> None:
        self._low, self._start, self._unit = low, start, (end - start) / (high - low)

    def __call__(self, value: Number) -> Number:
        """The coordinate of a value."""
        return self._start + (value - self._low) * self._unit


def ticks(low: Number, high: Number, about: int) -> list[float]:
    """Round values within low..high, `about` so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def drawing(title: str, height: Number, parts: Sequence[str]) -> Markup:
    """A whole chart; the title is for those who do not see it."""
    label = escape(title)
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def text(x: Number, y: Number, content: str, *, anchor: str = "start") -> str:
    """Escaped text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def bar(name: str, x: Number, y: Number, width: Number, height: Number) -> str:
    """A rectangle of class `name`."""
    return f'<rect class="{name}" x="{x:.2f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}"/>'


def whisker(low: Number, high: Number, y: Number) -> str:
    """A horizontal interval."""
    return f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 3:.1f}v6M{high:.1f} {y - 3:.1f}v6"/>'


def vertical_grid(x: Scale, values: Sequence[float], top: Number, bottom: Number, *, sign: bool = False) -> list[str]:
    """Lines at values of the x axis, with their numbers below."""
    lines = [
        f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
        for value in values
    ]
    return lines + [text(x(value), bottom + 14, _shown(value, sign=sign), anchor="middle") for value in values]


def horizontal_grid(
    y: Scale, values: Sequence[float], *, right: Number = RIGHT, sign: bool = False, percent: bool = False
) -> list[str]:
    """Lines at values of the y axis, with their numbers at the left."""
    lines = [
        f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>' for value in values
    ]
    return lines + [
        text(LEFT - 5, y(value) + 4, _shown(value, sign=sign, percent=percent), anchor="end") for value in values
    ]


def _shown(value: Number, *, sign: bool = False, percent: bool = False) -> str:
    if percent:
        return f"{value:.0%}"
    return f"{value:+.3g}" if sign and abs(value) > 1e-12 else f"{value:.3g}" if abs(value) > 1e-12 else "0"
