"""The page of answers in a real browser: on a phone and on a desk, in light and in dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from components.answer import job
from components.answer.job import answer
from components.shared.records import Passage, Qrel, Query
from tests.components.annotate.fake_engine import FakeEngine
from tests.components.answer.inputs import config, reply, write_inputs, write_run
from tests.components.ask.inputs import write_dataset
from tests.pages import SCHEMES, WIDTHS, find_problems, open_browser

_LONG_WORD = "https://example.org/" + "a-very-long-address/" * 12


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of the usual systems, of the bounds alone, and of long words in every text and name."""
    folder = tmp_path_factory.mktemp("pages")
    write_inputs(folder)
    long = folder / "long"
    long.mkdir()
    corpus = [Passage(f"p{number}{_LONG_WORD}", _LONG_WORD, f"<b>{_LONG_WORD}</b> {number}") for number in range(9)]
    asked = [Query(f"q{number}", _LONG_WORD, (_LONG_WORD, "<script>")) for number in range(9)]
    qrels = [(Qrel(query.query_id, corpus[0].passage_id, 1), "test") for query in asked]
    write_dataset(long / "dataset", corpus, [(query, "test") for query in asked], qrels)
    names = [f"{_LONG_WORD[20:80].replace('/', '-')}{number}" for number in range(7)]
    for name in names:
        write_run(long / f"{name}.trec", {query.query_id: [corpus[1].passage_id] for query in asked})
    runs = ",".join(str(long / f"{name}.trec") for name in names)
    configs = {
        "usual": config(folder),
        "bounds": config(folder, "bounds", runs_uri="", systems=""),
        "long": config(long, runs_uri=runs, systems="", primary="ROUGE-L"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, settings in configs.items():
            said = reply if name != "long" else (lambda _: _LONG_WORD)
            engine = FakeEngine(folder / f"calls-{name}", replies=said)
            patch.setattr(job, "open_engine_of", lambda *_, engine=engine, **__: engine)
            answer(settings)
    return {name: Path(settings.output_uri) / "report.html" for name, settings in configs.items()}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_broken_in_the_page_of_answers(
    browser: Chrome, pages: dict[str, Path], width: int, scheme: str
) -> None:
    problems = [
        f"{name}: {problem}"
        for name, path in pages.items()
        for problem in find_problems(browser, path, width=width, scheme=scheme)
    ]
    assert not problems, "\n".join(problems)


def test_what_others_wrote_is_text_and_never_markup(pages: dict[str, Path]) -> None:
    page = pages["long"].read_text()
    assert "&lt;script&gt;" in page
    assert "<script" not in page
