"""Charts of the label-quality page; the page's legend and tables show the colour of every annotator beside its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from components.shared.pages import plots

# Bars of a histogram; pools that select more fall into the last one.
_MOST_COUNTS = 16
_ROW, _HEADING = 15, 20


def agreement(rows: Sequence[tuple[str, int, Mapping[str, Any]]]) -> Markup:
    """Precision and recall of each row (label, number of its colour, agreement with people), with their intervals."""
    group = _HEADING + 2 * _ROW + 6
    height = group * len(rows)
    ticks: dict[float, str] = {}
    with plots.drawing("Precision and recall against people, with intervals", height + 34) as chart:
        axes = chart.axes
        for row, (label, number, against) in enumerate(rows):
            axes.text(0.0, row * group + _HEADING / 2, label, va="center_baseline")
            for line, measure in enumerate(("precision", "recall")):
                place = row * group + _HEADING + (line + 0.5) * _ROW
                ticks[place] = measure
                _estimate_bar(axes, place, number, against[measure])
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.set(ylim=(height, 0.0), xlim=(0.0, 1.0))
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[2.5, 5, 10]))
        axes.grid(axis="x", clip_on=False)
    return chart.svg


def _estimate_bar(axes: Axes, place: plots.Number, number: int, estimate: Mapping[str, float | None]) -> None:
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        axes.text(0.02, place, "nothing selected", va="center_baseline")
        return
    (bar,) = axes.barh(place, value, 10, color=plots.series_colour(number), clip_on=False)
    bar.set_gid(plots.css_class("bar"))
    plots.whisker(axes, low, high, place)
    plots.value_at_the_right(axes, place, f"{value:.3f}")


def selection_counts(histograms: Sequence[tuple[int, Sequence[int]]]) -> Markup:
    """How many passages of a pool are selected: share of queries, for each (number of the colour, histogram)."""
    folded = [(number, _folded(counts)) for number, counts in histograms]
    shares = [(number, [count / max(1, sum(counts)) for count in counts]) for number, counts in folded]
    longest = max((len(row) for _, row in shares), default=1) or 1
    width = 0.86 / max(1, len(shares))
    with plots.drawing("Number of passages selected from a pool, share of queries", 260) as chart:
        axes = chart.axes
        for place, (number, row) in enumerate(shares):
            lefts = [size - 0.43 + place * width for size in range(len(row))]
            bars = axes.bar(lefts, row, width * 0.95, align="edge", color=plots.series_colour(number), clip_on=False)
            for bar in bars:
                bar.set_gid(plots.css_class("bar"))
        labels = [f"{size}+" if size == _MOST_COUNTS - 1 else f"{size}" for size in range(longest)]
        axes.set_xticks(range(longest), labels)
        axes.set_xlim(-0.5, longest - 0.5)
        _share_axis(axes, max((share for _, row in shares for share in row), default=0.0), least=0.1)
        axes.set_xlabel("passages selected from a pool")
    return chart.svg


def _folded(counts: Sequence[int]) -> list[int]:
    kept = list(counts[: _MOST_COUNTS - 1])
    return [*kept, sum(counts[_MOST_COUNTS - 1 :])] if len(counts) >= _MOST_COUNTS else kept


def positions(report: Mapping[str, Any], number: int) -> Markup:
    """Selection rate by position in the prompt; the dashed line is what an unbiased annotator would select there."""
    rates, expected = report["rates"], report["expected"]
    with plots.drawing("Selection rate by position in the prompt", 210) as chart:
        axes = chart.axes
        for bar in axes.bar(range(len(rates)), rates, 0.8, color=plots.series_colour(number), clip_on=False):
            bar.set_gid(plots.css_class("bar"))
        soft = plots.colour("soft")
        for position, rate in enumerate(expected):
            ends = [position - 0.5, position + 0.5]
            gid = plots.css_class("expected")
            axes.plot(ends, [rate, rate], color=soft, linewidth=1.2, linestyle=(0, (3, 2)), clip_on=False, gid=gid)
        shown = range(0, len(rates), max(1, len(rates) // 16))
        axes.set_xticks(shown, [f"{position + 1}" for position in shown])
        axes.set_xlim(-0.5, max(1, len(rates)) - 0.5)
        _share_axis(axes, max([*rates, *expected], default=0.0), least=0.05)
        axes.set_xlabel("position in the prompt")
    return chart.svg


def _share_axis(axes: Axes, top: plots.Number, *, least: float) -> None:
    axes.set_ylim(0.0, max(top, least))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="y", clip_on=False)
