"""Charts of the report: a system has a colour and a marker of its own, so that colour alone never carries meaning."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from components.evaluate.summary import SYSTEM_NAMES
from components.shared.pages import plots

# Numbers of the page's series colours, markers, and dashes of lines.
COLOURS = {"bm25": 5, "base": 0, "trained": 1, "hybrid_base": 3, "hybrid_trained": 2}
_MARKERS = {"bm25": "s", "base": "^", "trained": "o", "hybrid_base": "v", "hybrid_trained": "D"}
_DASHES: dict[str, Any] = {
    "bm25": (0, (1.2, 2.2)),
    "base": (0, (5, 2.5)),
    "trained": "-",
    "hybrid_base": (0, (5, 2, 1.2, 2)),
    "hybrid_trained": (0, (9, 2)),
}
# Names of systems that fit beside each other above a chart.
_LEGEND_COLUMNS = 3

# A difference chart draws at most this many steps; more queries than that are averaged in groups.
_MOST_STEPS = 320
# Values closer to each other than this share of the axis are one bubble.
_BUBBLE_CELLS = 50
# Square units of the bubble of one query, and of the largest bubble.
_SMALL_BUBBLE, _LARGE_BUBBLE = 50.0, 700.0
_RANKS = ((1, 1, "1"), (2, 3, "2-3"), (4, 10, "4-10"), (11, 100, "11-100"), (101, 10**9, "> 100"), (0, 0, "not found"))
_ROW, _GAP = 15, 10


def bars(systems: Mapping[str, Mapping[str, Mapping[str, float]]], measures: Sequence[str]) -> Markup:
    """Means of each measure, one bar for each system, with the interval as a whisker."""
    top = max(1.0, *(interval["high"] for intervals in systems.values() for interval in intervals.values()))
    group = len(systems) * _ROW + _GAP
    height = len(measures) * group
    with plots.drawing("Mean of each measure by system, with intervals", height + 52) as chart:
        axes = chart.axes
        for row, (name, intervals) in enumerate(systems.items()):
            places = [number * group + row * _ROW + _ROW / 2 for number in range(len(measures))]
            means = [intervals[measure]["mean"] for measure in measures]
            container = axes.barh(places, means, 11, color=_colour(name), label=SYSTEM_NAMES[name])
            for patch in container:
                patch.set_gid(plots.css_class("bar", name))
                patch.set_clip_on(False)
            for measure, place in zip(measures, places, strict=True):
                interval = intervals[measure]
                plots.whisker(axes, interval["low"], interval["high"], place)
                plots.value_at_the_right(axes, place, f"{interval['mean']:.3f}")
        axes.set_yticks([number * group + (group - _GAP) / 2 for number in range(len(measures))], list(measures))
        _finish_rows(axes, height, 0.0, top)
        chart.legend(_LEGEND_COLUMNS)
    return chart.svg


def forest(comparisons: Sequence[Mapping[str, Any]]) -> Markup:
    """Differences with their intervals around the line of no difference."""
    reach = 1.08 * max(1e-3, *(max(abs(row["low"]), abs(row["high"])) for row in comparisons))
    by_measure: dict[str, list[float]] = {}
    place = 0.0
    with plots.drawing(
        "Difference of the trained encoder to each other system, with intervals", _forest_height(comparisons) + 52
    ) as chart:
        axes = chart.axes
        axes.axvline(0.0, color=plots.colour("soft"), linewidth=1.0, gid=plots.css_class("zero"), clip_on=False)
        named: set[str] = set()
        for row in comparisons:
            name = row["against"]
            place += _ROW + (_GAP if row["measure"] not in by_measure else 0)
            by_measure.setdefault(row["measure"], []).append(place)
            label = None if name in named else f"minus {SYSTEM_NAMES[name]}"
            named.add(name)
            style: dict[str, Any] = {"color": _colour(name), "clip_on": False}
            axes.plot([row["low"], row["high"]], [place, place], gid=plots.css_class("line", name), **style)
            marker: dict[str, Any] = {
                "marker": _MARKERS[name],
                "markersize": 7,
                "markeredgewidth": 0.0,
                "linestyle": "none",
            }
            gid = plots.css_class("mark", name)
            axes.plot([row["difference"]], [place], label=label, gid=gid, **marker, **style)
            plots.value_at_the_right(axes, place, f"{row['difference']:+.3f}")
        axes.set_yticks([sum(places) / len(places) for places in by_measure.values()], list(by_measure))
        _finish_rows(axes, place + _ROW / 2 + 4, -reach, reach, sign=True)
        chart.legend(2)
    return chart.svg


def _forest_height(comparisons: Sequence[Mapping[str, Any]]) -> int:
    return len(comparisons) * _ROW + len({row["measure"] for row in comparisons}) * _GAP + _ROW


def recall_curve(cutoffs: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Markup:
    """Recall by how many hits are looked at, on a logarithmic axis."""
    last = max(cutoffs[-1], 2)
    with plots.drawing("Recall by cutoff", 280) as chart:
        axes = chart.axes
        for name, values in curves.items():
            axes.plot(
                np.log10(cutoffs),
                values,
                color=_colour(name),
                linewidth=2.0,
                linestyle=_DASHES[name],
                marker=_MARKERS[name],
                markersize=6,
                markeredgewidth=0.0,
                label=SYSTEM_NAMES[name],
                clip_on=False,
                gid=plots.css_class("line", name),
            )
        axes.set_xlim(0.0, math.log10(last))
        axes.set_ylim(0.0, 1.0)
        ticks = [tick for tick in (1, 10, 100, 1000) if tick <= last]
        axes.set_xticks(np.log10(ticks), [f"{tick}" for tick in ticks])
        axes.grid(axis="y", clip_on=False)
        axes.set_xlabel("hits looked at (logarithmic)")
        chart.legend(_LEGEND_COLUMNS)
    return chart.svg


def differences(values: Sequence[float]) -> Markup:
    """The difference of every query of the trained to the base encoder."""
    title = "Difference of the trained to the base encoder for each query, sorted"
    gained, lost = (("trained", _colour("trained")), ("base", _colour("base")))
    return sorted_differences(values, title=title, height=252, gained=gained, lost=lost)


def sorted_differences(
    values: Sequence[float], *, title: str, height: plots.Number, gained: tuple[str, str], lost: tuple[str, str]
) -> Markup:
    """The difference of every query, sorted: the area above the line is gained, the area below is lost.

    Args:
        values: One a query; more than are drawn are averaged in groups.
        title: What it shows, for those who do not see it.
        height: Of the chart in pixels.
        gained: CSS class and colour of the area above the line.
        lost: The same of the area below.
    """
    groups = np.array_split(np.sort(np.asarray(values, dtype=float))[::-1], min(len(values), _MOST_STEPS))
    heights = np.array([group.mean() for group in groups])
    reach = max(1e-3, float(np.abs(heights).max()))
    with plots.drawing(title, height) as chart:
        axes = chart.axes
        for (name, colour), side in ((gained, heights > 0), (lost, heights < 0)):
            if side.any():
                edges = np.flatnonzero(side)[0] + np.arange(side.sum() + 1)
                gid = plots.css_class("area", name)
                axes.stairs(heights[side], edges, fill=True, color=colour, clip_on=False, gid=gid)
        axes.axhline(0.0, color=plots.colour("soft"), linewidth=1.0, clip_on=False, gid=plots.css_class("zero"))
        axes.set_xlim(0, len(heights))
        axes.set_ylim(-reach, reach)
        axes.set_xticks([])
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(signed))
        axes.grid(axis="y", clip_on=False)
        axes.set_xlabel(f"{len(values)} queries, most gained first")
    return chart.svg


def scatter(base: Sequence[float], trained: Sequence[float]) -> Markup:
    """Base against trained: one bubble for the queries with the same two values, its area their number."""
    top = max(1.0, *base, *trained)
    pairs = zip(base, trained, strict=True)
    counts = Counter((round(b / top * _BUBBLE_CELLS), round(t / top * _BUBBLE_CELLS)) for b, t in pairs)
    area = min(_SMALL_BUBBLE, _LARGE_BUBBLE / max(counts.values()))
    sides = {
        "trained": [cell for cell in counts if cell[1] > cell[0]],
        "base": [cell for cell in counts if cell[1] < cell[0]],
        "equal": [cell for cell in counts if cell[1] == cell[0]],
    }
    with plots.drawing("Value of each query with the base and with the trained encoder", 340) as chart:
        axes = chart.axes
        axes.plot([0, top], [0, top], color=plots.colour("soft"), linewidth=1.0, linestyle=(0, (4, 4)), clip_on=False)
        for name, cells in sides.items():
            # The large ones first, so that they do not hide the small ones.
            cells.sort(key=lambda cell: (-counts[cell], cell))
            axes.scatter(
                [cell[0] * top / _BUBBLE_CELLS for cell in cells],
                [cell[1] * top / _BUBBLE_CELLS for cell in cells],
                s=[area * counts[cell] for cell in cells],
                color=plots.colour("soft") if name == "equal" else _colour(name),
                alpha=0.6,
                linewidths=0.0,
                clip_on=False,
                gid=plots.css_class("bubbles", name),
            )
        chart.tooltips = {
            f"bubbles {name}": [f"queries: {counts[cell]}" for cell in cells] for name, cells in sides.items()
        }
        margin = 0.03 * top
        axes.set(xlim=(-margin, top + margin), ylim=(-margin, top + margin), aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(clip_on=False)
        axes.set(xlabel="base encoder", ylabel="trained encoder")
    return chart.svg


def ranks(first_relevant: Mapping[str, Sequence[int]]) -> Markup:
    """At which rank a reader meets the first relevant passage, as a share of the queries."""
    shares = {
        name: [sum(low <= rank <= high for rank in row) / max(1, len(row)) for low, high, _ in _RANKS]
        for name, row in first_relevant.items()
    }
    top = max(0.1, *(max(row) for row in shares.values()))
    width = 0.8 / len(shares)
    with plots.drawing("Rank of the first relevant passage, share of queries by system", 280) as chart:
        axes = chart.axes
        for number, (name, row) in enumerate(shares.items()):
            lefts = [place - 0.4 + number * width for place in range(len(_RANKS))]
            container = axes.bar(
                lefts, row, width * 0.92, align="edge", color=_colour(name), label=SYSTEM_NAMES[name], clip_on=False
            )
            for patch in container:
                patch.set_gid(plots.css_class("bar", name))
        axes.set_xlim(-0.5, len(_RANKS) - 0.5)
        axes.set_xticks(range(len(_RANKS)), [label for _, _, label in _RANKS])
        axes.set_ylim(0.0, top)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(axis="y", clip_on=False)
        axes.set_xlabel("rank of the first relevant passage")
        chart.legend(_LEGEND_COLUMNS)
    return chart.svg


def _colour(system: str) -> str:
    return plots.series_colour(COLOURS[system])


def _finish_rows(axes: Axes, height: plots.Number, low: float, high: float, *, sign: bool = False) -> None:
    """Rows from the top to the bottom, a grid of values behind them."""
    axes.set_ylim(height, 0.0)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    if sign:
        axes.xaxis.set_major_formatter(FuncFormatter(signed))
    axes.grid(axis="x", clip_on=False)


def signed(value: plots.Number, _position: int | None) -> str:
    """A tick of an axis of differences."""
    return "0" if abs(value) < 1e-12 else f"{value:+.3g}"
