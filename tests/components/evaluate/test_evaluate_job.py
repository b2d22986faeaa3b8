import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from pytrec_eval import RelevanceEvaluator, parse_qrel, parse_run

from components.evaluate.config import EvaluateConfig
from components.evaluate.job import evaluate
from components.prepare.config import PrepareConfig
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.fusion.tuned import Fusion
from components.shared.manifest import artifact_writer, open_artifact, read_manifest
from components.shared.records import Annotation, Passage, Qrel, Query
from tests.tiny_encoder import write_tiny_index

SYSTEMS = ("bm25", "base", "trained", "hybrid_base", "hybrid_trained")


def metrics_of(config: EvaluateConfig) -> dict[str, Any]:
    evaluate(config)
    metrics: dict[str, Any] = json.loads((open_artifact(config.output_uri) / "metrics.json").read_text())
    return metrics


def test_five_systems_are_searched_measured_compared_and_reported(config: EvaluateConfig) -> None:
    metrics = metrics_of(config)
    folder = Path(config.output_uri)
    names = {"metrics.json", "per_query.csv", "qrels.trec", "report.html", "report.md", "gate.json", "gate.txt", "runs"}
    assert {path.name for path in folder.iterdir()} == names | {"manifest.json"}
    assert (metrics["split"], metrics["judge"], metrics["num_queries"], metrics["num_judgements"]) == (
        "test",
        {"kind": "human"},
        6,
        6,
    )
    assert list(metrics["systems"]) == list(SYSTEMS)
    # The query names the passage's title, which BM25 finds; an encoder of few dimensions takes many words for the same.
    assert metrics["systems"]["bm25"]["nDCG@10"]["mean"] == 1.0
    assert metrics["systems"]["trained"]["nDCG@10"]["mean"] > metrics["systems"]["base"]["nDCG@10"]["mean"] > 0
    assert len(metrics["comparisons"]) == 6 * 5


def test_a_gate_stands_beside_the_metrics(config: EvaluateConfig, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('candidate = "bm25"\nproduction = "trained"\n[quality]\n[latency]\nmax_p95_ms = 1e6\n')
    metrics = metrics_of(replace(config, policy_uri=str(policy)))
    assert (Path(config.output_uri) / "gate.txt").read_text() == "pass"
    assert [check["rule"] for check in metrics["gate"]["checks"]] == ["latency"]
    assert "## Gate: pass" in (Path(config.output_uri) / "report.md").read_text()
    policy.write_text('candidate = "trained"\nproduction = "bm25"\n[quality]\nmax_loss = 0.01\n')
    metrics = metrics_of(replace(config, policy_uri=str(policy)))
    assert (Path(config.output_uri) / "gate.txt").read_text() == "fail"
    assert metrics["gate"]["reasons"][0].startswith("test: nDCG@10 1.000 -> ")
    policy.write_text('candidate = "other"\nproduction = "bm25"\n')
    with pytest.raises(ValueError, match=r"no system 'other'; known are bm25, base"):
        evaluate(replace(config, policy_uri=str(policy)))


def test_only_the_headline_measure_is_claimed(config: EvaluateConfig) -> None:
    rows = metrics_of(config)["comparisons"]
    assert {row["measure"] for row in rows if row["p_holm"] is not None} == {"nDCG@10"}
    assert sum(row["p_holm"] is not None for row in rows) == 6


def test_the_files_measure_the_same_with_trec_eval(config: EvaluateConfig) -> None:
    metrics = metrics_of(config)
    folder = Path(config.output_uri)
    with (folder / "qrels.trec").open() as file:
        evaluator = RelevanceEvaluator(parse_qrel(file), {"ndcg_cut.10", "recall.100", "recip_rank"})
    for system in SYSTEMS:
        with (folder / "runs" / f"{system}.trec").open() as file:
            values = evaluator.evaluate(parse_run(file)).values()
        means = metrics["systems"][system]
        assert means["nDCG@10"]["mean"] == pytest.approx(sum(its["ndcg_cut_10"] for its in values) / 6)
        assert means["R@100"]["mean"] == pytest.approx(sum(its["recall_100"] for its in values) / 6)


def test_means_are_those_of_the_values_per_query(config: EvaluateConfig) -> None:
    metrics = metrics_of(config)
    with (Path(config.output_uri) / "per_query.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["query_id", "system", *config.measures.split()]
    for system in SYSTEMS:
        values = [float(row["RR@10"]) for row in rows if row["system"] == system]
        assert metrics["systems"][system]["RR@10"]["mean"] == pytest.approx(sum(values) / 6)


def test_the_same_inputs_give_the_same_bytes(config: EvaluateConfig, tmp_path: Path) -> None:
    evaluate(config)
    evaluate(again := replace(config, output_uri=str(tmp_path / "again")))
    assert read_manifest(config.output_uri).files == read_manifest(again.output_uri).files


def test_the_manifest_carries_flat_numbers_for_a_metric_store(config: EvaluateConfig) -> None:
    metrics = metrics_of(config)
    flat = read_manifest(config.output_uri).metrics
    assert flat["trained_ndcg_10"] == metrics["systems"]["trained"]["nDCG@10"]["mean"]
    assert flat["trained_minus_base_ndcg_10"] == pytest.approx(flat["trained_ndcg_10"] - flat["base_ndcg_10"])
    assert flat["judged_by_llm"] == 0
    # The word is for the condition of a workflow.
    words = {name: value for name, value in flat.items() if not isinstance(value, int | float)}
    assert words == {"verdict": metrics["gate"]["verdict"]}


def test_the_first_measure_named_is_the_headline(config: EvaluateConfig) -> None:
    metrics = metrics_of(replace(config, measures="R@1 nDCG@5"))
    assert metrics["headline_measure"] == "R@1"
    assert "R@1 " in metrics["headline"]


def test_a_shallow_depth_cuts_the_runs(config: EvaluateConfig) -> None:
    metrics = metrics_of(replace(config, depth=3))
    lines = (Path(config.output_uri) / "runs" / "trained.trec").read_text().splitlines()
    assert len(lines) == 6 * 3
    assert metrics["recall_curve"]["cutoffs"] == [1, 2, 3]


def test_where_nobody_judged_the_llm_does_and_everybody_is_told(
    unjudged_config: EvaluateConfig, write_annotations: Callable[..., str]
) -> None:
    pool = ("volcano-season", "volcano-history")
    held_out = Annotation("q-volcano-season", pool, ("positive", "negative"), "utility_selection", "judge-1b", "ok")
    training = replace(held_out, query_id="q-volcano-history", labels=("negative", "positive"))
    shards = [write_annotations(held_out, name="shard0"), write_annotations(training, name="shard1")]
    metrics = metrics_of(replace(unjudged_config, annotations_uri=",".join(shards)))
    assert metrics["judge"] == {"kind": "llm", "model": "judge-1b", "taught": True}
    assert (metrics["num_queries"], metrics["num_judgements"], metrics["num_unjudged"]) == (1, 2, 5)
    assert metrics["headline"].startswith("By the labels of an LLM and not of people: ")
    page = (Path(unjudged_config.output_uri) / "report.html").read_text()
    assert "The judge is the LLM judge-1b and not people" in page
    assert "it is graded by its teacher" in page


def test_nobody_to_judge_is_refused_before_anything_is_searched(unjudged_config: EvaluateConfig) -> None:
    with pytest.raises(ValueError, match=r"split 'test' has no judgements.*--annotations-uri"):
        evaluate(unjudged_config)
    assert not Path(unjudged_config.output_uri).with_name("evaluation.partial").exists()


def test_an_index_of_another_encoder_is_refused(config: EvaluateConfig) -> None:
    with pytest.raises(ValueError, match=r"trained-index: made by encoder .* asked to serve encoder"):
        evaluate(replace(config, base_index_uri=config.index_uri))


def test_an_index_over_another_dataset_is_refused(config: EvaluateConfig, tmp_path: Path) -> None:
    dataset = Dataset(Path(config.dataset_uri))
    other = PrepareConfig(collection_uri="other", output_uri=str(tmp_path / "other-dataset"))
    with artifact_writer("prepare", other) as artifact:
        writer = DatasetWriter(artifact.path)
        for passage in dataset.iter_passages(0, 29):
            writer.add_passage(passage)
        query = dataset.queries("test")[0]
        writer.finish([(query, "test")], [(Qrel(query.query_id, "volcano-season", 1), "test")])
    with pytest.raises(
        ValueError,
        match=r"base-index: made over dataset .* asked to search dataset .*other-dataset.*build the index again",
    ):
        evaluate(replace(config, dataset_uri=other.output_uri))


def test_a_damaged_input_is_named(config: EvaluateConfig) -> None:
    path = Path(config.index_uri) / "index.faiss"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"index\.faiss: .* bytes where the manifest says"):
        evaluate(config)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("confidence", 95.0, "confidence 95.0: must be below 1"),
        ("depth", 0, "depth 0"),
        ("num_resamples", 0, "num_resamples 0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    config: EvaluateConfig, field: str, value: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(replace(config, **{field: value}))


def test_queries_without_hits_or_relevant_passages_stay_in_the_denominator(
    make_config: Callable[..., EvaluateConfig],
) -> None:
    passages = [Passage("a", "", "volcano lava"), Passage("b", "", "glacier ice")]
    queries = [Query("hit", "volcano"), Query("no-hit", "zzz"), Query("nothing-relevant", "glacier")]
    qrels = {"test": {"hit": {"a": 1}, "no-hit": {"b": 1}, "nothing-relevant": {"b": 0}}}
    metrics = metrics_of(replace(make_config(passages, {"test": queries}, qrels), measures="RR@10"))
    # BM25 finds only what shares a word: 1 for the first query, 0 for the second (no hits) and the third (nothing
    # relevant).
    assert metrics["systems"]["bm25"]["RR@10"]["mean"] == pytest.approx(1 / 3)
    assert (metrics["num_queries"], metrics["num_without_relevant"]) == (3, 1)
    assert any("without a relevant passage: 1." in note for note in metrics["notes"])


def test_a_query_that_is_a_passage_is_no_hit_of_a_hybrid_and_does_not_squeeze_its_scores(
    make_config: Callable[..., EvaluateConfig],
) -> None:
    text = "volcano glacier violin bakery"
    passages = [Passage("own", "", text), Passage("good", "", "volcano glacier"), Passage("bad", "", "harbour beehive")]
    qrels = {"test": {"own": {"good": 1}}}
    config = make_config(passages, {"test": [Query("own", text)]}, qrels)
    evaluate(config)
    lines = (Path(config.output_uri) / "runs" / "hybrid_trained.trec").read_text().splitlines()
    ranked = [(line.split(" ")[2], float(line.split(" ")[4])) for line in lines]
    # Best of both among what is left: the whole of both shares.
    assert [passage_id for passage_id, _ in ranked] == ["good", "bad"]
    assert ranked[0][1] == pytest.approx(1.0)
    base = (Path(config.output_uri) / "runs" / "hybrid_base.trec").read_text()
    assert " own " not in base


def test_hybrids_with_other_methods_are_not_like_for_like(config: EvaluateConfig, tmp_path: Path) -> None:
    index = write_tiny_index(
        tmp_path / "rrf-index",
        dataset=Path(config.dataset_uri),
        encoder=Path(config.encoder_uri),
        fusion=Fusion(method="rrf", tuned_on="other labels"),
    )
    with pytest.raises(ValueError, match=r"hybrid_method minmax against rrf; hybrid_tuned_on '' against 'other labels"):
        evaluate(replace(config, index_uri=str(index)))


def test_the_command_line_runs_it_and_a_second_run_does_nothing(config: EvaluateConfig) -> None:
    flags = [part for name, value in asdict(config).items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "components.evaluate", *flags]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    manifest = (Path(config.output_uri) / "manifest.json").read_bytes()
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 0
    assert "unchanged, nothing to do" in second.stderr
    assert (Path(config.output_uri) / "manifest.json").read_bytes() == manifest
    refused = subprocess.run([*command, "--measures", "nDGC@10"], capture_output=True, text=True, check=False)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert "'nDGC@10' is not a measure" in refused.stderr
