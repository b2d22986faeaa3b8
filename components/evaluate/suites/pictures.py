"""Charts of a suite's page: a system has a colour and a marker by its place in the suite, the same in every chart."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from components.evaluate.plots import signed, sorted_differences
from components.shared.pages import plots

_MARKERS = "s^oDvP"
_DASHES: tuple[Any, ...] = (
    (0, (1.2, 2.2)),
    (0, (5, 2.5)),
    "-",
    (0, (9, 2)),
    (0, (5, 2, 1.2, 2)),
    (0, (2, 1)),
)
_LEGEND_CHARACTERS, _ROW_CHARACTERS = 15, 20
# Letters of a legend's line above which it has two columns instead of three.
_LEGEND_LINE = 36
_ROW, _GAP, _LEGEND_ROW = 15, 10, 20


class Pictures:
    """Draws charts in which the systems look alike everywhere."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        """Takes what each system is called, in the suite's order."""
        self._labels = labels
        self.numbers = {name: number for number, name in enumerate(labels)}

    def bars(self, groups: Mapping[str, Mapping[str, Mapping[str, float]]], measure: str) -> Markup:
        """The primary measure on each collection: group -> system -> interval."""
        height = sum(len(systems) * _ROW + _GAP for systems in groups.values())
        top = max(1.0, *(row["high"] for systems in groups.values() for row in systems.values()))
        with plots.drawing(
            f"{measure} by collection and system, with intervals", height + _legend_height(self._labels.values())
        ) as chart:
            axes, place, ticks, named = chart.axes, 0.0, [], set[str]()
            for systems in groups.values():
                ticks.append(place + len(systems) * _ROW / 2)
                for name, row in systems.items():
                    middle = place + _ROW / 2
                    label = None if name in named else self._legend_name(name)
                    named.add(name)
                    (patch,) = axes.barh([middle], [row["mean"]], 11, color=self._colour(name), label=label)
                    patch.set_gid(plots.css_class("bar", f"series-{self.numbers[name]}"))
                    patch.set_clip_on(False)
                    plots.whisker(axes, row["low"], row["high"], middle)
                    plots.value_at_the_right(axes, middle, f"{row['mean']:.3f}")
                    place += _ROW
                place += _GAP
            axes.set_yticks(ticks, [plots.shortened(name, _ROW_CHARACTERS) for name in groups])
            _finish_rows(axes, height, 0.0, top)
            chart.legend(_legend_columns(self._labels.values()))
        return chart.svg

    def forest(self, claims: Mapping[str, Sequence[tuple[str, Mapping[str, Any]]]]) -> Markup:
        """The claims: label of the pair -> collection and comparison; at the right the first of a pair is better."""
        rows = [row for of_claim in claims.values() for _, row in of_claim]
        height = len(rows) * _ROW + len(claims) * (_ROW + _GAP)
        reach = 1.08 * max(1e-3, *(max(abs(row["low"]), abs(row["high"])) for row in rows))
        with plots.drawing("Differences of the claims, with intervals", height + 34) as chart:
            axes, place = chart.axes, 0.0
            ticks, names = [], []
            zero: dict[str, Any] = {"color": plots.colour("soft"), "linewidth": 1.0, "clip_on": False}
            for pair, of_claim in claims.items():
                title: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "ha": "left"}
                axes.text(0.0, place + _ROW / 2, plots.shortened(pair, 42), **title)
                place += _ROW
                # Beside the rows only: a line through all would strike the pairs' names out.
                axes.plot([0.0, 0.0], [place, place + len(of_claim) * _ROW], gid=plots.css_class("zero"), **zero)
                for name, row in of_claim:
                    self._interval(axes, row, place + _ROW / 2)
                    ticks.append(place + _ROW / 2)
                    names.append(plots.shortened(name, _ROW_CHARACTERS))
                    place += _ROW
                place += _GAP
            axes.set_yticks(ticks, names)
            _finish_rows(axes, height, -reach, reach)
            axes.xaxis.set_major_formatter(FuncFormatter(signed))
        return chart.svg

    def _interval(self, axes: Axes, row: Mapping[str, Any], place: float) -> None:
        name = row["system"]
        style: dict[str, Any] = {"color": self._colour(row["system"]), "clip_on": False}
        axes.plot([row["low"], row["high"]], [place, place], gid=plots.css_class("line", "claim"), **style)
        marker: dict[str, Any] = {"marker": self._marker(name), "markersize": 7, "markeredgewidth": 0.0}
        axes.plot([row["difference"]], [place], linestyle="none", gid=plots.css_class("mark"), **marker, **style)
        plots.value_at_the_right(axes, place, f"{row['difference']:+.3f}")

    def recall(self, cutoffs: Sequence[int], curves: Mapping[str, Sequence[float]], collection: str) -> Markup:
        """Recall by how many hits are looked at, on a logarithmic axis."""
        last = max(cutoffs[-1], 2)
        with plots.drawing(f"Recall by depth on {collection}", 236 + _legend_height(self._labels.values())) as chart:
            axes = chart.axes
            for name, values in curves.items():
                self._line(axes, name, np.log10(cutoffs).tolist(), values)
            axes.set_xlim(0.0, math.log10(last))
            axes.set_ylim(0.0, 1.0)
            ticks = [tick for tick in (1, 10, 100, 1000) if tick <= last]
            axes.set_xticks(np.log10(ticks), [f"{tick}" for tick in ticks])
            axes.grid(axis="y", clip_on=False)
            axes.set_xlabel("hits looked at (logarithmic)")
            chart.legend(_legend_columns(self._labels.values()))
        return chart.svg

    def by_group(self, rows: Sequence[Mapping[str, Any]], measure: str, what: str) -> Markup:
        """The primary measure of queries in groups, such as by `words in the query`."""
        with plots.drawing(f"{measure} by {what}", 240 + _legend_height(self._labels.values())) as chart:
            axes = chart.axes
            for name in rows[0]["systems"]:
                self._line(axes, name, range(len(rows)), [row["systems"][name] for row in rows])
            axes.set_xlim(-0.4, max(1, len(rows)) - 0.6)
            axes.set_ylim(0.0, 1.0)
            axes.set_xticks(range(len(rows)), [f"{row['group']}\nn={row['num_queries']}" for row in rows])
            axes.grid(axis="y", clip_on=False)
            axes.set_xlabel(f"{what}; n queries")
            chart.legend(_legend_columns(self._labels.values()))
        return chart.svg

    def curve(self, axis: str, points: Sequence[Mapping[str, Any]], measure: str) -> Markup:
        """The primary measure along an axis of the systems, such as the human share: a line for each collection."""
        collections = list(dict.fromkeys(name for point in points for name in point["means"]))
        height = 240 + _legend_height(collections)
        with plots.drawing(f"{measure} by {axis}", height) as chart:
            axes = chart.axes
            for number, name in enumerate(collections):
                here = [point for point in points if name in point["means"]]
                values = [point["means"][name] for point in here]
                self._style_line(axes, number, [point["position"] for point in here], values, name)
            places = sorted({point["position"] for point in points})
            margin = 0.05 * ((places[-1] - places[0]) or 1.0)
            axes.set_xlim(places[0] - margin, places[-1] + margin)
            axes.set_ylim(0.0, 1.0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.grid(axis="y", clip_on=False)
            axes.set_xlabel(plots.shortened(axis, 40))
            chart.legend(_legend_columns(collections))
        return chart.svg

    def differences(self, values: Sequence[float], system: str, against: str, collection: str) -> Markup:
        """The difference of every query, sorted: the area above the line is gained, the area below is lost."""
        gained, lost = ((f"series-{self.numbers[name]}", self._colour(name)) for name in (system, against))
        title = f"Difference of each query on {collection}, sorted"
        return sorted_differences(values, title=title, height=216, gained=gained, lost=lost)

    def _line(self, axes: Axes, name: str, places: Sequence[float] | range, values: Sequence[float]) -> None:
        self._style_line(axes, self.numbers[name], [float(place) for place in places], values, self._labels[name])

    @staticmethod
    def _style_line(axes: Axes, number: int, places: Sequence[float], values: Sequence[float], label: str) -> None:
        axes.plot(
            places,
            list(values),
            color=plots.series_colour(number),
            linewidth=2.0,
            linestyle=_DASHES[number % len(_DASHES)],
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=6,
            markeredgewidth=0.0,
            label=plots.shortened(label, _LEGEND_CHARACTERS),
            clip_on=False,
            gid=plots.css_class("line", f"series-{number}"),
        )

    def _colour(self, name: str) -> str:
        return plots.series_colour(self.numbers[name])

    def _marker(self, name: str) -> str:
        return _MARKERS[self.numbers[name] % len(_MARKERS)]

    def _legend_name(self, name: str) -> str:
        return plots.shortened(self._labels[name], _LEGEND_CHARACTERS)


def _legend_columns(labels: Collection[str]) -> int:
    """Three where the three longest names fit beside each other."""
    lengths = sorted(len(plots.shortened(label, _LEGEND_CHARACTERS)) for label in labels)
    return 3 if sum(lengths[-3:]) <= _LEGEND_LINE else 2


def _legend_height(labels: Collection[str]) -> int:
    return 24 + _LEGEND_ROW * math.ceil(len(labels) / _legend_columns(labels))


def _finish_rows(axes: Axes, height: plots.Number, low: float, high: float) -> None:
    """Rows from the top to the bottom, a grid of values behind them."""
    axes.set_ylim(height, 0.0)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="x", clip_on=False)
