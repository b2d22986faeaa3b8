"""Which split a query belongs to."""

from collections import Counter

import pytest

from components.prepare.splits import assign_splits, hash_split


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


def test_without_qrels_every_query_is_split_by_its_hash() -> None:
    query_ids = [f"query-{number}" for number in range(50)]
    assert assign_splits(query_ids, {}) == {query_id: hash_split(query_id) for query_id in query_ids}


def test_with_train_qrels_a_query_without_qrels_trains_for_the_llm() -> None:
    assert assign_splits(["a", "b", "c"], {"a": "train", "b": "test"}) == {"a": "train", "b": "test", "c": "train"}


def test_without_train_qrels_a_query_without_qrels_trains() -> None:
    assert assign_splits(["a", "b", "c"], {"a": "dev", "b": "test"}) == {"a": "dev", "b": "test", "c": "train"}
