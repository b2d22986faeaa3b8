"""The draw: seeded, spread over documents, without what cannot be asked about, and never over a border of splits."""

from collections import Counter
from pathlib import Path

import pytest

from components.ask.sampling import Sample, draw, split_of
from components.shared.bm25 import BM25
from components.shared.dataset import Dataset
from components.shared.records import Passage, Qrel, Query
from tests.components.ask.inputs import config, passages, write_dataset


def drawn(folder: Path, **settings: object) -> Sample:
    dataset = Dataset(folder / "dataset")
    return draw(dataset, config(folder, **settings), BM25(dataset))


def test_no_passage_is_asked_about_in_two_splits(tmp_path: Path) -> None:
    # Two ids of each text: they must not fall into two splits either.
    corpus = passages(100)
    corpus += [Passage(f"copy-{p.passage_id}", p.title, p.text) for p in corpus]
    write_dataset(tmp_path / "dataset", corpus)
    sample = drawn(tmp_path, num_queries=400, styles="question=1,keywords=1,claim=1,conversational=1,two_passages=4")
    splits: dict[str, set[str]] = {}
    for assignment in sample.assignments:
        for passage in assignment.passages:
            splits.setdefault(passage.text, set()).add(assignment.split)
    assert {len(of_text) for of_text in splits.values()} == {1}
    counts = Counter(assignment.split for assignment in sample.assignments)
    assert set(counts) == {"train", "dev", "test"}
    assert counts["train"] > counts["test"] > 0
    pairs = [assignment.passages for assignment in sample.assignments if assignment.style == "two_passages"]
    assert len(pairs) > 20
    assert all(len(pair) == 2 and pair[0].text != pair[1].text for pair in pairs)
    assert all(split_of(first) == split_of(second) for first, second in pairs)


def test_the_draw_is_the_same_every_time_and_another_with_another_seed(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", passages(100))
    first, again, other = (drawn(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert first.assignments == again.assignments
    assert first.assignments != other.assignments


def test_every_document_is_asked_about_before_any_is_asked_about_twice(tmp_path: Path) -> None:
    corpus = passages(100)
    # One document has most of the passages.
    corpus += [Passage(f"long-{n}", "A long one", f"{p.text} And so on ({n}).") for n, p in enumerate(corpus * 2)]
    write_dataset(tmp_path / "dataset", corpus)
    titles = Counter(a.passages[0].title for a in drawn(tmp_path, num_queries=11).assignments)
    assert len(titles) == 11
    assert set(titles.values()) == {1}


def test_what_cannot_be_asked_about_is_left_out_and_counted(tmp_path: Path) -> None:
    corpus = passages(40)
    corpus += [
        Passage("short", "", "Too short a text."),
        Passage("again", corpus[0].title, corpus[0].text.upper()),
        Passage("numbers", "", "1 22 333 44 55 6666 77 88 99 12 13 14 15 16 17 18 19 2000 2001 2002 10 11 aa bb cc"),
    ]
    notice = "All rights reserved by the owner of this site and its partners."
    corpus += [Passage(f"notice-{n}", "", f"{notice} Page {n}.") for n in range(6)]
    write_dataset(tmp_path / "dataset", corpus)
    sample = drawn(tmp_path, num_queries=500, min_passage_words=12, styles="question=1")
    asked = {assignment.passages[0].passage_id for assignment in sample.assignments}
    assert len(asked) == 40
    assert not asked & {"short", "numbers", *(f"notice-{n}" for n in range(6))}
    assert len(asked & {"again", "p0"}) == 1
    assert sample.left_out == {"too short": 1, "repeated": 1, "not prose": 1, "boilerplate": 6}


def test_a_passage_comes_again_in_another_style_only(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", passages(10))
    sample = drawn(tmp_path, num_queries=100, styles="question=1,keywords=1,claim=1")
    pairs = [(a.style, a.passages[0].passage_id) for a in sample.assignments]
    assert len(pairs) == len(set(pairs)) == len({a.query_id for a in sample.assignments}) == 30


def test_the_styles_come_as_often_as_asked_for(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", passages(100))
    sample = drawn(tmp_path, num_queries=60, styles="question=.5,keywords=.3,claim=.2")
    assert Counter(a.style for a in sample.assignments) == {"question": 30, "keywords": 18, "claim": 12}


def test_where_people_judged_a_held_out_split_asked_queries_train_and_leave_its_passages_alone(tmp_path: Path) -> None:
    corpus = passages(50)
    judged = [(Qrel("q1", f"p{n}", 1), "test") for n in range(25)]
    write_dataset(tmp_path / "dataset", corpus, [(Query("q1", "when was it opened"), "test")], judged)
    sample = drawn(tmp_path, num_queries=80, styles="question=1,two_passages=1")
    assert {assignment.split for assignment in sample.assignments} == {"train"}
    asked = {passage.passage_id for assignment in sample.assignments for passage in assignment.passages}
    assert asked.isdisjoint(f"p{n}" for n in range(25))
    assert len(asked) == 25
    assert sample.left_out["judged by people in a held-out split"] == 25


@pytest.mark.parametrize("count", [1, 2])
def test_a_question_over_two_passages_needs_a_second_one(tmp_path: Path, count: int) -> None:
    corpus = [Passage("p0", "", passages(1)[0].text), Passage("p1", "", "Bees sleep at night " * 5)]
    write_dataset(tmp_path / "dataset", corpus[:count])
    assert drawn(tmp_path, num_queries=5, styles="two_passages=1").assignments == []
