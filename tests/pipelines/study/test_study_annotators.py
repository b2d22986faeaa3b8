"""Simulated annotators: as precise and as complete as asked, nested, and wrong in the way that is asked for."""

from dataclasses import replace
from typing import get_args

import pytest

from components.shared.records import Annotation, Pool
from pipelines.study.annotators import (
    QUALITIES,
    Collection,
    ErrorKind,
    Pair,
    Quality,
    agreement,
    human_annotations,
    selection,
    simulated_annotations,
)

KINDS = get_args(ErrorKind)
# 200 queries; a pool holds the labelled passage and 30 others, of which BM25 found fifteen; a corpus of 1,000 besides.
LABELLED = {f"q{n}": (f"q{n}-useful",) for n in range(200)}
POOLS = [
    Pool(query_id, (*labelled, *(f"{query_id}-other{i}" for i in range(30))), ("bm25",) * 31, seed=n)
    for n, (query_id, labelled) in enumerate(LABELLED.items())
]
COLLECTION = Collection(
    POOLS,
    LABELLED,
    [*(f"corpus{i}" for i in range(1000)), *(f"q{n}-useful" for n in range(200))],
    {query_id: [f"{query_id}-other0", *labelled, f"{query_id}-beyond"] for query_id, labelled in LABELLED.items()},
)


def wrong_pairs(annotations: list[Annotation]) -> set[Pair]:
    selected = {(a.query_id, p) for a in annotations for p in a.with_label("positive")}
    return selected - COLLECTION.right


@pytest.mark.parametrize("kind", ["uniform", "random"])
@pytest.mark.parametrize("level", QUALITIES)
def test_a_simulated_annotator_meets_its_precision_and_recall(level: str, kind: ErrorKind) -> None:
    measured = agreement(simulated_annotations(COLLECTION, level=level, kind=kind, seed=1), LABELLED)
    # To the pair: 200 labelled pairs, so recall is met to 1/400 and precision to one pair of at least 200.
    assert measured.recall == pytest.approx(QUALITIES[level].recall, abs=1 / 400)
    assert measured.precision == pytest.approx(QUALITIES[level].precision, abs=1 / 200)


def test_the_best_hits_of_every_query_come_before_the_second_of_any() -> None:
    wrong = wrong_pairs(simulated_annotations(COLLECTION, level="utilrank", kind="bm25", seed=1))
    # 144 right at a precision of .713 need 58 wrong, fewer than there are queries: all are somebody's first hit.
    assert len(wrong) == 58
    assert all(passage_id == f"{query_id}-other0" for query_id, passage_id in wrong)
    errors = COLLECTION.errors("bm25", seed=1)
    assert {p for _, p in errors[:200]} == {f"q{n}-other0" for n in range(200)}
    assert {p for _, p in errors[200:]} == {f"q{n}-beyond" for n in range(200)}


def test_uniform_errors_are_of_the_pool_and_random_ones_of_the_corpus() -> None:
    for kind, part in (("uniform", "other"), ("random", "corpus")):
        wrong = wrong_pairs(simulated_annotations(COLLECTION, level="utilsel", kind=kind, seed=1))  # type: ignore[arg-type]
        assert sum(part in passage_id for _, passage_id in wrong) >= 0.8 * len(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_is_what_people_labelled_and_none_comes_twice(kind: ErrorKind) -> None:
    errors = COLLECTION.errors(kind, seed=2)
    assert not COLLECTION.right.intersection(errors)
    assert len(set(errors)) == len(errors)


def test_levels_are_nested_and_the_rest_of_relevance_is_ignored() -> None:
    chosen = {level: selection(COLLECTION, quality, kind="random", seed=3) for level, quality in QUALITIES.items()}
    assert chosen["utilrank"] < chosen["utilsel"] < chosen["relsel"]
    annotations = simulated_annotations(COLLECTION, level="utilsel", kind="random", seed=3)
    assert {(a.query_id, p) for a in annotations for p in a.with_label("ignore")} == chosen["relsel"] - chosen[
        "utilsel"
    ]


def test_what_was_selected_outside_the_pool_joins_it_and_scores_follow_the_labels() -> None:
    for pool, annotation in zip(
        POOLS, simulated_annotations(COLLECTION, level="relsel", kind="random", seed=3), strict=True
    ):
        assert annotation.passage_ids[:31] == pool.passage_ids
        assert set(annotation.labels[31:]) <= {"positive", "ignore"}
        values = {"positive": 2.0, "ignore": 1.0, "negative": 0.0}
        assert annotation.scores == tuple(values[label] for label in annotation.labels)


def test_another_seed_is_another_annotator_of_the_same_quality() -> None:
    first, second = (selection(COLLECTION, QUALITIES["utilsel"], kind="uniform", seed=seed) for seed in (1, 2))
    assert len(first) == len(second)
    assert first != second


def test_people_agree_with_themselves() -> None:
    assert agreement(human_annotations(COLLECTION), LABELLED) == Quality(1.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_label_does_not_depend_on_the_other_pools_order(kind: ErrorKind) -> None:
    turned = replace(COLLECTION, pools=list(reversed(POOLS)))
    assert selection(turned, QUALITIES["relsel"], kind=kind, seed=1) == selection(
        COLLECTION, QUALITIES["relsel"], kind=kind, seed=1
    )
