import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytrec_eval import RelevanceEvaluator, parse_qrel, parse_run

from components.evaluate.suites import cells
from components.evaluate.suites.job import evaluate_suite
from components.shared.manifest import open_artifact, read_manifest
from tests.components.evaluate.suites.suite_inputs import suite_values, write_suite
from tests.tiny_encoder import write_tiny_index

SYSTEMS = ["bm25", "small", "large", "hybrid", "elsewhere"]


def figures_of(config: Any) -> dict[str, Any]:
    evaluate_suite(config)
    figures: dict[str, Any] = json.loads((open_artifact(config.output_uri) / "metrics.json").read_text())
    return figures


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return suite_values(tmp_path)


def test_every_system_is_measured_on_every_collection(tmp_path: Path, values: dict[str, Any]) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    folder = tmp_path / "evaluation"
    assert {name: list(rows["systems"]) for name, rows in figures["collections"].items()} == {
        "first": SYSTEMS,
        "second": SYSTEMS,
    }
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    runs = {f"runs/{name}/{system}.trec" for name in ("first", "second") for system in [*SYSTEMS, "qrels"]}
    others = {"metrics.json", "per_query.csv", "report.html", "report.md", "manifest.json"}
    assert written == runs | others
    # The query names the passage's title, which BM25 finds.
    assert figures["collections"]["first"]["systems"]["bm25"]["nDCG@10"]["mean"] == 1.0


def test_its_files_measure_the_same_with_trec_eval(tmp_path: Path, values: dict[str, Any]) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    for name in ("first", "second"):
        folder = tmp_path / "evaluation" / "runs" / name
        with (folder / "qrels.trec").open() as file:
            evaluator = RelevanceEvaluator(parse_qrel(file), {"ndcg_cut.10"})
        for system in SYSTEMS:
            with (folder / f"{system}.trec").open() as file:
                measured = evaluator.evaluate(parse_run(file))
            expected = sum(row["ndcg_cut_10"] for row in measured.values()) / 6
            assert figures["collections"][name]["systems"][system]["nDCG@10"]["mean"] == pytest.approx(expected)


def test_a_run_made_elsewhere_measures_as_trec_eval_measures_its_own_file(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    with (tmp_path / "evaluation" / "runs" / "first" / "qrels.trec").open() as file:
        evaluator = RelevanceEvaluator(parse_qrel(file), {"ndcg_cut.10"})
    with (tmp_path / "first" / "elsewhere.trec").open() as file:
        measured = evaluator.evaluate(parse_run(file))
    # One query is not in the run: it scores 0 and stays in the denominator.
    assert len(measured) == 5
    of_first = figures["collections"]["first"]
    expected = sum(row["ndcg_cut_10"] for row in measured.values()) / 6
    assert expected > 0
    assert of_first["systems"]["elsewhere"]["nDCG@10"]["mean"] == pytest.approx(expected)
    assert of_first["num_without_hits"]["elsewhere"] == 1


def test_what_was_searched_is_not_searched_again(
    tmp_path: Path, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: Counter[str] = Counter()
    open_search = cells._open_search

    def count(config: cells.CellConfig, dataset: Any) -> Any:
        searched[config.system] += 1
        return open_search(config, dataset)

    monkeypatch.setattr(cells, "_open_search", count)
    first = write_suite(tmp_path, {**values, "systems": values["systems"][:3], "comparisons": [["large", "small"]]})
    evaluate_suite(first)
    assert searched == {"bm25": 2, "small": 2, "large": 2}
    # Two systems more, and other measures: only what is new is searched.
    evaluate_suite(write_suite(tmp_path, {**values, "measures": "RR@10 R@3"}))
    assert searched == {"bm25": 2, "small": 2, "large": 2, "hybrid": 2, "elsewhere": 2}
    # Another index: its systems only.
    write_tiny_index(
        tmp_path / "first" / "large-index",
        dataset=tmp_path / "first" / "dataset",
        encoder=tmp_path / "large",
        factory="HNSW8",
    )
    evaluate_suite(write_suite(tmp_path, {**values, "allow_unlike": True}))
    assert searched == {"bm25": 2, "small": 2, "large": 3, "hybrid": 3, "elsewhere": 2}


def test_the_same_suite_gives_the_same_numbers(tmp_path: Path, values: dict[str, Any]) -> None:
    config = write_suite(tmp_path, values)
    evaluate_suite(config)
    evaluate_suite(again := replace(config, output_uri=str(tmp_path / "again")))
    assert read_manifest(config.output_uri).files == read_manifest(again.output_uri).files


def test_means_are_those_of_the_values_of_each_query(tmp_path: Path, values: dict[str, Any]) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    with (tmp_path / "evaluation" / "per_query.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    mean = sum(float(row["RR@10"]) for row in rows if (row["collection"], row["system"]) == ("second", "small")) / 6
    assert figures["collections"]["second"]["systems"]["small"]["RR@10"]["mean"] == pytest.approx(mean)


def test_only_the_declared_comparisons_of_the_primary_measure_are_claims(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    rows = [row for of_collection in figures["collections"].values() for row in of_collection["comparisons"]]
    claims = [row for row in rows if row["p_holm"] is not None]
    # Two comparisons on two collections, and two other measures that only describe.
    assert (len(rows), len(claims), figures["num_claims"]) == (12, 4, 4)
    assert {row["measure"] for row in claims} == {"nDCG@10"}
    smallest = min(claims, key=lambda row: row["p_value"])
    assert smallest["p_holm"] == pytest.approx(min(1, 4 * smallest["p_value"]))
    assert all("power" in row for row in claims)


def test_every_value_carries_its_signature(tmp_path: Path, values: dict[str, Any]) -> None:
    values["collections"][1] |= {"min_grade": 2, "self_matches": "keep"}
    with pytest.raises(ValueError, match="none of its 6 judgements"):
        figures_of(write_suite(tmp_path, values))
    values["collections"][1]["min_grade"] = 1
    figures = figures_of(write_suite(tmp_path, values))
    first, second = (figures["collections"][name]["signatures"]["nDCG@10"] for name in ("first", "second"))
    assert "measure:nDCG@10|relevant:grade>=1|depth:100|split:test|ties:" in first
    assert "|self:dropped|" in first
    assert "|self:kept|" in second
    assert "|ir-measures:" in first


def test_encoders_that_are_not_like_for_like_are_refused_and_said_first_where_allowed(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    write_tiny_index(
        tmp_path / "first" / "small-index",
        dataset=tmp_path / "first" / "dataset",
        encoder=tmp_path / "small",
        factory="HNSW8",
    )
    with pytest.raises(ValueError, match=r"index_factory HNSW8 against Flat \(small against large\).*allow_unlike"):
        evaluate_suite(write_suite(tmp_path, values))
    figures = figures_of(write_suite(tmp_path, {**values, "allow_unlike": True}))
    assert figures["notes"][0].startswith("Not like for like: index_factory HNSW8 against Flat")


def test_artifacts_that_the_suite_does_not_name_are_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    config = write_suite(tmp_path, values)
    with pytest.raises(ValueError, match=r"--artifacts-uri does not name what .*suite.json names.*retriever evaluate"):
        evaluate_suite(replace(config, artifacts_uri=config.artifacts_uri.partition(",")[2]))


def test_a_system_may_meet_some_collections_only(tmp_path: Path, values: dict[str, Any]) -> None:
    values["systems"][4]["collections"] = ["second"]
    figures = figures_of(write_suite(tmp_path, values))
    assert [list(rows["systems"]) for rows in figures["collections"].values()] == [SYSTEMS[:4], SYSTEMS]
    assert "elsewhere" not in figures["averages"]["all"]["systems"]


def test_queries_that_share_topics_count_as_their_topics(tmp_path: Path, values: dict[str, Any]) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    topics = tmp_path / "topics.tsv"
    with (tmp_path / "evaluation" / "per_query.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["query_id"] for row in rows if row["collection"] == "first"))
    topics.write_text("".join(f"{name}\ttopic-{number // 2}\n" for number, name in enumerate(names)))
    values["collections"][0]["topics"] = str(topics)
    clustered = figures_of(write_suite(tmp_path, values))
    first = clustered["collections"]["first"]
    assert (first["num_queries"], first["num_topics"]) == (6, 3)
    assert (
        first["systems"]["small"]["nDCG@10"]["mean"]
        == (figures["collections"]["first"]["systems"]["small"]["nDCG@10"]["mean"])
    )
    assert first["comparisons"][0]["num_topics"] == 3
    topics.write_text(f"{names[0]}\ttopic\n")
    with pytest.raises(ValueError, match="5 judged queries have no topic"):
        evaluate_suite(write_suite(tmp_path, values))


def test_rare_and_frequent_queries_are_shown_apart_where_it_is_known_how_often_they_were_asked(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    before = figures_of(write_suite(tmp_path, values))
    assert before["collections"]["first"]["by_frequency"] == []
    assert "By frequency" not in (tmp_path / "evaluation" / "report.html").read_text()
    with (tmp_path / "evaluation" / "per_query.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["collection"] == "first" and row["system"] == "small"]
    asked = dict(zip((row["query_id"] for row in rows), (1, 1, 3, 12, 2, 0), strict=True))
    frequencies = tmp_path / "frequencies.tsv"
    frequencies.write_text("".join(f"{query_id}\t{times}\n" for query_id, times in asked.items()))
    values["collections"][0]["frequencies"] = str(frequencies)
    figures = figures_of(write_suite(tmp_path, values))
    groups = figures["collections"]["first"]["by_frequency"]
    # Asked 2 and 3 times is one group; between 4 and 9 there is none.
    assert [(row["group"], row["num_queries"]) for row in groups] == [("0", 1), ("1", 2), ("2-3", 2), ("10-99", 1)]
    once = [float(row["nDCG@10"]) for row in rows if asked[row["query_id"]] == 1]
    assert groups[1]["systems"]["small"] == pytest.approx(sum(once) / 2)
    assert figures["collections"]["second"]["by_frequency"] == []
    assert "By frequency of the query: first" in (tmp_path / "evaluation" / "report.html").read_text()
    frequencies.write_text("".join(f"{query_id}\toften\n" for query_id in asked))
    with pytest.raises(ValueError, match=r"has the frequency 'often'; write a whole number"):
        evaluate_suite(write_suite(tmp_path, values))
    frequencies.write_text("")
    with pytest.raises(ValueError, match="6 judged queries have no frequency"):
        evaluate_suite(write_suite(tmp_path, values))


def test_a_policy_is_decided_and_written_for_a_workflow(tmp_path: Path, values: dict[str, Any]) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'candidate = "small"\nproduction = "bm25"\n[quality]\nmax_loss = 0.01\n[latency]\nmax_p95_ms = 1e6\n'
    )
    figures = figures_of(write_suite(tmp_path, values, policy_uri=str(policy)))
    assert (tmp_path / "evaluation" / "gate.txt").read_text() == "fail"
    gate = json.loads((tmp_path / "evaluation" / "gate.json").read_text())
    assert gate == figures["gate"]
    assert [check["outcome"] for check in gate["checks"] if check["rule"] == "latency"] == ["pass", "pass"]
    assert read_manifest(str(tmp_path / "evaluation")).metrics["gate_passed"] == 0
    assert "Gate: fail" in (tmp_path / "evaluation" / "report.md").read_text()
    policy.write_text(
        'candidate = "bm25"\nproduction = "small"\n[quality]\nmax_loss = 0.01\n[index]\nmin_recall = 0.9\n'
    )
    figures_of(write_suite(tmp_path, values, policy_uri=str(policy)))
    assert (tmp_path / "evaluation" / "gate.txt").read_text() == "pass"
    policy.write_text('candidate = "lost"\nproduction = "small"\n')
    with pytest.raises(ValueError, match=r"policy.toml: .*has no system 'lost'"):
        evaluate_suite(write_suite(tmp_path, values, policy_uri=str(policy)))


def test_systems_on_an_axis_make_a_curve(tmp_path: Path, values: dict[str, Any]) -> None:
    for system, share in (("large", 1), ("small", 0.2)):
        next(row for row in values["systems"] if row["name"] == system).update(axis="human share", position=share)
    figures = figures_of(write_suite(tmp_path, values))
    (points,) = figures["curves"].values()
    assert [(point["position"], point["system"]) for point in points] == [(0.2, "small"), (1.0, "large")]
    of_second = figures["collections"]["second"]["systems"]["large"]["nDCG@10"]["mean"]
    assert points[1]["means"]["second"] == of_second
    assert 'aria-label="nDCG@10 by human share"' in (tmp_path / "evaluation" / "report.html").read_text()


def test_the_averages_of_a_page_are_those_of_its_rows(tmp_path: Path, values: dict[str, Any]) -> None:
    figures = figures_of(write_suite(tmp_path, values))
    assert list(figures["averages"]) == ["all"]
    rows = [figures["collections"][name]["systems"]["small"]["nDCG@10"]["mean"] for name in ("first", "second")]
    assert figures["averages"]["all"]["systems"]["small"]["mean"] == pytest.approx(sum(rows) / 2)
