"""Which split a query belongs to."""

from collections import Counter

import pytest

from components.prepare.labels.splits import assign_splits, hash_split
from components.shared.records import Query


@pytest.mark.parametrize(
    ("query_id", "split"),
    # `echo "ibase=16; $(printf q112 | md5sum | cut -c1-32 | tr a-f A-F) % 64" | bc` gives 0, 59; 60, 74; 75, 99.
    [("q217", "train"), ("q112", "train"), ("q85", "dev"), ("q71", "dev"), ("q187", "test"), ("q63", "test")],
)
def test_the_hash_of_an_id_decides(query_id: str, split: str) -> None:
    assert hash_split(query_id) == split


def test_the_shares_are_60_15_25() -> None:
    counts = Counter(hash_split(f"query-{number}") for number in range(20_000))
    # Three standard deviations of a binomial with 20,000 draws are at most 0.0104.
    assert {split: round(count / 20_000, 2) for split, count in counts.items()} == pytest.approx(
        {"train": 0.60, "dev": 0.15, "test": 0.25}, abs=0.0105
    )


def queries(*query_ids: str, **topics: str) -> dict[str, Query]:
    return {query_id: Query(query_id, "text", topic=topics.get(query_id, "")) for query_id in query_ids}


def test_without_qrels_every_query_is_split_by_its_hash() -> None:
    query_ids = [f"query-{number}" for number in range(50)]
    assert assign_splits(queries(*query_ids), {}) == {query_id: hash_split(query_id) for query_id in query_ids}


def test_without_qrels_the_queries_of_a_topic_are_split_together() -> None:
    split = assign_splits(queries("q217", "q85", "q187", q217="t", q85="t", q187="t"), {})
    assert set(split.values()) == {hash_split("t")}


def test_with_train_qrels_a_query_without_qrels_trains_for_the_llm() -> None:
    splits = assign_splits(queries("a", "b", "c"), {"a": "train", "b": "test"})
    assert splits == {"a": "train", "b": "test", "c": "train"}


def test_without_train_qrels_a_query_without_qrels_trains() -> None:
    splits = assign_splits(queries("a", "b", "c"), {"a": "dev", "b": "test"})
    assert splits == {"a": "dev", "b": "test", "c": "train"}


def test_a_query_without_qrels_is_held_out_with_its_topic() -> None:
    splits = assign_splits(queries("a", "b", "c", "d", a="s", b="t", c="t", d="s"), {"a": "train", "b": "test"})
    assert splits == {"a": "train", "b": "test", "c": "test", "d": "train"}
