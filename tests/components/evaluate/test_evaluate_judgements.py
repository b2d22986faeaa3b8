from collections.abc import Callable
from pathlib import Path

import pytest

from components.evaluate.judgements import Judgements, find_judgements
from components.shared.dataset import Dataset, write_queries
from components.shared.records import Annotation, Passage, Qrel, Query

PASSAGES = [Passage(name, "", name) for name in ("a", "b", "c")]
QUERIES = {"train": [Query("t", "train query")], "test": [Query("q", "query"), Query("r", "other query")]}
MakeDataset = Callable[..., Dataset]


def find(dataset: Dataset, *folders: str, split: str = "test", min_grade: int = 1) -> Judgements:
    return find_judgements(
        dataset, split=split, annotation_folders=[Path(folder) for folder in folders], min_grade=min_grade
    )


def annotation(query_id: str, *labels: str, model: str = "judge-1b") -> Annotation:
    return Annotation(query_id, ("a", "b", "c")[: len(labels)], labels, "utility_selection", model, "ok")  # type: ignore[arg-type]


def test_people_are_asked_first(make_dataset: MakeDataset, write_annotations: Callable[..., str]) -> None:
    dataset = make_dataset(PASSAGES, QUERIES, {"test": {"q": {"a": 2, "b": 0}}})
    found = find(dataset, write_annotations(annotation("q", "negative", "positive")))
    assert (found.kind, found.grades, found.models) == ("human", {"q": {"a": 2, "b": 0}}, ())


def test_where_nobody_judged_the_llm_does(make_dataset: MakeDataset, write_annotations: Callable[..., str]) -> None:
    dataset = make_dataset(PASSAGES, QUERIES, {"train": {"t": {"a": 1}}})
    found = find(
        dataset, write_annotations(annotation("q", "positive", "ignore", "negative"), annotation("t", "positive"))
    )
    assert (found.kind, found.models) == ("llm", ("judge-1b",))
    assert found.grades == {"q": {"a": 1, "b": 0, "c": 0}}
    assert found.num_judgements == 3


def test_a_judge_that_also_taught_is_named_as_such(
    make_dataset: MakeDataset, write_annotations: Callable[..., str]
) -> None:
    dataset = make_dataset(PASSAGES, QUERIES, {})
    held_out, training = annotation("q", "positive"), annotation("t", "positive")
    assert not find(dataset, write_annotations(held_out, name="one")).taught
    assert find(dataset, write_annotations(held_out, training, name="two")).taught
    assert not find(
        dataset, write_annotations(held_out, annotation("t", "positive", model="other-7b"), name="three")
    ).taught


def test_all_shards_judge(make_dataset: MakeDataset, write_annotations: Callable[..., str]) -> None:
    shards = [
        write_annotations(annotation("q", "positive"), name="s0"),
        write_annotations(annotation("r", "positive"), name="s1"),
    ]
    assert set(find(make_dataset(PASSAGES, QUERIES, {}), *shards).grades) == {"q", "r"}


def test_a_shard_named_twice_is_refused(make_dataset: MakeDataset, write_annotations: Callable[..., str]) -> None:
    shard = write_annotations(annotation("q", "positive"))
    with pytest.raises(ValueError, match=r"query 'q' was annotated in an earlier shard too; name each shard once"):
        find(make_dataset(PASSAGES, QUERIES, {}), shard, shard)


def test_nobody_to_judge_is_refused_with_what_to_do(
    make_dataset: MakeDataset, write_annotations: Callable[..., str]
) -> None:
    dataset = make_dataset(PASSAGES, QUERIES, {"train": {"t": {"a": 1}}})
    with pytest.raises(
        ValueError, match=r"split 'test' has no judgements.*--annotations-uri.*or evaluate on --split train"
    ):
        find(dataset)
    with pytest.raises(ValueError, match="split 'test' has no judgements"):
        find(dataset, write_annotations(annotation("t", "positive")))


def test_judgements_without_anything_relevant_are_refused(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(PASSAGES, QUERIES, {"test": {"q": {"a": 1, "b": 0}}})
    with pytest.raises(
        ValueError, match=r"none of its 2 judgements \(human\) has a grade of 2 or more.*lower it .--min-grade 1."
    ):
        find(dataset, min_grade=2)


def test_an_empty_set_of_judgements_is_dropped_and_counted(
    make_dataset: MakeDataset, write_annotations: Callable[..., str]
) -> None:
    found = find(make_dataset(PASSAGES, QUERIES, {}), write_annotations(annotation("q"), annotation("r", "positive")))
    assert (set(found.grades), found.num_dropped) == ({"r"}, 1)


def test_queries_without_relevant_passages_are_kept_and_counted(make_dataset: MakeDataset) -> None:
    found = find(make_dataset(PASSAGES, QUERIES, {"test": {"q": {"a": 1}, "r": {"b": 0}}}))
    assert set(found.grades) == {"q", "r"}
    assert found.without_relevant(min_grade=1) == ["r"]
    assert found.without_relevant(min_grade=1) != found.without_relevant(min_grade=2)


def test_negative_grades_are_not_relevant(make_dataset: MakeDataset) -> None:
    assert find(make_dataset(PASSAGES, QUERIES, {"test": {"q": {"a": 1, "b": -2}}})).grades == {"q": {"a": 1, "b": 0}}


def test_source_passages_of_asked_queries_are_no_person_s_judgement(make_dataset: MakeDataset) -> None:
    dataset = make_dataset(PASSAGES, QUERIES, {"train": {"t": {"a": 1}}})
    queries = [(query, split) for split, of_split in QUERIES.items() for query in of_split]
    qrels = [(Qrel("t", "a", 1), "train"), (Qrel("q", "b", 1), "test")]
    write_queries(dataset.folder, queries, qrels, asked={"q"})
    asked = find(Dataset(dataset.folder))
    assert (asked.kind, asked.grades, asked.models, asked.taught) == ("asked", {"q": {"b": 1}}, (), False)
    # Beside one judgement of a person they are none at all.
    write_queries(dataset.folder, queries, [*qrels, (Qrel("r", "a", 1), "test")], asked={"q"})
    human = find(Dataset(dataset.folder))
    assert (human.kind, human.grades) == ("human", {"r": {"a": 1}})
