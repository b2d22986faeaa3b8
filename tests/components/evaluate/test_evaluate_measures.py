import math
import random

import ir_measures
import numpy as np
import pytest
import pytrec_eval_ext  # the reference itself, below ir-measures
from pytrec_eval import RelevanceEvaluator

from components.evaluate.measures import JUDGED, curve_measures, parse_measures, per_query

DEFAULT = "nDCG@10 RR@10 R@10 R@100 R@1000"


def values_of(names: str, run: dict[str, float], grades: dict[str, int], min_grade: int = 1) -> list[float]:
    return per_query({"q": run}, grades={"q": grades}, measures=parse_measures(names, min_grade=min_grade))[0].tolist()


def ranking(*passage_ids: str) -> dict[str, float]:
    return {passage_id: float(-rank) for rank, passage_id in enumerate(passage_ids)}


def test_a_graded_ranking_by_hand() -> None:
    # a (grade 2) stands at rank 2, b (grade 1) at rank 4, c (grade 1) is not found.
    found = values_of("nDCG@10 RR@10 R@3 R@10", ranking("x", "a", "y", "b"), {"a": 2, "b": 1, "c": 1, "y": 0})
    gained = 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert found == pytest.approx([gained / ideal, 1 / 2, 1 / 3, 2 / 3])


def test_the_ideal_ranking_comes_from_the_judgements_and_not_from_the_hits() -> None:
    # Only b was found, at rank 1: 1 of an ideal 1 + 1/log2(3).
    assert values_of("nDCG@10", ranking("b"), {"a": 1, "b": 1}) == pytest.approx([1 / (1 + 1 / math.log2(3))])


def test_reciprocal_rank_is_cut_at_its_cutoff() -> None:
    eleventh = ranking(*(f"x{number}" for number in range(10)), "a")
    assert values_of("RR@10 RR@11 RR", eleventh, {"a": 1}) == pytest.approx([0.0, 1 / 11, 1 / 11])


def test_a_cutoff_beyond_the_corpus_looks_at_what_there_is() -> None:
    assert values_of("R@1000", ranking("x", "a"), {"a": 1, "b": 1}) == [0.5]


def test_binary_measures_start_at_the_smallest_relevant_grade() -> None:
    run, grades = ranking("one", "two"), {"one": 1, "two": 2}
    assert values_of("RR@10 R@1", run, grades) == [1.0, 0.5]
    assert values_of("RR@10 R@1", run, grades, min_grade=2) == [0.5, 0.0]
    assert values_of("RR(rel=1)@10", run, grades, min_grade=2) == [1.0]


def test_the_smallest_relevant_grade_does_not_touch_graded_measures() -> None:
    run, grades = ranking("x", "one", "two"), {"one": 1, "two": 2}
    assert values_of("nDCG@10", run, grades, min_grade=2) == values_of("nDCG@10", run, grades)


def test_a_query_without_hits_scores_nothing_and_keeps_its_row() -> None:
    measures = parse_measures(DEFAULT, min_grade=1)
    grades = {"empty": {"a": 1}, "full": {"a": 1}}
    values = per_query({"empty": {}, "full": ranking("a")}, grades=grades, measures=measures)
    assert values.tolist() == [[0.0] * 5, [1.0] * 5]


def test_a_query_without_relevant_passages_scores_nothing() -> None:
    assert values_of(DEFAULT, ranking("a", "b"), {"a": 0}) == [0.0] * 5


def test_a_measure_named_twice_is_measured_in_both_columns() -> None:
    measures = [*parse_measures("R@10", min_grade=1), *parse_measures("R@10", min_grade=1)]
    assert per_query({"q": ranking("a")}, grades={"q": {"a": 1}}, measures=measures).tolist() == [[1.0, 1.0]]


def test_measures_agree_with_trec_eval_on_random_runs() -> None:
    generator = random.Random(7)
    passages = [f"p{number}" for number in range(60)]
    grades = {
        f"q{number}": {p: generator.choice((0, 0, 1, 2, 3)) for p in generator.sample(passages, 12)}
        for number in range(40)
    }
    runs = {query_id: ranking(*generator.sample(passages, generator.randint(1, 50))) for query_id in grades}
    values = per_query(runs, grades=grades, measures=parse_measures("nDCG@10 RR R@10 R@100 AP@10 P@5", min_grade=1))
    names = ("ndcg_cut_10", "recip_rank", "recall_10", "recall_100", "map_cut_10", "P_5")
    reference = RelevanceEvaluator(grades, set(pytrec_eval_ext.supported_measures)).evaluate(runs)
    assert values == pytest.approx(
        np.array([[reference[query_id][name] for name in names] for query_id in runs]), abs=1e-12
    )


def test_a_run_measures_the_same_whatever_else_is_measured_with_it() -> None:
    grades = {f"q{number}": {"a": 1, "b": number % 2} for number in range(6)}
    runs = {query_id: ranking("x", "b", "a") for query_id in grades}
    measures = parse_measures(DEFAULT, min_grade=1)
    together = per_query(runs, grades=grades, measures=measures)
    alone = [per_query({query_id: run}, grades=grades, measures=measures)[0] for query_id, run in runs.items()]
    assert together.tolist() == [row.tolist() for row in alone]


def test_the_recall_curve_ends_at_the_depth() -> None:
    assert [measure["cutoff"] for measure in curve_measures(depth=25, min_grade=1)] == [1, 2, 3, 5, 10, 20, 25]
    assert [measure["cutoff"] for measure in curve_measures(depth=1000, min_grade=1)][-1] == 1000
    assert [str(measure) for measure in curve_measures(depth=1, min_grade=2)] == ["R(rel=2)@1"]


def test_judged_is_the_share_of_the_first_hits_with_a_grade() -> None:
    values = per_query({"q": ranking("a", "b", "x", "y")}, grades={"q": {"a": 1, "b": 0}}, measures=[JUDGED])
    assert values.tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "none named"),
        ("nDGC@10", "'nDGC@10' is not a measure"),
        ("nDCG@ten", "'nDCG@ten' is not a measure"),
        ("R", "'R' is not a measure"),
        ("nDCG@10 NumRet", "'NumRet' counts"),
        ("nDCG(dcg='exp-log2')@10", "is computed by an outside program"),
    ],
)
def test_a_measure_that_cannot_be_computed_is_named_before_any_work(names: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_measures(names, min_grade=1)


def test_mrr_is_another_name_of_rr() -> None:
    assert parse_measures("MRR@10 RR@10", min_grade=1) == [ir_measures.RR @ 10]
