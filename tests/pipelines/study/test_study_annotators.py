"""Simulated annotators: as precise and as complete as asked, nested, and wrong where a model would be."""

import pytest

from components.shared.records import Pool
from pipelines.study.annotators import (
    QUALITIES,
    Quality,
    agreement,
    human_annotations,
    selection,
    simulated_annotations,
    with_judged,
)

# 200 queries, pools of 30: two useful passages, three on the topic, 25 others.
GRADES = {
    f"q{n}": {**{f"q{n}-useful{i}": 1 for i in range(2)}, **{f"q{n}-topic{i}": 0 for i in range(3)}} for n in range(200)
}
POOLS = [
    Pool(query_id, (*judged, *(f"{query_id}-other{i}" for i in range(25))), ("bm25",) * 30, seed=n)
    for n, (query_id, judged) in enumerate(GRADES.items())
]


@pytest.mark.parametrize("level", QUALITIES)
def test_a_simulated_annotator_meets_its_precision_and_recall(level: str) -> None:
    found = agreement(simulated_annotations(POOLS, GRADES, level=level, seed=1), GRADES)
    # To the pair: 400 useful pairs, so recall is met to 1/800 and precision to one pair of at least 400.
    assert found.recall == pytest.approx(QUALITIES[level].recall, abs=1 / 800)
    assert found.precision == pytest.approx(QUALITIES[level].precision, abs=1 / 400)


def test_levels_are_nested_and_the_rest_of_relevance_is_ignored() -> None:
    chosen = {level: selection(POOLS, GRADES, quality, seed=3) for level, quality in QUALITIES.items()}
    assert chosen["utilrank"] < chosen["utilsel"] < chosen["relsel"]
    (first, *_) = annotations = simulated_annotations(POOLS, GRADES, level="utilsel", seed=3)
    ignored = {(a.query_id, p) for a in annotations for p in a.with_label("ignore")}
    assert ignored == chosen["relsel"] - chosen["utilsel"]
    assert first.passage_ids == POOLS[0].passage_ids


def test_errors_prefer_the_topic() -> None:
    wrong = [p for _, p in selection(POOLS, GRADES, QUALITIES["utilsel"], seed=5) if "useful" not in p]
    # 3 of the 28 wrong candidates are on the topic; at odds of 4 the first draws take one in three: 12 / (12 + 25).
    assert 0.2 < sum("topic" in p for p in wrong) / len(wrong) < 0.4


def test_another_seed_is_another_annotator_of_the_same_quality() -> None:
    first, second = (selection(POOLS, GRADES, QUALITIES["utilsel"], seed=seed) for seed in (1, 2))
    assert len(first) == len(second)
    assert first != second


def test_people_agree_with_themselves() -> None:
    assert agreement(human_annotations(POOLS, GRADES), GRADES) == Quality(1.0, 1.0)


def test_a_label_does_not_depend_on_the_other_pools_order() -> None:
    reversed_pools = list(reversed(POOLS))
    assert selection(reversed_pools, GRADES, QUALITIES["relsel"], seed=1) == selection(
        POOLS, GRADES, QUALITIES["relsel"], seed=1
    )


def test_judged_passages_that_nobody_retrieved_join_the_pool_once() -> None:
    (pool,) = with_judged([Pool("q", ("a", "b"), ("bm25", "dense"), seed=1)], {"q": {"b": 1, "c": 0}})
    assert (pool.passage_ids, pool.sources) == (("a", "b", "c"), ("bm25", "dense", "human"))
