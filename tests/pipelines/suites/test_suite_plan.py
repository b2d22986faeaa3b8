import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.suites.figures import collection_weights
from components.evaluate.suites.suite import read_suite
from pipelines.suites.command import EXIT_GATE, read_gate, run_suite
from pipelines.suites.plan import plan_suite

_SUITES = Path(__file__).parents[3] / "pipelines" / "suites"
ENCODER = {"checkpoint": "packaged:all-MiniLM-L6-v2", "query_tokens": 64, "passage_tokens": 160}


def written(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(json.dumps(values))
    return path


def test_a_raw_collection_and_a_checkpoint_become_steps_that_systems_share(tmp_path: Path) -> None:
    suite = written(
        tmp_path / "suite.json",
        {
            "collections": [
                {"name": "raw", "collection": "/data/raw", "on_problem": "skip"},
                {"name": "made", "dataset": "/data/made"},
            ],
            "systems": [
                {"name": "bm25", "kind": "bm25"},
                {"name": "base", "kind": "encoder", **ENCODER},
                {"name": "hybrid", "kind": "hybrid", **ENCODER},
                {"name": "short", "kind": "encoder", **ENCODER, "passage_tokens": 32, "collections": ["made"]},
            ],
        },
    )
    steps = plan_suite(str(suite), tmp_path / "work")
    assert [step.name.split(" ")[0] for step in steps] == [
        "prepare",
        "export",
        "index",
        "index",
        "export",
        "index",
        "evaluate",
    ]
    assert steps[0].config.on_problem == "skip"
    resolved = read_suite(str(tmp_path / "work" / "suite.json"))
    assert [row.dataset for row in resolved.collections] == [str(tmp_path / "work" / "datasets" / "raw"), "/data/made"]
    base, hybrid, short = resolved.systems[1:]
    assert (base.encoder, base.index) == (hybrid.encoder, hybrid.index)
    assert short.encoder != base.encoder
    # What the evaluation reads is what the steps make.
    made = {step.config.output_uri for step in steps}
    named = set(steps[-1].config.artifacts_uri.split(",")) - {"/data/made"}
    assert named <= made


def test_an_id_of_ir_datasets_is_fetched_before_it_is_prepared(tmp_path: Path) -> None:
    suite = written(
        tmp_path / "suite.json",
        {
            "collections": [
                {"name": "lakes", "collection": "ir_datasets:tiny/lakes/dev", "split": "dev", "on_problem": "skip"}
            ],
            "systems": [{"name": "bm25", "kind": "bm25"}, {"name": "other", "kind": "run", "run": "/runs/other.trec"}],
        },
    )
    fetch, prepare, evaluate = plan_suite(str(suite), tmp_path / "work")
    assert (fetch.module, fetch.config.dataset_id, fetch.config.split) == (
        "components.prepare.catalogue",
        "tiny/lakes/dev",
        "dev",
    )
    assert (prepare.config.collection_uri, prepare.config.on_problem) == (fetch.config.output_uri, "skip")
    assert prepare.config.output_uri in evaluate.config.artifacts_uri.split(",")


def test_the_suite_of_beir_names_ids_that_there_are_and_counts_its_forums_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IR_DATASETS_HOME", str(tmp_path / "home"))
    catalogue = pytest.importorskip("ir_datasets")
    ids = {
        step.config.dataset_id
        for step in plan_suite(str(_SUITES / "beir.toml"), tmp_path / "work")
        if step.module == "components.prepare.catalogue"
    }
    unjudged = [name for name in ids if not all(map(catalogue.load(name).has, ("docs", "queries", "qrels")))]
    assert (len(ids), unjudged) == (25, [])
    collections = read_suite(str(tmp_path / "work" / "suite.json")).collections
    # Thirteen collections and one group, each a fourteenth.
    assert dict(zip((row.name for row in collections), collection_weights(collections), strict=True)) == pytest.approx(
        {row.name: 1 / 14 / (12 if row.group else 1) for row in collections}
    )


def test_a_wrong_suite_is_refused_before_any_step(tmp_path: Path) -> None:
    suite = written(tmp_path / "suite.json", {"collections": [{"name": "raw", "collection": "/data"}], "systems": [{}]})
    with pytest.raises(ValueError, match="systems 1: name is missing"):
        plan_suite(str(suite), tmp_path / "work")
    suite = written(
        tmp_path / "suite.json", {"systems": [{"name": "a", "kind": "encoder", "checkpoint": "packaged:x"}]}
    )
    with pytest.raises(ValueError, match="packaged:x: no such packaged model"):
        plan_suite(str(suite), tmp_path / "work")


def test_a_suite_runs_from_raw_files_to_a_gate_and_does_nothing_the_second_time(
    tmp_path: Path, tiny_collection: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "other.trec"
    queries = [json.loads(line)["_id"] for line in (tiny_collection / "queries.jsonl").read_text().splitlines()]
    run.write_text("".join(f"{name} Q0 {name.removeprefix('q-')} 1 1.0 other\n" for name in queries))
    suite = tmp_path / "suite.toml"
    suite.write_text(
        f'[[collections]]\nname = "tiny"\ncollection = "{tiny_collection}"\n'
        '[[systems]]\nname = "bm25"\nkind = "bm25"\n'
        f'[[systems]]\nname = "other"\nkind = "run"\nrun = "{run}"\n'
    )
    policy = tmp_path / "policy.toml"
    policy.write_text('candidate = "other"\nproduction = "bm25"\n[quality]\nmax_loss = 0.01\n')
    text, code = run_suite(suite, tmp_path / "work", policy)
    # Both find the one relevant passage first: nothing is lost, on any query.
    assert "other and bm25 show no reliable difference in nDCG@10 on tiny" in text
    assert code == 0
    assert read_gate(tmp_path / "work" / "evaluation")[1] == 0
    capfd.readouterr()
    assert run_suite(suite, tmp_path / "work", policy) == (text, code)
    assert capfd.readouterr().err.count("unchanged, skipped") == 2
    # The other run loses a query: only its cell and the evaluation are made again.
    run.write_text("".join(f"{name} Q0 elsewhere 1 1.0 other\n" for name in queries))
    text, code = run_suite(suite, tmp_path / "work", policy)
    assert code == EXIT_GATE
    reasons, gate_code = read_gate(tmp_path / "work" / "evaluation")
    assert gate_code == EXIT_GATE
    assert reasons.startswith("gate: fail\n- tiny: nDCG@10 1.000 -> 0.000 (-100.0 %)")


def test_an_evaluation_without_a_policy_has_no_gate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no gate was decided here; give a policy file"):
        read_gate(tmp_path)
