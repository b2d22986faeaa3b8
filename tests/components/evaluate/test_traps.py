"""One test for each trap that evaluations fall into, and equality with pytrec_eval on random runs."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytrec_eval import RelevanceEvaluator
from scipy import stats

from components.evaluate.judgements import find_judgements
from components.evaluate.measures import parse_measures, per_query
from components.evaluate.runs import strictly_decreasing
from components.evaluate.suites.figures import averages, collection_weights
from components.evaluate.suites.foreign import read_foreign
from components.evaluate.suites.results import Measured, Results
from components.evaluate.suites.suite import Collection, Suite, System
from components.shared.dataset import Dataset
from components.shared.measuring.statistics import compare, holm
from components.shared.records import Annotation, Passage, Query

MakeDataset = Callable[..., Dataset]
OURS = "nDCG@10 RR R@10 R@100 AP@100 P@5"
THEIRS = ("ndcg_cut_10", "recip_rank", "recall_10", "recall_100", "map_cut_100", "P_5")


def written_run(path: Path, hits: dict[str, float], order: list[str]) -> dict[str, float]:
    """The run of one query as we read it from another tool's file; lines in the given order, ranks of no meaning."""
    path.write_text("".join(f"q Q0 {passage_id} 7 {hits[passage_id]!r} tool\n" for passage_id in order))
    return strictly_decreasing(read_foreign(path).get("q", []))


def test_a_thousand_random_runs_measure_as_pytrec_eval_measures_them(tmp_path: Path) -> None:
    """Ties, missing and unjudged passages, grades of 0, nothing retrieved, nothing relevant: to within 1e-9."""
    generator = random.Random(11)
    passages = [f"p{number}" for number in range(40)] + ["P1", "p-1", "p_1", "10", "9"]
    measures = parse_measures(OURS, min_grade=1)
    evaluator_names = {"ndcg_cut.10", "recip_rank", "recall.10,100", "map_cut.100", "P.5"}
    num_tied = num_empty = num_without_relevant = 0
    for number in range(1000):
        grades = {p: generator.choice((0, 0, 1, 2)) for p in generator.sample(passages, generator.randint(1, 12))}
        # Two decimals at most, so that most runs have ties, some of them among relevant passages.
        scores = {
            p: round(generator.random(), number % 3) for p in generator.sample(passages, generator.randint(0, 45))
        }
        run = written_run(tmp_path / "run", scores, generator.sample(sorted(scores), len(scores)))
        values = per_query({"q": run}, grades={"q": grades}, measures=measures)[0]
        reference = RelevanceEvaluator({"q": grades}, evaluator_names).evaluate({"q": scores}) if scores else {}
        expected = [reference["q"][name] for name in THEIRS] if scores else [0.0] * len(THEIRS)
        assert values.tolist() == pytest.approx(expected, abs=1e-9)
        num_tied += len(set(scores.values())) < len(scores)
        num_empty += not scores
        num_without_relevant += not any(grades.values())
    assert min(num_tied, num_empty, num_without_relevant) > 10


def test_tied_scores_do_not_depend_on_the_order_of_lines(tmp_path: Path) -> None:
    scores, grades = {"a": 0.5, "b": 0.5, "c": 0.5}, {"q": {"b": 1}}
    measures = parse_measures("RR@10", min_grade=1)
    runs = [written_run(tmp_path / "run", scores, order) for order in (["a", "b", "c"], ["c", "b", "a"])]
    assert runs[0] == runs[1]
    # By descending id: c, b, a.
    assert per_query({"q": runs[0]}, grades=grades, measures=measures).tolist() == [[0.5]]


def test_scores_that_are_equal_in_16_bits_are_kept_apart_in_32(tmp_path: Path) -> None:
    scores = {"a": 0.70001, "b": 0.70002}
    assert np.float16(scores["a"]) == np.float16(scores["b"])
    assert list(written_run(tmp_path / "run", scores, ["a", "b"])) == ["b", "a"]


def test_every_judged_query_is_in_the_denominator(make_dataset: MakeDataset) -> None:
    queries = [Query(name, name) for name in ("found", "lost", "unjudged")]
    dataset = make_dataset(
        [Passage("a", "", "a")], {"test": queries}, {"test": {"found": {"a": 1}, "lost": {"gone": 1}}}
    )
    judgements = find_judgements(dataset, split="test", annotation_folders=[], min_grade=1)
    values = per_query(
        {"found": {"a": 1.0}, "lost": {}}, grades=judgements.grades, measures=parse_measures("RR@10", min_grade=1)
    )
    assert values.mean() == 0.5


def test_a_query_with_an_empty_set_of_judgements_cannot_corrupt_the_next(make_dataset: MakeDataset) -> None:
    """pytrec_eval's issue 49: such a query is dropped before it, and counted."""
    dataset = make_dataset([Passage("a", "", "a")], {"test": [Query("q", "a")]}, {})
    dataset._qrels = {"test": {"empty": {}, "q": {"a": 1}}}
    judgements = find_judgements(dataset, split="test", annotation_folders=[], min_grade=1)
    assert (dict(judgements.grades), judgements.num_dropped) == ({"q": {"a": 1}}, 1)


def test_mrr_at_10_looks_at_ten_hits_only() -> None:
    run = {f"x{number}": float(-number) for number in range(10)} | {"a": -10.0}
    values = per_query({"q": run}, grades={"q": {"a": 1}}, measures=parse_measures("RR@10 MRR@11", min_grade=1))
    assert values[0].tolist() == pytest.approx([0.0, 1 / 11])


def test_the_ideal_ranking_holds_relevant_passages_that_nobody_retrieved() -> None:
    values = per_query(
        {"q": {"a": 1.0}}, grades={"q": {"a": 1, "b": 3}}, measures=parse_measures("nDCG@10", min_grade=1)
    )
    assert values[0, 0] == pytest.approx(1 / (3 + 1 / np.log2(3)))


def test_trec_dl_counts_grade_2_and_more_as_relevant_in_binary_measures_only() -> None:
    run, grades = {"q": {"one": 2.0, "two": 1.0}}, {"q": {"one": 1, "two": 2}}
    binary, graded = "RR@10 R@1 AP@10 P@1", "nDCG@10"
    at_2 = per_query(run, grades=grades, measures=parse_measures(binary, min_grade=2))[0].tolist()
    assert at_2 == [0.5, 0.0, 0.5, 0.0]
    both = [per_query(run, grades=grades, measures=parse_measures(graded, min_grade=grade)) for grade in (1, 2)]
    assert both[0].tolist() == both[1].tolist()


def results_of(collection: Collection, values: dict[str, list[float]], dataset: Dataset) -> Results:
    num_queries = len(next(iter(values.values())))
    judgements = find_judgements(dataset, split="test", annotation_folders=[], min_grade=1)
    names = tuple(f"q{number}" for number in range(num_queries))
    measures = tuple(parse_measures("nDCG@10", min_grade=1))
    systems = {name: Measured(np.array([column]).T, {}, 0, 0, {}) for name, column in values.items()}
    return Results(
        collection,
        dataset,
        judgements,
        query_ids=names,
        topics=None,
        frequencies=None,
        measures=measures,
        curve=(),
        num_unjudged=0,
        systems=systems,
    )


def test_cqadupstack_is_the_mean_of_its_forums_and_counts_once(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([Passage("a", "", "a")], {"test": [Query("q", "a")]}, {"test": {"q": {"a": 1}}})
    collections = [
        Collection(name="scifact", dataset="d"),
        Collection(name="android", dataset="d", group="cqadupstack"),
        Collection(name="english", dataset="d", group="cqadupstack"),
    ]
    suite = Suite(
        systems=(System(name="one", kind="bm25"), System(name="two", kind="bm25")),
        collections=tuple(collections),
        comparisons=(("two", "one"),),
        measures="nDCG@10",
        num_resamples=50,
    )
    # Forums of 3 queries and of 1: each counts alike, (0.6 + 0.2) / 2 = 0.4, and their mean as much as scifact's 0.8.
    rows = zip(collections, ([0.8, 0.8], [0.6, 0.6, 0.6], [0.2]), strict=True)
    results = [results_of(row, {"one": column, "two": [0.0] * len(column)}, dataset) for row, column in rows]
    average = averages(suite, results)["out"]
    assert average["systems"]["one"]["mean"] == pytest.approx((0.8 + 0.4) / 2)
    assert average["num_units"] == 2
    assert average["differences"][0]["mean"] == pytest.approx(-0.6)
    assert collection_weights(collections) == [0.5, 0.25, 0.25]


def test_significance_is_two_sided_paired_over_all_judged_queries_with_holm_and_n() -> None:
    generator = np.random.default_rng(0)
    values = {name: generator.random((50, 2)) for name in ("one", "two", "three")}
    # Also queries on which everything is 0: they stay in.
    for of_system in values.values():
        of_system[:10] = 0.0
    _, rows = compare(
        values,
        measures=["nDCG@10", "RR@10"],
        pairs=[("one", "two"), ("one", "three")],
        num_resamples=100,
        confidence=0.95,
        seed=0,
        primary="nDCG@10",
    )
    expected = [stats.ttest_rel(values["one"][:, 0], values[name][:, 0]).pvalue for name in ("two", "three")]
    claims = [row for row in rows if row.measure == "nDCG@10"]
    assert [row.p_value for row in claims] == pytest.approx(expected)
    assert [row.p_holm for row in claims] == pytest.approx(holm(expected))
    assert {row.num_queries for row in rows} == {50}
    assert all(row.effect_size is not None and row.low <= row.difference <= row.high for row in rows)


def test_the_same_model_as_judge_and_teacher_is_told(
    unjudged_config: Any, write_annotations: Callable[..., str]
) -> None:
    pool = ("volcano-season", "volcano-history")
    judged = Annotation("q-volcano-season", pool, ("positive", "negative"), "utility_selection", "judge-1b", "ok")
    taught = replace(judged, query_id="q-volcano-history", labels=("negative", "positive"))
    folders = [Path(write_annotations(judged, name="one")), Path(write_annotations(taught, name="two"))]
    dataset = Dataset(Path(unjudged_config.dataset_uri))
    assert find_judgements(dataset, split="test", annotation_folders=folders, min_grade=1).taught
    assert not find_judgements(dataset, split="test", annotation_folders=folders[:1], min_grade=1).taught


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 a 1 0.5", "run:2: no line of a TREC run"),
        ("q Q0 a 1 high tool", "run:2: no line of a TREC run"),
        ("q Q0 first 1 0.5 tool", "run:2: passage first twice for query q"),
        ("q Q0 a 1 nan tool", "run:2: no line of a TREC run .a score that is no number"),
    ],
)
def test_a_broken_line_of_a_run_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "run").write_text(f"q Q0 first 1 0.9 tool\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_foreign(tmp_path / "run")
