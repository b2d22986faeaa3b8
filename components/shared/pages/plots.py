"""Charts of the HTML pages, drawn by matplotlib as inline SVG without script, ids or requests.

What a chart draws sets `clip_on=False`: clipping needs ids, which clash between the charts of a page.

matplotlib knows numbers as colours and no style sheet, but a page is read in light and in dark. So charts are drawn
with stand-in colours (`colour`), and the finished SVG names the page's CSS variables instead. Text stays text in the
page's own font; it is laid out with the widths of DejaVu Sans, which is wider than the fonts that the pages ask for.

Every chart is 400 units wide: on a telephone about 1 unit is 1 pixel, so that letters stay readable. The six charts of
an evaluation of 300 queries take 51 kB of the page (5.8 kB compressed) and 0.7 s on one core, and matplotlib another
0.9 s to be imported, 1.7 s where it has not yet listed the fonts.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

WIDTH, FONT_SIZE = 400, 12
# Data series have the colours --series-0 .. --series-5 of page.css; more series than that start again.
NUM_SERIES = 6

# Coordinates are counted in whole units where they are chosen and in fractions where they are computed.
Number: TypeAlias = float | int

# What the pages' style sheet defines; a chart may use nothing else.
_VARIABLES = ("ink", "soft", "faint", "card", *(f"series-{number}" for number in range(NUM_SERIES)))
_STAND_INS = {f"#fe00{number:02x}": f"var(--{name})" for number, name in enumerate(_VARIABLES)}
_POINTS_PER_INCH = 72
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
# A group of this name gets the rest of it as its class; all other names are matplotlib's own.
_CLASS = "class:"
_DECIMAL = re.compile(r"-?\d+\.\d+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_AROUND_COMMAND = re.compile(r" ?\b([MLCQ]) |(?<=\d) (?=z)")
_FONT_SIZE = re.compile(r"([\d.]+)px")


def colour(variable: str) -> str:
    """The stand-in for a colour of the page, such as `ink` for `--ink`."""
    return f"#fe00{_VARIABLES.index(variable):02x}"


def series_colour(number: int) -> str:
    """The stand-in for the colour of a data series."""
    return colour(f"series-{number % NUM_SERIES}")


def css_class(*names: str) -> str:
    """The `gid` under which an artist's SVG group carries these CSS classes."""
    return _CLASS + " ".join(names)


def shortened(label: str, characters: int) -> str:
    """A label that fits: on one line, and with three dots where something was cut off."""
    label = " ".join("".join(letter if letter.isprintable() else " " for letter in label).split())
    return label if len(label) <= characters else label[: characters - 3].rstrip() + "..."


def whisker(axes: Axes, low: Number, high: Number, place: Number) -> None:
    """Draws a horizontal interval over a bar at the height `place`."""
    ink = colour("ink")
    ends: dict[str, Any] = {"marker": "|", "markersize": 6, "markeredgewidth": 1.3, "markerfacecolor": "none"}
    axes.plot([low, high], [place, place], color=ink, linewidth=1.3, clip_on=False, gid=css_class("whisker"), **ends)


def value_at_the_right(axes: Axes, place: Number, text: str) -> None:
    """Writes a row's value outside the axes, at the height `place`."""
    axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center_baseline", ha="left")


class Drawing:
    """A chart while it is drawn (`axes`), and its SVG afterwards (`svg`)."""

    def __init__(self, title: str, height: Number) -> None:
        """Empty axes on a chart of 400 by `height` units; the title is for readers who do not see it."""
        self.title = title
        self.svg = Markup("")
        # For each CSS class that a group carries: what the pointer shows over each of the group's shapes.
        self.tooltips: Mapping[str, Sequence[str]] = {}
        self.figure = Figure(figsize=(WIDTH / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Axes = self.figure.subplots()
        self.axes.set_axisbelow(True)

    def legend(self, columns: int) -> None:
        """What the labelled artists are called, in one line or more above the chart."""
        self.figure.legend(loc="outside upper left", ncols=columns)


@contextmanager
def drawing(title: str, height: Number) -> Iterator[Drawing]:
    """Draw into `axes` inside the block; `svg` is there when it ends."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # Letters that DejaVu Sans lacks: only their width is guessed, the browser has fonts that hold them.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_style())
        chart = Drawing(title, height)
        yield chart
        file = io.StringIO()
        chart.figure.savefig(file, format="svg")
    chart.svg = Markup(_inlined(file.getvalue(), chart.title, chart.tooltips))


def _style() -> dict[Any, Any]:
    """How every chart looks, before anything is drawn."""
    soft = colour("soft")
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "retriever",
        "text.parse_math": False,
        "text.color": soft,
        "font.size": FONT_SIZE,
        "axes.labelcolor": soft,
        "axes.labelsize": FONT_SIZE,
        "axes.edgecolor": soft,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.spines.bottom": False,
        "axes.xmargin": 0.0,
        "axes.ymargin": 0.0,
        "figure.facecolor": "none",
        "figure.constrained_layout.w_pad": 0.04,
        "figure.constrained_layout.h_pad": 0.07,
        "grid.color": colour("faint"),
        "grid.linewidth": 1.0,
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.major.pad": 5.0,
        "xtick.major.size": 0.0,
        "ytick.major.size": 0.0,
        "xtick.minor.size": 0.0,
        "ytick.minor.size": 0.0,
        "legend.frameon": False,
        "legend.borderaxespad": 0.0,
        "legend.borderpad": 0.25,
        "legend.handlelength": 2.0,
        "legend.handletextpad": 0.4,
        "legend.columnspacing": 1.2,
        "patch.linewidth": 0.0,
    }


def _inlined(text: str, title: str, tooltips: Mapping[str, Sequence[str]]) -> str:
    """The file of matplotlib as an element of the page: without ids, references, fonts and fixed colours."""
    root = ElementTree.fromstring(text)
    shapes = {shape.attrib["id"]: shape for shape in root.iter(f"{_SVG}path") if "id" in shape.attrib}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}defs"):
                parent.remove(child)
    page = ElementTree.Element("svg", {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title})
    for child in root:
        page.extend(_copied(child, shapes, tooltips))
    return ElementTree.tostring(page, encoding="unicode", short_empty_elements=False)


def _copied(
    element: ElementTree.Element, shapes: Mapping[str, ElementTree.Element], tooltips: Mapping[str, Sequence[str]]
) -> list[ElementTree.Element]:
    """An element as the page holds it; a group without a class gives way to its content."""
    if element.tag == f"{_SVG}g":
        content = [copied for child in element for copied in _copied(child, shapes, tooltips)]
        return _grouped(element.get("id", ""), content, tooltips)
    attributes = {name: value for name, value in element.attrib.items() if name not in ("id", "clip-path", "style")}
    style = _declarations(element)
    tag = element.tag.removeprefix(_SVG)
    if element.tag == f"{_SVG}use":
        shape = shapes[attributes.pop(f"{_XLINK}href").removeprefix("#")]
        style = _declarations(shape) | style
        left, top = attributes.pop("x", "0"), attributes.pop("y", "0")
        tag, attributes = "path", {"d": shape.attrib["d"], "transform": f"translate({left} {top})"}
    if tag == "path" and style.get("fill") == "none" and style.get("stroke", "none") == "none":
        return []
    if tag == "text":
        style = _text_style(style)
    elif circle := _circle(attributes["d"]):
        tag, attributes = "circle", {name: value for name, value in attributes.items() if name != "d"} | circle
    copied = ElementTree.Element(tag, {name: _rounded(value) for name, value in attributes.items()})
    if style:
        copied.set("style", "; ".join(f"{name}: {_rounded(value)}" for name, value in style.items()))
    copied.text = element.text if tag == "text" else None
    return [copied]


def _grouped(
    name: str, content: list[ElementTree.Element], tooltips: Mapping[str, Sequence[str]]
) -> list[ElementTree.Element]:
    if not name.startswith(_CLASS) or not content:
        return content
    group = ElementTree.Element("g", {"class": name.removeprefix(_CLASS)})
    group.extend(content)
    shown = tooltips.get(group.attrib["class"], ())
    for shape, text in zip(content, shown, strict=bool(shown)) if shown else ():
        ElementTree.SubElement(shape, "title").text = text
    return [group]


def _declarations(element: ElementTree.Element) -> dict[str, str]:
    """The style of an element, with the page's variables in place of the stand-in colours."""
    pairs = (part.split(":", 1) for part in element.get("style", "").split(";") if ":" in part)
    style = {name.strip(): value.strip() for name, value in pairs}
    if float(style.get("fill-opacity", 1)) == 0:
        # How matplotlib writes that a marker has no area.
        style = {name: value for name, value in style.items() if name != "fill-opacity"} | {"fill": "none"}
    return {name: _STAND_INS.get(value, value) for name, value in style.items()}


def _text_style(style: Mapping[str, str]) -> dict[str, str]:
    """Without the font, which the page decides; a size stays where it is not the usual one."""
    kept = {name: value for name, value in style.items() if name in ("fill", "text-anchor")}
    size = _FONT_SIZE.search(style.get("font", ""))
    return kept | ({"font-size": size.group()} if size and float(size.group(1)) != FONT_SIZE else {})


def _circle(path: str) -> dict[str, str] | None:
    """Centre and radius where a path is matplotlib's circle, which it draws from the bottom with eight curves.

    A circle is a third of the text of that path, and a page may hold a thousand of them.
    """
    numbers = [float(number) for number in _NUMBER.findall(path)]
    if path.count("C") != 8 or len(numbers) != 2 + 8 * 6:
        return None
    (left, bottom), top = numbers[:2], numbers[2 + 4 * 6 - 1]
    return {"cx": f"{left:.6f}", "cy": f"{(bottom + top) / 2:.6f}", "r": f"{(bottom - top) / 2:.6f}"}


def _rounded(value: str) -> str:
    """To a tenth of a unit, which nobody sees; a path without its line breaks."""
    value = _DECIMAL.sub(lambda match: f"{float(match.group()):.1f}".removesuffix(".0"), value)
    return _AROUND_COMMAND.sub(r"\1", " ".join(value.split()))
