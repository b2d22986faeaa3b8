import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from components.evaluate import plots
from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.shared.manifest import read_manifest
from components.shared.records import Passage, Query

PLANTED = "<script>alert('planted')</script><img src=x onerror=alert(1)> & \"quoted\""


class Page(HTMLParser):
    """Tags with their attributes, and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(config: EvaluateConfig) -> str:
    evaluate(config)
    return (Path(config.output_uri) / "report.html").read_text()


@pytest.fixture
def planted_config(make_config: Callable[..., EvaluateConfig]) -> EvaluateConfig:
    """Query, title, text and ids carry markup."""
    passages = [
        Passage(f"<b>{n}</b>", PLANTED, f"{word} {PLANTED}")
        for n, word in enumerate(("volcano", "glacier", "violin", "bakery"))
    ]
    queries = [
        Query(f"<i>{n}</i>", f"{word} {PLANTED}") for n, word in enumerate(("volcano", "glacier", "violin", "bakery"))
    ]
    qrels = {query.query_id: {passage.passage_id: 1} for query, passage in zip(queries, passages, strict=True)}
    return make_config(passages, {"test": queries}, {"test": qrels})


def test_markup_in_texts_and_ids_is_shown_and_not_run(planted_config: EvaluateConfig) -> None:
    html = page_of(planted_config)
    page = Page(html)
    assert PLANTED in page.text
    assert "<b>0</b>" in page.text
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "iframe", "object", "embed"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "default-src 'none'" in html


def test_the_page_requests_nothing(config: EvaluateConfig) -> None:
    html = page_of(config)
    page = Page(html)
    places = [
        value
        for tag, its in page.tags
        for name, value in its.items()
        if name in ("src", "href", "srcset", "data") and tag != "a"
    ]
    assert places == ["data:,"]
    assert re.search(r"url\(|@import", html) is None
    assert not any(tag in ("script", "iframe", "img", "object") for tag, _ in page.tags)


def test_the_page_says_what_metrics_json_says(config: EvaluateConfig) -> None:
    page = Page(page_of(config))
    flat = read_manifest(config.output_uri).metrics
    for system in ("bm25", "base", "trained", "hybrid_base", "hybrid_trained"):
        assert f"{flat[f'{system}_ndcg_10']:.4f}" in page.text
    assert f"{flat['trained_minus_base_ndcg_10']:+.4f}" in page.text
    assert "Only 6 judged queries" in page.text
    assert "people (qrels)" in page.text


def test_the_page_names_the_digest_of_every_input(config: EvaluateConfig) -> None:
    html = page_of(config)
    manifest = read_manifest(config.output_uri)
    assert set(manifest.inputs) == {"dataset", "base_encoder", "base_index", "encoder", "index"}
    assert all(digest in html for digest in manifest.inputs.values())


def test_the_page_names_no_path_of_this_machine(config: EvaluateConfig, tmp_path: Path) -> None:
    assert str(tmp_path) not in page_of(config)


def test_examples_show_the_queries_that_gained_with_the_hits_of_each_system(config: EvaluateConfig) -> None:
    html = page_of(config)
    gained = html[html.index("Queries that gained most") : html.index("Queries that lost most")]
    page = Page(gained)
    assert re.search(r"what is known about the season of a \w+", page.text)
    assert "[relevant (grade 1)]" in page.text
    assert "[not judged]" in page.text
    differences = [float(value) for value in re.findall(r'<span class="better">([+-][\d.]+)</span></summary>', gained)]
    assert differences == sorted(differences, reverse=True)
    assert 0 < len(differences) <= 5


def test_equal_systems_get_a_page_that_says_so(config: EvaluateConfig) -> None:
    same = replace(config, encoder_uri=config.base_encoder_uri, index_uri=config.base_index_uri)
    page = Page(page_of(same))
    assert "Training made no reliable difference" in page.text
    assert "No query has a higher nDCG@10 with the trained encoder." in page.text
    assert re.search(r"\bnan\b", page.text, re.IGNORECASE) is None


@dataclass(frozen=True)
class Box:
    """Where a shape of a chart stands, in the chart's units; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


NUMBER = re.compile(r"-?[\d.]+")


def box_of(shape: ElementTree.Element) -> Box:
    left, top = (float(number) for number in NUMBER.findall(shape.get("transform", "translate(0 0)")))
    if shape.tag == "circle":
        x, y, radius = (float(shape.attrib[name]) for name in ("cx", "cy", "r"))
        return Box(left + x - radius, top + y - radius, left + x + radius, top + y + radius)
    numbers = np.array([float(number) for number in NUMBER.findall(shape.attrib["d"])]).reshape(-1, 2)
    (x, y), (right, bottom) = numbers.min(axis=0), numbers.max(axis=0)
    return Box(left + x, top + y, left + right, top + bottom)


def shapes_of(svg: str, name: str) -> list[Box]:
    """Shapes of all groups of a CSS class, each inside the chart."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [box_of(shape) for shape in root.iter() if shape.tag in ("path", "circle")]
    assert np.isfinite([[box.left, box.top, box.right, box.bottom] for box in boxes]).all()
    assert all(-1 <= box.left <= box.right <= width + 1 for box in boxes)
    assert all(-1 <= box.top <= box.bottom <= height + 1 for box in boxes)
    groups = [group for group in root.iter("g") if group.attrib["class"] == name]
    return [box_of(shape) for group in groups for shape in group]


@pytest.mark.parametrize("values", [[0.0], [0.0] * 9, [1.0, -1.0], list(np.linspace(-0.2, 0.9, 5000))])
def test_the_difference_chart_draws_any_number_of_queries(values: list[float]) -> None:
    svg = plots.differences(values)
    assert bool(shapes_of(svg, "area trained")) == any(value > 0 for value in values)
    assert bool(shapes_of(svg, "area base")) == any(value < 0 for value in values)
    # Two corners and as many numbers for each of at most 320 steps.
    assert len(svg) < 15_000


def test_areas_of_the_difference_chart_stand_on_their_side_of_the_line() -> None:
    svg = plots.differences([0.5, -0.25, 0.0])
    (gained,), (lost,), (zero,) = (shapes_of(svg, name) for name in ("area trained", "area base", "zero"))
    assert zero.top == zero.bottom
    assert gained.bottom == pytest.approx(zero.top, abs=0.2)
    assert lost.top == pytest.approx(zero.top, abs=0.2)
    assert gained.bottom - gained.top == pytest.approx(2 * (lost.bottom - lost.top), abs=0.3)
    # One query each of three: gained at the left, equal in the middle, lost at the right.
    assert (gained.left, lost.right) == (pytest.approx(zero.left, abs=0.2), pytest.approx(zero.right, abs=0.2))
    assert lost.left - gained.right == pytest.approx((zero.right - zero.left) / 3, abs=0.3)


def test_a_bar_ends_at_its_mean_and_a_whisker_at_its_interval() -> None:
    interval = {"mean": 0.5, "low": 0.25, "high": 0.75}
    svg = plots.bars({"trained": {"RR": interval}, "base": {"RR": interval | {"mean": 1.0}}}, ["RR"])
    ((half,), (whole,)) = (shapes_of(svg, f"bar {name}") for name in ("trained", "base"))
    assert half.right - half.left == pytest.approx((whole.right - whole.left) / 2, abs=0.2)
    line = shapes_of(svg, "whisker")[0]
    assert line.left - half.left == pytest.approx((whole.right - whole.left) / 4, abs=0.2)
    assert line.right - half.left == pytest.approx((whole.right - whole.left) * 3 / 4, abs=0.2)


def test_other_charts_stay_inside_their_boxes_at_their_edges() -> None:
    interval = {"mean": 1.0, "low": 1.0, "high": 1.0}
    svg = plots.bars({"bm25": {"RR": interval}, "base": {"RR": interval | {"mean": 0.0, "low": 0.0}}}, ["RR"])
    assert len(shapes_of(svg, "bar bm25")) == 1
    svg = plots.forest([{"measure": "RR", "against": "base", "difference": 0.0, "low": 0.0, "high": 0.0}])
    assert len(shapes_of(svg, "mark base")) == 1
    assert len(shapes_of(plots.recall_curve([1], {"bm25": [1.0]}), "line bm25")) > 0
    assert len(shapes_of(plots.scatter([0.0, 1.0, 0.5], [0.0, 1.0, 0.25]), "bubbles equal")) == 2
    svg = plots.ranks({"bm25": [0, 1, 2, 4, 11, 101], "base": [0] * 6})
    assert [len(shapes_of(svg, f"bar {name}")) for name in ("bm25", "base")] == [6, 6]


def test_an_interval_that_leaves_its_mean_out_is_drawn_all_the_same() -> None:
    # A bootstrap interval of few queries can lie beside the mean.
    svg = plots.bars({"base": {"RR": {"mean": 0.2, "low": 0.3, "high": 0.4}}}, ["RR"])
    assert shapes_of(svg, "whisker")[0].left > shapes_of(svg, "bar base")[0].right


def test_curves_and_intervals_are_lines_and_nothing_is_filled() -> None:
    curve = ElementTree.fromstring(plots.recall_curve([1, 10, 100], {"base": [0.1, 0.5, 0.9]}))
    line, *markers = next(group for group in curve.iter("g") if group.attrib["class"] == "line base")
    assert "fill: none" in line.attrib["style"]
    assert len(markers) == 3


def test_a_bubble_counts_its_queries_and_its_area_is_their_number() -> None:
    svg = plots.scatter([0.5, 0.5, 0.5, 0.0], [1.0, 1.0, 1.0, 0.0])
    root = ElementTree.fromstring(svg)
    assert sorted(circle.findtext("title") or "" for circle in root.iter("circle")) == ["queries: 1", "queries: 3"]
    (three,), (one,) = shapes_of(svg, "bubbles trained"), shapes_of(svg, "bubbles equal")
    assert (three.right - three.left) ** 2 == pytest.approx(3 * (one.right - one.left) ** 2, rel=0.05)
