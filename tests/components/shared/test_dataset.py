"""A dataset gives back what was written, finds any passage by its id, and stays out of memory."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared import dataset as dataset_module
from components.shared.dataset import ORDER_NAME, SPLITS, Dataset, DatasetWriter, Provenance
from components.shared.records import Passage, Qrel, Query

# What UTF-8 can hold: everything but lone surrogates, which prepare refuses.
texts = st.text(st.characters(exclude_categories=("Cs",)))
ids = texts.filter(bool)
BATCH_ROWS = 16_384


def write(
    folder: Path,
    passages: Sequence[Passage],
    queries: Sequence[tuple[Query, str]] = (),
    qrels: Sequence[tuple[Qrel, str]] = (),
) -> Dataset:
    writer = DatasetWriter(folder)
    for passage in passages:
        writer.add_passage(passage)
    writer.finish(queries, qrels)
    return Dataset(folder)


def numbered(num_passages: int) -> list[Passage]:
    return [Passage(f"p{number}", f"title {number}", f"text {number}") for number in range(num_passages)]


@settings(max_examples=25)
@given(st.lists(st.builds(Passage, ids, texts, texts), unique_by=lambda passage: passage.passage_id))
def test_passages_come_back_as_written_by_row_and_by_id(
    tmp_path_factory: pytest.TempPathFactory, passages: list[Passage]
) -> None:
    dataset = write(tmp_path_factory.mktemp("dataset"), passages)
    assert dataset.num_passages == len(passages)
    assert list(dataset.iter_passages()) == passages
    assert [dataset.passage_at(row) for row in range(len(passages))] == passages
    assert [dataset.passage_id_at(row) for row in range(len(passages))] == [passage.passage_id for passage in passages]
    assert [dataset.passage(passage.passage_id) for passage in passages] == passages
    assert [dataset.row(passage.passage_id) for passage in passages] == list(range(len(passages)))


@settings(max_examples=25)
@given(st.lists(st.tuples(ids, texts, st.lists(texts), st.sampled_from((*SPLITS, ""))), unique_by=lambda row: row[0]))
def test_queries_come_back_in_order_with_their_answers_and_splits(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, list[str], str]]
) -> None:
    queries = [(Query(query_id, text, tuple(answers)), split) for query_id, text, answers, split in rows]
    dataset = write(tmp_path_factory.mktemp("dataset"), [], queries)
    assert dataset.queries() == [query for query, _ in queries]
    for split in (*SPLITS, ""):
        assert dataset.queries(split) == [query for query, query_split in queries if query_split == split]
    assert [dataset.query(query.query_id) for query, _ in queries] == [query for query, _ in queries]


def test_grades_are_found_by_split_with_zeros_and_positives_without(tmp_path: Path) -> None:
    rows = [
        (Qrel("q1", "p1", 0), "train"),
        (Qrel("q1", "p2", 3), "train"),
        (Qrel("q2", "p1", 0), "train"),
        (Qrel("q3", "p0", 1), "test"),
    ]
    dataset = write(tmp_path, numbered(3), [(Query(f"q{number}", "text"), "train") for number in (1, 2, 3)], rows)
    assert dataset.qrels("train") == {"q1": {"p1": 0, "p2": 3}, "q2": {"p1": 0}}
    assert dataset.positives("train") == {"q1": ["p2"]}
    assert dataset.qrels("test") == {"q3": {"p0": 1}}
    assert dataset.qrels("dev") == {}


def test_an_unknown_id_is_a_key_error(tmp_path: Path) -> None:
    dataset = write(tmp_path, numbered(5), [(Query("q", "text"), "")])
    for unknown in ("p5", "", "P1"):
        with pytest.raises(KeyError, match=f"'{unknown}'"):
            dataset.passage(unknown)
    with pytest.raises(KeyError, match="'p1'"):
        dataset.query("p1")


def test_ids_whose_hashes_collide_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No two short texts with the same 64-bit hash are known, so the hash is made worse: two values for fifty ids.
    monkeypatch.setattr(dataset_module, "_id_hash", lambda passage_id: int(passage_id[1:]) % 2)
    passages = numbered(50)
    dataset = write(tmp_path, passages)
    assert set(np.load(tmp_path / ORDER_NAME)["hash"].tolist()) == {0, 1}
    assert [dataset.passage(passage.passage_id) for passage in passages] == passages
    with pytest.raises(KeyError, match="'p50'"):
        dataset.row("p50")


@pytest.fixture(scope="module")
def three_batches(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("dataset"), numbered(2 * BATCH_ROWS + 100))


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, None),
        (0, 1),
        (10, 20),
        (BATCH_ROWS - 1, BATCH_ROWS + 1),
        (BATCH_ROWS, 2 * BATCH_ROWS),
        (2 * BATCH_ROWS + 99, None),
        (7, 7),
        (9, 3),
        (2 * BATCH_ROWS - 1, 10 * BATCH_ROWS),
        (3 * BATCH_ROWS, None),
    ],
)
def test_a_range_of_rows_is_a_slice(three_batches: Dataset, start: int, stop: int | None) -> None:
    rows = range(2 * BATCH_ROWS + 100)[start:stop]
    assert [passage.passage_id for passage in three_batches.iter_passages(start, stop)] == [f"p{row}" for row in rows]


def test_reading_at_random_keeps_nothing(three_batches: Dataset) -> None:
    rows = np.random.default_rng(0).integers(0, three_batches.num_passages, 500).tolist()
    three_batches.passage_at(0)
    tracemalloc.start()
    for row in rows:
        assert three_batches.passage(f"p{row}").title == f"title {row}"
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 32,868 passages as Python objects are 8 MB; the map belongs to the kernel.
    assert num_bytes < 100_000


def test_a_query_by_its_id_is_the_one_in_the_list_and_loads_no_other(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    queries = [Query(f"q{number}", f"text {number}", ("a", "b")[: number % 3]) for number in range(50)]
    writer.finish([(query, "train") for query in queries], [])
    dataset = Dataset(tmp_path)
    assert [dataset.query(query.query_id) for query in reversed(queries)] == queries[::-1]
    with pytest.raises(KeyError, match="q50"):
        dataset.query("q50")
    # Listing them all for each one made a job over all queries quadratic.
    assert dataset._queries is None


def test_the_language_comes_back_and_is_empty_where_nobody_said_it(tmp_path: Path) -> None:
    for language in ("de", ""):
        folder = tmp_path / f"language-{language}"
        folder.mkdir()
        writer = DatasetWriter(folder, language=language)
        writer.add_passage(Passage("p", "", "text"))
        writer.finish([], [])
        assert Dataset(folder).language == language
        assert list(Dataset(folder).iter_passages()) == [Passage("p", "", "text")]


def test_provenance_has_a_row_a_passage_and_survives_batches(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    provenances = [
        Provenance(
            f"{number}.md", "" if number % 2 else f"r{number}", ("Guide", f"Part {number}"), number, number + 9, 3
        )
        for number in range(20_000)
    ]
    for number, provenance in enumerate(provenances):
        writer.add_passage(Passage(f"p{number}", "", "text"), provenance)
    writer.finish([], [])
    dataset = Dataset(tmp_path)
    assert dataset.has_provenance
    assert [dataset.provenance_at(row) for row in (0, 16_383, 16_384, 19_999)] == [
        provenances[row] for row in (0, 16_383, 16_384, 19_999)
    ]
    assert dataset.provenance("p17000") == provenances[17_000]
    with pytest.raises(KeyError):
        dataset.provenance("p20000")


def test_a_dataset_without_provenance_says_none(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path)
    writer.add_passage(Passage("p1", "", "text"))
    writer.finish([], [])
    dataset = Dataset(tmp_path)
    assert (dataset.has_provenance, dataset.provenance("p1"), dataset.provenance_at(0)) == (False, None, None)
