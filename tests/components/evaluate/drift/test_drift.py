"""Sampled queries like the release's own are no drift; others are, and the report says in what they differ."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from components.evaluate.drift.comparison import Comparison, Queries, compare, verdict
from components.evaluate.drift.config import DriftConfig
from components.evaluate.drift.job import report_drift
from components.shared.drift.sample import SampledQuery, encoded, file_name
from components.shared.manifest import read_manifest
from components.shared.records import Query
from tests.components.serve.served import PASSAGES, Sources, write_sources

_OWN = [f"{word} the {passage.title}" for word in ("told", "plain", "words of") for passage in PASSAGES]
_CONFIG = DriftConfig(encoder_uri="e", index_uri="i", dataset_uri="d", sample_uri="s", output_uri="o")
SCORES, WITHOUT, CUT = "score of the best hit", "without a good hit", "longer than the encoder reads"
LANGUAGE, WORDS = "in another language", "with a word that no passage holds"


def _queries(scores: Sequence[float], *, cut: int = 0, german: int = 0, unknown: int = 0) -> Queries:
    rows = range(len(scores))
    return Queries(
        texts=[""] * len(scores),
        scores=np.array(scores),
        is_cut=[row < cut for row in rows],
        languages=["de" if row < german else "en" if row % 2 else "" for row in rows],
        unknown=[["word"] if row < unknown else [] for row in rows],
    )


def _compared(own: Queries, sampled: Queries, **settings: Any) -> dict[str, Comparison]:
    rows = compare(own, sampled, ["en"], 0.5, replace(_CONFIG, **settings))
    return {row.name: row for row in rows}


def _drifted(*sides: Queries, **settings: Any) -> list[str]:
    return [name for name, row in _compared(*sides, **settings).items() if row.is_drift]


def test_the_numbers_are_those_of_scipy_and_of_the_arithmetic() -> None:
    own, sampled = _queries(np.linspace(0.4, 1.0, 121).tolist()), _queries(np.linspace(0.2, 0.8, 121).tolist())
    rows = _compared(own, sampled)
    scores, without = rows[SCORES], rows[WITHOUT]
    # Moved by a third of the range: at any point 40 of 121 rows more lie below.
    assert scores.distance == pytest.approx(40 / 121, abs=1 / 121)
    assert scores.sampled - scores.own == pytest.approx(-0.2)
    assert scores.low < -0.2 < scores.high < 0
    # Below .5 lie .4, .405 .. .495 (20 rows), and .2, .205 .. .495 (60 rows).
    assert (without.own, without.sampled) == (pytest.approx(20 / 121), pytest.approx(60 / 121))
    assert without.low < 40 / 121 < without.high
    # Holm: the smallest of five p values five times, the next one four times; three properties do not differ at all.
    raw = sorted([stats.ks_2samp(own.scores, sampled.scores).pvalue, stats.fisher_exact([[20, 101], [60, 61]]).pvalue])
    assert sorted([scores.p_value, without.p_value]) == pytest.approx([5 * raw[0], 4 * raw[1]])
    assert {rows[name].p_value for name in (CUT, LANGUAGE, WORDS)} == {1.0}
    assert _drifted(own, sampled) == [SCORES, WITHOUT]


def test_scores_that_rise_are_other_scores_and_no_drift() -> None:
    low, high = _queries(np.linspace(0.5, 0.8, 200).tolist()), _queries(np.linspace(0.6, 0.9, 200).tolist())
    assert _drifted(low, high) == []
    assert _drifted(high, low) == [SCORES]


@pytest.mark.parametrize(("property_", "name"), [("cut", CUT), ("german", LANGUAGE), ("unknown", WORDS)])
def test_a_share_must_grow_by_more_than_chance_and_by_enough(property_: str, name: str) -> None:
    scores = np.linspace(0.5, 1.0, 200).tolist()
    plain = _queries(scores)
    assert _drifted(plain, _queries(scores, **{property_: 40})) == [name]
    assert _drifted(_queries(scores, **{property_: 40}), plain) == []
    # 6 of 200 are 3 %, less than the 5 % that matter; with 20 queries chance does as much.
    assert _drifted(plain, _queries(scores, **{property_: 6})) == []
    assert _drifted(_queries(scores[:20]), _queries(scores[:20], **{property_: 3})) == []


def test_languages_are_compared_among_the_queries_that_say_theirs() -> None:
    scores = np.linspace(0.5, 1.0, 100).tolist()
    row = _compared(_queries(scores), _queries(scores, german=20))[LANGUAGE]
    assert (row.num_own, row.num_sampled, row.sampled) == (50, 60, pytest.approx(20 / 60))
    nobody = replace(_queries(scores), languages=[""] * 100)
    assert _compared(nobody, nobody)[LANGUAGE].p_value == 1


def test_no_verdict_is_given_on_few_queries() -> None:
    few, many = _queries([0.1] * 99), _queries([0.9] * 100)
    assert verdict([], many, few, _CONFIG) == verdict([], few, many, _CONFIG) == "too few queries"
    assert verdict([], many, many, _CONFIG) == "no drift"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"pointer_uri": "p"}, r"pointer_uri 'p': names the artifacts itself"),
        ({"dataset_uri": ""}, r"pointer_uri '': name it, or encoder, index and dataset"),
    ],
)
def test_the_release_is_named_in_one_way(wrong: dict[str, str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        replace(_CONFIG, **wrong)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    queries = [(Query(f"q{row}", text), "test") for row, text in enumerate(_OWN)]
    return write_sources(tmp_path_factory.mktemp("release"), queries=queries)


def _report(sources: Sources, folder: Path, texts: Sequence[str]) -> tuple[dict[str, Any], str]:
    sample = [SampledQuery(text, len(text), "dense", "v") for text in texts]
    (folder / "sample").mkdir()
    (folder / "sample" / file_name(date(2026, 11, 27), "a" * 12)).write_bytes(encoded(sample, num_seen=2 * len(sample)))
    (folder / "pointer.json").write_text(json.dumps(vars(sources)))
    config = DriftConfig(
        pointer_uri=str(folder / "pointer.json"),
        sample_uri=str(folder / "sample"),
        output_uri=str(folder / "drift"),
        fewest_queries=50,
        num_resamples=200,
    )
    report_drift(config)
    return json.loads((folder / "drift" / "drift.json").read_bytes()), (folder / "drift" / "report.html").read_text()


def test_the_releases_own_queries_sampled_are_no_drift(sources: Sources, tmp_path: Path) -> None:
    values, page = _report(sources, tmp_path, [f"{text} told" for text in _OWN])
    assert values["verdict"] == "no drift", values["comparisons"]
    assert "The queries are like those of the release: 90 queries sampled from 2026-11-27 to 2026-11-27." in page
    metrics = read_manifest(str(tmp_path / "drift")).metrics
    assert (metrics["drifted"], metrics["num_sampled_queries"]) == (0, 90)
    assert values["sample"]["num_seen"] == 180


def test_other_queries_are_drift_and_the_page_says_in_what_and_escapes_them(sources: Sources, tmp_path: Path) -> None:
    german = "Warum ist die <b>Flut</b> am Abend nicht so hoch wie am Morgen"
    values, page = _report(sources, tmp_path, [f"{german} {number}" for number in range(60)])
    assert values["verdict"] == "drift"
    drifted = {row["name"] for row in values["comparisons"] if row["is_drift"]}
    assert drifted == {SCORES, WITHOUT, LANGUAGE, WORDS}
    assert (values["languages"], values["seen_languages"]) == ({"de": 60}, ["en"])
    assert values["new_words"]["flut"] == 60
    assert "Retraining is due." in page
    assert "&lt;b&gt;Flut" in page
    assert "<b>Flut" not in page
    assert read_manifest(str(tmp_path / "drift")).metrics["drifted"] == 1


def test_too_few_are_shown_and_push_no_verdict(sources: Sources, tmp_path: Path) -> None:
    values, page = _report(sources, tmp_path, ["x"] * 49)
    assert values["verdict"] == "too few queries"
    assert "No verdict: 49 queries sampled" in page
    assert "drifted" not in read_manifest(str(tmp_path / "drift")).metrics


def test_a_long_query_counts_as_cut_by_its_whole_length(sources: Sources, tmp_path: Path) -> None:
    long, short = "volcano " * 250, "volcano danger"
    sample = [SampledQuery(long[:2000], 8000, "dense", "v"), SampledQuery(short, len(short), "dense", "v")]
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / file_name(date(2026, 11, 27), "a" * 12)).write_bytes(encoded(sample, num_seen=2))
    report_drift(DriftConfig(**vars(sources), sample_uri=str(tmp_path / "sample"), output_uri=str(tmp_path / "drift")))
    rows = json.loads((tmp_path / "drift" / "drift.json").read_bytes())["comparisons"]
    assert [row["sampled"] for row in rows if row["name"] == CUT] == [0.5]
