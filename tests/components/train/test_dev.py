"""What weights are chosen by: whose labels, which queries, and passages that are hard to tell from the right ones."""

from pathlib import Path

import pytest

from components.shared.dataset import Dataset, DatasetWriter
from components.shared.records import Annotation, Passage, Qrel, Query
from components.train.labels.dev import dev_set
from components.train.labels.distractors import hardest_passages
from tests.components.train.learnable import config

_TOPICS = ("tides", "bees", "ice", "ships", "moss")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """40 passages on each of five topics, and a judged dev query of each; passage `<topic>0` is the right one."""
    writer = DatasetWriter(tmp_path)
    for topic in _TOPICS:
        for number in range(40):
            text = f"{topic} explained {topic}" if number == 0 else f"a note {number} on {topic} of the north"
            writer.add_passage(Passage(f"{topic}{number}", "", text))
    queries = [(Query(topic, f"why {topic}"), "dev") for topic in _TOPICS]
    writer.finish(queries, [(Qrel(topic, f"{topic}0", 1), "dev") for topic in _TOPICS])
    return Dataset(tmp_path)


def topics_of(passages: object) -> set[str]:
    return {passage_id.rstrip("0123456789") for passage_id in passages}  # type: ignore[attr-defined]


def test_distractors_are_those_that_speak_of_what_is_asked(dataset: Dataset, tmp_path: Path) -> None:
    dev = dev_set(dataset, {}, config(tmp_path, dev_queries=1, dev_passages=29))
    (asked,) = dev.queries
    assert len(dev.passages) == 29
    same_topic = sum(passage_id.startswith(asked) for passage_id in dev.passages)
    # One right passage, 21 = three quarters of 28 that are hard, and a draw; a random 28 of 199 hold 5 or 6.
    assert same_topic >= 22


def test_the_whole_corpus_is_searched_where_there_is_room(dataset: Dataset, tmp_path: Path) -> None:
    dev = dev_set(dataset, {}, config(tmp_path, dev_passages=1000))
    assert len(dev.passages) == dataset.num_passages == 200


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.2, 1), (0.4, 2), (0.6, 3), (1.0, 5), (0.01, 1)])
def test_a_share_of_the_human_labels_is_all_that_chooses(
    dataset: Dataset, tmp_path: Path, share: float, count: int
) -> None:
    dev = dev_set(dataset, {}, config(tmp_path), human_share=share)
    assert len(dev.queries) == dev.num_human_labels == count
    larger = dev_set(dataset, {}, config(tmp_path), human_share=min(1.0, share + 0.2))
    assert set(dev.queries) <= set(larger.queries)
    assert bool(dev.passages) == bool(count)


def test_without_human_labels_the_llms_choose_and_no_label_is_called_human(dataset: Dataset, tmp_path: Path) -> None:
    labels = {"bees": Annotation("bees", ("bees7", "ice1"), ("positive", "negative"), "m", "llm", "ok")}
    dev = dev_set(dataset, labels, config(tmp_path, dev_passages=10), human_share=0.0)
    assert dev.qrels == {"bees": {"bees7": 1}}
    assert dev.num_human_labels == 0
    # The pool that the label comes from is searched.
    assert {"bees7", "ice1"} <= set(dev.passages)


def test_the_draw_is_a_function_of_the_seed(dataset: Dataset, tmp_path: Path) -> None:
    first, again, other = (
        dev_set(dataset, {}, config(tmp_path, dev_queries=3, dev_passages=20, seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_first_hits_of_every_query_come_before_the_second_of_any(dataset: Dataset) -> None:
    hits = hardest_passages(dataset, [f"why {topic}" for topic in _TOPICS], depth=4, seed=0)
    assert hits[:5] == [f"{topic}0" for topic in _TOPICS]
    assert len(hits) == len(set(hits)) == 20
    assert topics_of(hits[5:10]) == set(_TOPICS)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("潮汐为什么上升", "zh0"),
        ("月球引力", "zh1"),
        ("Gezeiten des Mondes", "de"),
        ("приливы луны", "ru"),
        ("\uff34he \uff2d\uff2f\uff2f\uff2e", "en"),
        ("zzz", None),
        ("", None),
    ],
)
def test_words_are_found_in_every_script(tmp_path: Path, query: str, expected: str | None) -> None:
    writer = DatasetWriter(tmp_path)
    texts = {
        "zh0": "潮汐每天上升两次",
        "zh1": "月球的引力很强",
        "de": "die gezeiten und die kraft des mondes",
        "ru": "приливы зависят от луны",
        "en": "what the moon does",
    }
    for passage_id, text in texts.items():
        writer.add_passage(Passage(passage_id, "", text))
    for number in range(20):
        writer.add_passage(Passage(f"x{number}", "", f"filler {number}"))
    writer.finish([], [])
    assert hardest_passages(Dataset(tmp_path), [query], depth=1, seed=0) == ([expected] if expected else [])


def test_a_large_corpus_is_sampled(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.train.labels.distractors._SCANNED_PASSAGES", 50)
    scanned = hardest_passages(dataset, ["note"] + [f"why {topic}" for topic in _TOPICS], depth=200, seed=0)
    assert 0 < len(scanned) <= 50
