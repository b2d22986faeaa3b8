import re
from collections.abc import Callable
from dataclasses import replace
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
    """Query, title, text and ids carry markup; the base encoder reads one word and so does worse."""
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
    for system in ("bm25", "base", "trained"):
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


def well_formed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    numbers = [
        float(n)
        for element in root.iter()
        for name in ("x", "y", "width", "height", "cx", "cy")
        if (n := element.get(name))
    ]
    assert np.isfinite(numbers).all()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert all(-200 <= number <= max(width, height) for number in numbers)
    return root


@pytest.mark.parametrize("values", [[0.0], [0.0] * 9, [1.0, -1.0], list(np.linspace(-0.2, 0.9, 5000))])
def test_the_difference_chart_draws_any_number_of_queries(values: list[float]) -> None:
    bars = well_formed(plots.differences(values)).findall("rect")
    assert len(bars) <= 320
    assert bool(bars) == any(values)


def test_bars_of_the_difference_chart_stand_on_their_side_of_the_line() -> None:
    root = well_formed(plots.differences([0.5, -0.25, 0.0]))
    gained, lost = root.findall("rect")
    zero = root.findall("line")[-1].get("y1")
    assert (gained.get("class"), lost.get("class")) == ("trained", "base")
    assert float(gained.attrib["y"]) + float(gained.attrib["height"]) == pytest.approx(float(zero or 0), abs=0.2)
    assert float(lost.attrib["y"]) == pytest.approx(float(zero or 0), abs=0.2)
    assert float(gained.attrib["height"]) == pytest.approx(2 * float(lost.attrib["height"]), abs=0.2)


def test_other_charts_are_well_formed_at_their_edges() -> None:
    interval = {"mean": 1.0, "low": 1.0, "high": 1.0}
    well_formed(plots.bars({"bm25": {"RR": interval}, "base": {"RR": interval | {"mean": 0.0, "low": 0.0}}}, ["RR"]))
    well_formed(plots.forest([{"measure": "RR", "against": "base", "difference": 0.0, "low": 0.0, "high": 0.0}]))
    well_formed(plots.recall_curve([1], {"bm25": [1.0]}))
    well_formed(plots.scatter([0.0, 1.0, 0.5], [0.0, 1.0, 0.25]))
    well_formed(plots.ranks({"bm25": [0, 1, 2, 4, 11, 101], "base": [0] * 6}))


def test_a_bubble_counts_its_queries() -> None:
    root = well_formed(plots.scatter([0.5, 0.5, 0.5, 0.0], [1.0, 1.0, 1.0, 0.0]))
    assert sorted(circle.findtext("title") or "" for circle in root.findall("circle")) == ["queries: 1", "queries: 3"]
