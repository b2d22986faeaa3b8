from pathlib import Path

import pytest

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.measuring.trec import read_top
from components.shared.records import Passage, Query


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "dataset").mkdir()
    writer = DatasetWriter(tmp_path / "dataset")
    for passage_id in ("a", "b", "c", "two words", "50%25"):
        writer.add_passage(Passage(passage_id, "", "text"))
    writer.finish([(Query("q", "text"), "test"), (Query("a query", "text"), "test")], [])
    return Dataset(tmp_path / "dataset")


def test_a_ranking_is_by_score_whatever_the_ranks_say_and_ties_go_to_the_higher_id(
    dataset: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "run.trec"
    # In 32 bits the scores of a and c are one.
    path.write_text("q Q0 a 1 0.5000000001 s\nq Q0 b 2 0.9 s\n\nq\tQ0\tc\t3\t0.5\ts\n")
    assert read_top(path, dataset, query_ids={"q"}, depth=10) == {"q": ("b", "c", "a")}
    assert read_top(path, dataset, query_ids={"q"}, depth=2) == {"q": ("b", "c")}


def test_white_space_in_ids_is_read_back_and_percent_signs_stay(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("a%20query Q0 two%20words 1 2 s\na%20query Q0 50%25 2 1 s\n")
    assert read_top(path, dataset, query_ids={"a query"}, depth=3) == {"a query": ("two words", "50%25")}


def test_queries_that_are_not_asked_for_are_left_out(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q Q0 a 1 2 s\na%20query Q0 nowhere 1 1 s\n")
    # Only what is wanted is looked up: a run of a larger corpus may name what is not here.
    assert read_top(path, dataset, query_ids={"q"}, depth=3) == {"q": ("a",)}
