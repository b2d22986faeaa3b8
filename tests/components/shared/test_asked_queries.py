"""Queries of an LLM and queries of people in one dataset: every reader can tell which is which."""

from pathlib import Path

import pyarrow as pa
import pytest

from components.shared.dataset import QUERIES_NAME, Dataset, DatasetWriter, write_queries
from components.shared.records import Passage, Qrel, Query


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    writer = DatasetWriter(tmp_path)
    for number in range(3):
        writer.add_passage(Passage(f"p{number}", "", f"text {number}"))
    writer.finish([], [])
    queries = [(Query("q1", "a person asks"), "train"), (Query("a1", "an LLM asks"), "train")]
    qrels = [(Qrel("q1", "p0", 2), "train"), (Qrel("q1", "p1", 0), "train"), (Qrel("a1", "p2", 1), "train")]
    write_queries(tmp_path, queries, qrels, asked={"a1"})
    return tmp_path


def test_what_people_judged_and_what_was_asked_stand_apart(folder: Path) -> None:
    dataset = Dataset(folder)
    assert dataset.asked_ids == {"a1"}
    assert dataset.qrels("train") == {"q1": {"p0": 2, "p1": 0}, "a1": {"p2": 1}}
    assert dataset.human_qrels("train") == {"q1": {"p0": 2, "p1": 0}}
    assert dataset.positives("train") == {"q1": ["p0"], "a1": ["p2"]}
    assert dataset.human_positives("train") == {"q1": ["p0"]}
    assert dataset.splits == {"q1": "train", "a1": "train"}


def test_a_dataset_that_does_not_say_has_queries_of_people_only(folder: Path) -> None:
    # As earlier versions wrote it: without the column.
    with pa.memory_map(str(folder / QUERIES_NAME)) as source:
        table = pa.ipc.open_file(source).read_all().drop_columns(["is_asked"])
        rows = pa.Table.from_pylist(table.to_pylist(), schema=table.schema)
    with pa.OSFile(str(folder / QUERIES_NAME), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    dataset = Dataset(folder)
    assert dataset.asked_ids == frozenset()
    assert dataset.query("a1").text == "an LLM asks"
    assert len(dataset.human_qrels("train")) == 2
