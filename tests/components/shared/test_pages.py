"""The pages that people open, in a real browser: on a phone and on a desk, in light and in dark."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from components.annotate.cost.ledger import Ledger
from components.annotate.quality.gold import Gold
from components.annotate.quality.page import write_page
from components.annotate.quality.summary import Annotator, quality
from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.evaluate.suites.job import evaluate_suite
from components.shared.calls.tally import Prices, Tally
from components.shared.records import Annotation, Exchange, Label, Passage, Quarantined, Query
from tests.components.evaluate.conftest import build_inputs, read_collection, write_dataset
from tests.components.evaluate.suites.suite_inputs import suite_values, write_suite
from tests.conftest import write_collection
from tests.pages import SCHEMES, WIDTHS, find_problems, open_browser, show

LONG_WORD = "https://example.org/" + "a-very-long-address/" * 12
MEASURES = "nDCG@10 RR(rel=2)@10 Success(rel=2)@1000 R@10 R@1000"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def write_evaluations(folder: Path) -> dict[str, Path]:
    """Reports of the tiny corpus as it is, of two equal systems, and of long words in every text and id."""
    passages, queries, qrels = read_collection(write_collection(folder / "collection"))
    config = build_inputs(folder, write_dataset(folder / "dataset", passages, queries, qrels))
    equal = replace(config, encoder_uri=config.base_encoder_uri, index_uri=config.base_index_uri)
    long = _long_words(folder / "long")
    configs = {"usual": config, "equal": equal, "long": replace(long, measures=MEASURES)}
    for name, its in configs.items():
        evaluate(replace(its, output_uri=str(folder / f"evaluation-{name}")))
    return {f"evaluate-{name}": folder / f"evaluation-{name}" / "report.html" for name in configs}


def _long_words(folder: Path) -> EvaluateConfig:
    folder.mkdir()
    generator = random.Random(0)
    words = [f"word{number}" for number in range(40)]
    passages = [
        Passage(f"{LONG_WORD}{number}", LONG_WORD, f"{' '.join(generator.choices(words, k=9))} {LONG_WORD}")
        for number in range(60)
    ]
    queries = [Query(f"q{number}{LONG_WORD}", f"{' '.join(generator.choices(words, k=3))}") for number in range(40)]
    queries.append(Query("nothing", LONG_WORD))
    qrels = {
        query.query_id: {passage.passage_id: generator.choice((1, 2)) for passage in generator.sample(passages, 3)}
        for query in queries
    }
    return build_inputs(folder, write_dataset(folder / "dataset", passages, {"test": queries}, {"test": qrels}))


def write_suite_pages(folder: Path) -> dict[str, Path]:
    """Suites of two collections, of one with a gate and one claim, and of many systems with long names."""
    folder.mkdir()
    values = suite_values(folder)
    policy = folder / "policy.toml"
    policy.write_text('candidate = "large"\nproduction = "small"\n[quality]\nmax_loss = 0.01\n')
    one = {**values, "collections": values["collections"][:1], "comparisons": [["large", "small"]]}
    labels = [LONG_WORD, "$x^2$ <b>bold</b>", "漢字の名前", "a name of several words", "e"]
    names = [
        (f"{row['name']}{copy}", label)
        for copy in range(2)
        for row, label in zip(values["systems"], labels, strict=True)
    ]
    many = [
        {**row, "name": name, "label": label}
        for row, (name, label) in zip([*values["systems"]] * 2, names, strict=True)
    ]
    pairs = [["large0", "small0"], ["hybrid1", "bm250"], ["elsewhere1", "bm251"]]
    evaluate_suite(write_suite(folder, values))
    evaluate_suite(write_suite(folder, one, policy_uri=str(policy), output_uri=str(folder / "one")))
    evaluate_suite(
        write_suite(folder, {**values, "systems": many, "comparisons": pairs}, output_uri=str(folder / "many"))
    )
    return {
        "suite-usual": folder / "evaluation" / "report.html",
        "suite-one": folder / "one" / "report.html",
        "suite-many": folder / "many" / "report.html",
    }


def _annotations(seed: int, *, biased: bool = False) -> list[Annotation]:
    generator, pool = random.Random(seed), tuple(f"p{number}" for number in range(20))
    found = []
    for number in range(60):
        relevant = tuple(range(4)) if biased else tuple(sorted(generator.sample(range(20), generator.randint(0, 18))))
        labels: list[Label] = ["positive" if place in relevant else "negative" for place in range(20)]
        exchanges = (Exchange("relevance_selection", "paper.1@0", "first", "ok", tuple(range(20)), relevant, ("key",)),)
        method, model = "utility_selection", "an-organisation/a-model-of-many-billions-instruct@revision"
        found.append(Annotation(f"q{number}", pool, tuple(labels), method, model, "ok", exchanges=exchanges))
    return found


def write_quality_pages(folder: Path) -> dict[str, Path]:
    """Pages of one annotator, of eight with long and foreign names, of one without people, and of nothing annotated."""
    generator = random.Random(1)
    gold = Gold(
        "utility labels",
        {f"q{n}": {f"p{p}": generator.choice((0, 0, 1)) for p in range(0, 20, 2)} for n in range(60)},
    )
    ledger = Ledger({"relevance_selection": Tally(60, 2, 123456, 1000, 4321, 98.7)}, 60, 1200, Prices(engine_hour=3.6))
    failed = [Quarantined(f"f{n}", ("p1",), "utility_selection", "m", "unparseable", "", "") for n in range(9)]
    one = Annotator("one", _annotations(0), failed, _annotations(0), _annotations(3), ledger=ledger.as_dict())
    names = [
        LONG_WORD,
        "$\\frac{1}{2}$ dollars",
        "漢字の名前",
        "<b>markup</b>",
        "e",
        "f",
        "g",
        "an annotator\nof two lines",
    ]
    many = [
        Annotator(name, _annotations(seed, biased=seed % 2 == 1), failed, ledger=ledger.as_dict())
        for seed, name in enumerate(names)
    ]
    nothing = [Annotator("nothing", [])]
    reports = {
        "one": quality([one], [gold]),
        "many": quality(many, [gold, Gold("qrels", {"q1": {"p1": 1}})]),
        "alone": quality([replace(one, annotations=_annotations(0), quarantined=())], []),
        "nothing": quality(nothing, [gold]),
    }
    paths = {f"quality-{name}": folder / f"quality-{name}.html" for name in reports}
    for name, report in reports.items():
        write_page(paths[f"quality-{name}"], report, title=f"{name} of the annotators")
    return paths


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return write_evaluations(folder) | write_quality_pages(folder) | write_suite_pages(folder / "suites")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_broken_in_a_page(browser: Chrome, pages: dict[str, Path], width: int, scheme: str) -> None:
    problems = [
        f"{name}: {problem}"
        for name, path in pages.items()
        for problem in find_problems(browser, path, width=width, scheme=scheme)
    ]
    assert not problems, "\n".join(problems)


def test_a_chart_changes_its_colours_with_the_page(browser: Chrome, pages: dict[str, Path]) -> None:
    colours = []
    for scheme in SCHEMES:
        show(browser, pages["evaluate-usual"], width=1280, scheme=scheme)
        colours.append(
            browser.execute_script(
                "return ['.bar.trained path', '.line.base path', 'svg text'].map((selector) => {"
                " const style = getComputedStyle(document.querySelector(selector));"
                " return style.fill + ' ' + style.stroke; })"
            )
        )
    assert all(light != dark for light, dark in zip(*colours, strict=True))


CHART = '<svg viewBox="0 0 400 100" role="img" aria-label="chart" style="width: 300px; display: block">{}</svg>'
SOUND = CHART.format('<path d="M10 10L90 50" style="fill: none; stroke: #00f"/><text x="10" y="90">one</text>')
GRID = '<path d="M10 10L90 10" style="fill: none; stroke: var(--faint)"/><text x="10" y="90">one</text>'

BROKEN = {
    "filled line: polyline": CHART.format('<polyline points="10,10 50,90 90,10" style="stroke: #00f; fill: #f00"/>'),
    "filled line: path": CHART.format('<path d="M10 10L50 90L90 10" style="stroke: #00f"/>'),
    "text outside: far": CHART.format('<rect width="9" height="9"/><text x="390" y="50">far too long a label</text>'),
    "text over text: one and two": CHART.format(
        '<rect width="9" height="9"/><text x="10" y="50">one</text><text x="15" y="52">two</text>'
    ),
    "overflow: the page": '<div style="width: 1500px">wide</div>',
    "overflow: with all details open": '<details><summary>s</summary><div style="width: 1500px">wide</div></details>',
    "contrast 1.": '<p style="color: #808080; background: #999">hardly readable</p>',
    "contrast 1.0": '<p style="color: rgb(255 255 255 / 5%); background: #000">almost transparent</p>',
    "empty chart: chart": CHART.format(GRID),
    "unnamed chart": SOUND.replace(' aria-label="chart"', ""),
    "console: ": "<script>document.title = 'run'</script>",
}


def _write_planted(folder: Path, body: str) -> Path:
    page = folder / "page.html"
    page.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        "<style>:root { --faint: #ecedea; } body { background: #fff; color: #000; margin: 0; }</style></head>"
        f"<body>{SOUND}{body}</body></html>"
    )
    return page


@pytest.mark.parametrize(("problem", "body"), BROKEN.items(), ids=BROKEN)
def test_each_planted_defect_is_seen(browser: Chrome, tmp_path: Path, problem: str, body: str) -> None:
    (found,) = find_problems(browser, _write_planted(tmp_path, body), width=400, scheme="light")
    assert problem in found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sound_page_has_no_problems(browser: Chrome, tmp_path: Path, scheme: str) -> None:
    assert find_problems(browser, _write_planted(tmp_path, "<p>Text.</p>"), width=400, scheme=scheme) == []
