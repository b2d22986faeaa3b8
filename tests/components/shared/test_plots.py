"""Charts as a page may hold them: without ids, references and fixed colours, whatever they are told to write."""

import re
from xml.etree import ElementTree

import matplotlib
import pytest

from components.shared.pages import plots


def chart_of(label: str, title: str = "A chart") -> str:
    with plots.drawing(title, 200) as chart:
        chart.axes.plot([0, 1], [0, 1], color=plots.colour("ink"), label=label, gid=plots.css_class("line", "one"))
        chart.axes.bar([0, 1], [1, 2], color=plots.series_colour(7))
        chart.axes.set_xticks([0, 1], [label, "b"])
        chart.legend(1)
    return chart.svg


def test_colours_are_the_variables_of_the_page() -> None:
    svg = chart_of("label")
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg)) - {"none"}
    # The eighth series has the colour of the second one.
    assert colours == {"var(--ink)", "var(--soft)", "var(--series-1)"}
    assert "#" not in svg


def test_nothing_is_named_referred_to_or_fetched() -> None:
    root = ElementTree.fromstring(chart_of("label"))
    assert {element.tag for element in root.iter()} <= {"svg", "g", "path", "text", "circle"}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert attributes <= {"viewBox", "role", "aria-label", "class", "style", "d", "x", "y", "transform"}
    assert "url(" not in chart_of("label")
    assert "http" not in chart_of("label")


@pytest.mark.parametrize("label", ["$\\frac{1}{2}$", "漢字の名前", "<script>alert(1)</script>", 'a "quote" & more'])
def test_a_label_is_written_as_it_is(label: str) -> None:
    root = ElementTree.fromstring(chart_of(label, title=label))
    texts = [text.text for text in root.iter("text")]
    # On the axis and in the legend.
    assert texts.count(label) == 2
    assert root.attrib["aria-label"] == label


def test_a_long_label_is_shortened_and_odd_characters_are_spaces() -> None:
    assert plots.shortened("short", 10) == "short"
    assert plots.shortened("exactly 10", 10) == "exactly 10"
    assert plots.shortened("far too long a label", 10) == "far too..."
    assert plots.shortened("two\nlines\x00", 20) == "two lines"


def test_a_line_of_a_class_is_found_by_it_and_is_not_filled() -> None:
    root = ElementTree.fromstring(chart_of("label"))
    (group,) = [group for group in root.iter("g") if group.attrib["class"] == "line one"]
    (line,) = group
    assert "fill: none; stroke: var(--ink)" in line.attrib["style"]


def test_every_shape_of_a_group_gets_its_tooltip() -> None:
    with plots.drawing("Bubbles", 200) as chart:
        chart.axes.scatter(
            [0.2, 0.8], [0.2, 0.8], s=[10, 40], color=plots.colour("soft"), gid=plots.css_class("bubbles")
        )
        chart.axes.set(xlim=(0, 1), ylim=(0, 1))
        chart.tooltips = {"bubbles": ["small <one>", "large one"]}
    circles = list(ElementTree.fromstring(chart.svg).iter("circle"))
    assert [circle.findtext("title") for circle in circles] == ["small <one>", "large one"]
    small, large = (float(circle.attrib["r"]) for circle in circles)
    assert large == pytest.approx(2 * small, abs=0.1)


def test_the_same_chart_is_the_same_text_and_the_settings_of_others_are_left_alone() -> None:
    with matplotlib.rc_context({"font.size": 30, "axes.labelcolor": "red"}):
        styled = chart_of("label")
        assert matplotlib.rcParams["font.size"] == 30
    assert styled == chart_of("label")
