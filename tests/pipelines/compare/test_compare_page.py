"""The page of a comparison, in a real browser: on a phone and on a desk, in light and in dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from pipelines.compare.arms import Arm
from pipelines.compare.content import content_of
from pipelines.compare.page import markdown, write_pages
from pipelines.compare.planning import Given
from tests.pages import SCHEMES, WIDTHS, find_problems, open_browser
from tests.pipelines.compare.inputs import split_of

_LONG = "an-arm-of-a-name-that-fits-into-no-column-of-any-table-" * 2
_UNTRAINED = {"bm25": [0.1, 0.3] * 30, "base": [0.2, 0.6] * 30, "hybrid_base": [0.4, 0.6] * 30}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arms with long names and markup in what a person writes; nothing is trained, so nothing is charged."""
    folder = tmp_path_factory.mktemp("page")
    arms = [Arm(name="base", sentence="<b>bold</b> " + "word " * 60, system="base")]
    arms += [Arm(name=name, sentence="A sentence.", adds={"base": "<i>salt</i>"}) for name in ("short", _LONG)]
    trained = {"trained": [0.3, 0.5] * 30, "hybrid_trained": [0.5, 0.65] * 30}
    cells = {(name, seed): trained for name in ("short", _LONG) for seed in (1, 2)}
    splits = {name: split_of(folder / name, _UNTRAINED, cells, wanted_seeds=3) for name in ("dev", "test")}
    given = Given(folder, folder / "params.yaml", folder, arms, 3)
    write_pages(folder, content_of(given, splits, reads={"short": 2}))
    return folder / "compare.html"


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_broken_in_the_page(browser: Chrome, page: Path, width: int, scheme: str) -> None:
    assert find_problems(browser, page, width=width, scheme=scheme) == []


def test_what_a_person_wrote_is_shown_and_not_run(page: Path) -> None:
    text = page.read_text()
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<i>salt</i>" not in text


def test_both_pages_say_that_seeds_are_missing_and_that_test_was_read_twice(page: Path) -> None:
    said = (page.read_text(), (page.parent / "compare.md").read_text())
    for text in said:
        assert "2 of 3 seeds are finished on dev" in text
        assert "2 of 3 seeds are finished on test" in text
        assert "Test was read with 2 versions of short" in text


def test_a_difference_that_is_more_than_chance_is_bold_in_markdown(tmp_path: Path) -> None:
    better = {"trained": [0.9] * 60, "hybrid_trained": [0.4, 0.6] * 30}
    splits = {"dev": split_of(tmp_path / "dev", _UNTRAINED, {("a", 1): better})}
    given = Given(tmp_path, tmp_path / "params.yaml", tmp_path, [Arm(name="a", sentence="A.")], 1)
    lines = markdown(content_of(given, splits, reads={})).splitlines()
    alone, fused = (next(line for line in lines if line.startswith(f"| {name} ")) for name in ("a", "hybrid(a)"))
    assert alone.count("**+0.") == 2
    # Equal to hybrid(base) on every query.
    assert "| +0.000 (+0.000 to +0.000) |" in fused
