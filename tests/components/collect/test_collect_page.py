"""The page of a test collection in a real browser: on a phone and on a desk, in light and in dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from components.collect.report import write_report
from tests.pages import SCHEMES, WIDTHS, find_problems, open_browser

_LONG_WORD = "an-organisation/" + "a-very-long-name-" * 6


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of nine systems with long names, and of a collection that people judged nothing of."""
    value = {"mean": 0.5, "low": 0.4, "high": 0.6}
    row = {f"{_LONG_WORD}{number}": value for number in range(9)}
    long = {
        "split": "test",
        "measure": "nDCG@10",
        "confidence": 0.95,
        "pool_depth": 20,
        "num_queries": 30,
        "num_without_labels": 2,
        "num_judgements": 1234,
        "num_useful": 99,
        "judges": [_LONG_WORD],
        "methods": ["utility_selection"],
        "systems": {"human": row, "llm": row, "merged": row},
        "taus": [
            {"against": "llm", "tau": 0.8, "low": 0.2, "high": 1.0},
            {"against": "merged", "tau": None, "low": None, "high": None},
        ],
        "agreement": {"num_judged_by_both": 5, "num_relevant_to_people": 3, "num_useful_to_llm": 2, "num_both": 1},
        "notes": [f"The LLM that judges, {_LONG_WORD}, <b>agrees</b> with itself."],
    }
    alone = {**long, "systems": {"llm": {"bm25": value}, "merged": {"bm25": value}}, "taus": [], "notes": []}
    made = {}
    for name, metrics in (("long", long), ("alone", alone)):
        folder = tmp_path_factory.mktemp(name)
        write_report(folder, metrics)
        made[name] = folder / "report.html"
    return made


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_broken_in_the_page_of_a_collection(
    browser: Chrome, pages: dict[str, Path], width: int, scheme: str
) -> None:
    problems = [
        f"{name}: {problem}"
        for name, path in pages.items()
        for problem in find_problems(browser, path, width=width, scheme=scheme)
    ]
    assert not problems, "\n".join(problems)


def test_names_are_text_and_never_markup(pages: dict[str, Path]) -> None:
    page = pages["long"].read_text()
    assert "&lt;b&gt;agrees" in page
    assert "Kendall&#39;s tau of people&#39;s ranking of the systems: 0.80 with the LLM." in page
    assert "no ranking of people&#39;s to compare with" in pages["alone"].read_text()
