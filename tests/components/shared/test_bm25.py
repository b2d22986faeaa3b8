import math
from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.bm25 import BM25, K1, B
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.records import Hit, Passage


@pytest.fixture
def index(tmp_path: Path) -> Callable[..., BM25]:
    def build(*texts: str, ids: str = "abcdefgh", title: str = "") -> BM25:
        writer = DatasetWriter(tmp_path)
        for passage_id, text in zip(ids, texts, strict=False):
            writer.add_passage(Passage(passage_id, title, text))
        writer.finish([], [])
        return BM25(Dataset(tmp_path))

    return build


def ids_of(hits: list[Hit]) -> list[str]:
    return [hit.passage_id for hit in hits]


def test_scores_are_those_of_the_formula(index: Callable[..., BM25]) -> None:
    # Four passages of 3, 2, 0 and 3 words (the third is stop words), on average 2. "apple" is in 3 of them:
    # idf = ln(1 + (4 - 3 + 0.5) / (3 + 0.5)); each score is idf * tf / (tf + k1 * (1 - b + b * length / average)).
    idf = math.log(1 + 1.5 / 3.5)
    expected = {"d": (3, 3), "b": (1, 2), "a": (1, 3)}
    (hits,) = index("red apple tree", "green apple", "the and of", "apple apple apple").search(["apple"], 10)
    assert ids_of(hits) == list(expected)
    for hit, (count, length) in zip(hits, expected.values(), strict=True):
        assert hit.score == pytest.approx(idf * count / (count + K1 * (1 - B + B * length / 2)), rel=1e-5)


def test_a_query_gets_the_same_hits_alone_and_among_others(index: Callable[..., BM25]) -> None:
    bm25 = index("red apple", "green pear", "blue plum")
    queries = ["plum", "zzz", "green apple", "the of"]
    assert bm25.search(queries, 5) == [bm25.search([query], 5)[0] for query in queries]


def test_only_passages_that_share_a_word_are_hits(index: Callable[..., BM25]) -> None:
    bm25 = index("red apple", "green pear", "blue plum")
    assert [ids_of(hits) for hits in bm25.search(["pear", "zzz", "", "the of", "!?"], 5)] == [["b"], [], [], [], []]


def test_equal_scores_rank_in_id_order(index: Callable[..., BM25]) -> None:
    (hits,) = index("apple", "apple", "apple", "pear", ids="cabd").search(["apple"], 10)
    assert ids_of(hits) == ["a", "b", "c"]


def test_words_are_compared_by_their_stem(index: Callable[..., BM25]) -> None:
    (hits,) = index("erupting volcanoes", "rivers of ice").search(["volcano erupts"], 10)
    assert ids_of(hits) == ["a"]


def test_titles_are_searched(index: Callable[..., BM25]) -> None:
    (hits,) = index("told in plain words", title="Volcano").search(["volcano"], 10)
    assert ids_of(hits) == ["a"]


def test_depth_cuts_the_hits_and_may_exceed_the_corpus(index: Callable[..., BM25]) -> None:
    bm25 = index("apple", "apple pie", "apple pie crust")
    assert [len(bm25.search(["apple"], depth)[0]) for depth in (1, 2, 3, 1000)] == [1, 2, 3, 3]


def test_no_queries_have_no_hits(index: Callable[..., BM25]) -> None:
    assert index("apple").search([], 10) == []
