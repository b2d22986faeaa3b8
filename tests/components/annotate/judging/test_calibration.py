"""Margins by hand, and that they are fitted only where people said enough."""

import math
from pathlib import Path

import orjson
import pytest

from components.annotate.judging.calibration import calibrated, calibration_pools, fit_margins
from components.shared.manifest import read_manifest
from components.shared.records import Annotation, Pool, read_records
from tests.components.annotate.fake_engine import config
from tests.components.annotate.inputs import write_inputs
from tests.components.annotate.test_annotate_job import run


def test_margins_by_hand() -> None:
    # Gaps 0 (marked), 0.2 (marked), 0.3, 0.9 and 0 (marked), 0.1, 0.8 (marked), 1.0. Up to 0: P 2/2, R 2/4, F1 4/6.
    # Up to 0.2: P 3/4, R 3/4, F1 6/8, the best; up to 0.8: 4 of 6, F1 8/10, better still.
    scored = [
        ((-1.0, -1.2, -1.3, -1.9), (True, True, False, False)),
        ((-2.0, -2.1, -2.8, -3.0), (True, False, True, False)),
    ]
    margins = fit_margins(scored)
    assert (margins.positive_margin, margins.ignore_margin) == (pytest.approx(0.8), pytest.approx(0.8))
    assert (margins.precision, margins.recall) == (4 / 6, 1.0)
    # Without the fourth marked passage the cut falls at 0.2, and nothing marked lies behind it.
    scored[1] = ((-2.0, -2.1, -2.8, -3.0), (True, False, False, False))
    margins = fit_margins(scored)
    assert (margins.positive_margin, margins.ignore_margin) == (pytest.approx(0.2), pytest.approx(0.2))


def test_the_ignore_band_holds_what_people_marked_far_behind() -> None:
    near = [((-1.0, *(-1.5 - n / 100 for n in range(9))), (True, *[False] * 9)) for _ in range(30)]
    far = [((-1.0, -3.0), (False, True)) for _ in range(2)]
    margins = fit_margins(near + far)
    assert margins.positive_margin == 0.0
    assert margins.ignore_margin == 2.0
    assert fit_margins(near).ignore_margin == 0.0


def test_the_same_pools_are_drawn_in_any_order() -> None:
    pools = [Pool(f"q{n}", ("a", f"p{n}"), ("bm25",) * 2, 0) for n in range(50)]
    positives = {f"q{n}": [f"p{n}"] for n in range(40)} | {"q3": ["elsewhere"]}
    drawn = calibration_pools(pools, positives, num_queries=10, seed=1)
    assert len(calibration_pools(pools, positives, num_queries=99, seed=1)) == 39 // 2
    assert drawn == calibration_pools(reversed(pools), positives, num_queries=10, seed=1)
    assert len(drawn) == 10
    assert not {"q3", "q45"} & {pool.query_id for pool in calibration_pools(pools, positives, num_queries=99, seed=1)}


def test_too_few_queries_leave_the_margins() -> None:
    its = config(positive_margin=0.1)
    assert calibrated(its, [((-1.0,), (True,))] * 19) == (its, {})
    assert calibrated(its, [((-1.0,), (True,))] * 20)[0].positive_margin == 0.0


def test_shards_cut_at_the_same_margins_and_pay_for_them_once(tmp_path: Path) -> None:
    write_inputs(tmp_path, num_queries=60)
    settings = {
        "method": "query_likelihood",
        "journal_uri": str(tmp_path / "journal"),
        "num_shards": 2,
        "calibration_queries": 30,
    }
    for shard in (0, 1):
        run(tmp_path, f"shard-{shard}", shard=shard, **settings)
    metrics = [read_manifest(str(tmp_path / f"shard-{shard}")).metrics for shard in (0, 1)]
    assert metrics[0]["calibration"] == metrics[1]["calibration"]
    assert metrics[0]["calibration"]["num_queries"] == 30
    # 60 pools of 5 passages, each call once in both shards together.
    assert metrics[0]["calls_made"] + metrics[1]["calls_made"] <= 300
    cut = metrics[0]["calibration"]["positive_margin"]
    for annotation in read_records(tmp_path / "shard-0" / "annotations.jsonl", Annotation):
        best = max(annotation.scores)
        expected = [best - score <= cut or math.isclose(best - score, cut) for score in annotation.scores]
        assert [label == "positive" for label in annotation.labels] == expected
    # The margins have seen the labels of 30 queries: people and LLM are compared on the others.
    report = orjson.loads((tmp_path / "shard-0" / "logs" / "quality.json").read_bytes())
    (measured,) = report["annotators"]
    fitted_on = set(orjson.loads((tmp_path / "shard-0" / "logs" / "calibration.json").read_bytes())["query_ids"])
    labelled = {
        annotation.query_id for annotation in read_records(tmp_path / "shard-0" / "annotations.jsonl", Annotation)
    }
    assert report["num_fitted_on"] == len(fitted_on) == 30
    assert "30 queries are left out" in (tmp_path / "shard-0" / "logs" / "quality.html").read_text()
    assert measured["levels"]["useful"]["against"]["qrels"]["num_queries"] == len(labelled - fitted_on)
    assert 0 < len(labelled - fitted_on) < len(labelled)
    run(tmp_path, "as-given", **(settings | {"calibration_queries": 0, "num_shards": 1}))
    assert read_manifest(str(tmp_path / "as-given")).metrics["calibration"] == {}
