import gc
import math
import random
from collections.abc import Callable
from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer

from components.shared import bm25 as bm25_module
from components.shared.bm25 import BM25, K1, B, build_bm25, warn_without_hit
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.language.terms import Terms
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


def test_the_terms_of_a_query_that_no_passage_holds_are_told(index: Callable[..., BM25]) -> None:
    bm25 = index("red apples", "green pear")
    # By their stems, and without stop words.
    assert bm25.unknown_terms(["the apple of plums", "pears", ""]) == [["plum"], [], []]


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


WORDS = ("apple", "pear", "plum", "tree", "red", "the", "green", "fig")


def many_passages(folder: Path, count: int) -> Dataset:
    draw = random.Random(3)
    folder.mkdir()
    writer = DatasetWriter(folder)
    for number in range(count):
        writer.add_passage(Passage(f"p{number:03d}", "", " ".join(draw.choices(WORDS, k=draw.randrange(12)))))
    writer.finish([], [])
    return Dataset(folder)


def test_blocks_on_the_disk_score_as_bm25s_does_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = many_passages(tmp_path / "dataset", 100)
    reference = bm25s.BM25(method="lucene", k1=K1, b=B)
    stemmer = Stemmer.Stemmer("porter")
    texts = [passage.full_text for passage in dataset.iter_passages()]
    reference.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    monkeypatch.setattr("components.shared.bm25._BLOCK_PASSAGES", 7)
    ours = BM25(dataset)
    for query in ("red apple", "plum pear fig tree"):
        expected = reference.get_scores(
            bm25s.tokenize([query], stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)[0]
        )
        scores = {hit.passage_id: hit.score for hit in ours.search([query], 100)[0]}
        assert scores == {f"p{row:03d}": score for row, score in enumerate(expected.tolist()) if score > 0}


def test_a_killed_build_counts_no_block_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = many_passages(tmp_path / "dataset", 20)
    monkeypatch.setattr("components.shared.bm25._BLOCK_PASSAGES", 8)
    build_bm25(dataset, tmp_path / "whole", scratch=tmp_path / "blocks-of-whole")
    real, starts = bm25_module._count_block, []

    def dies_in_the_second_block(dataset: Dataset, terms: Terms, start: int, stop: int, path: Path) -> None:
        starts.append(start)
        if len(starts) == 2:
            raise SystemExit(143)
        real(dataset, terms, start, stop, path)

    monkeypatch.setattr("components.shared.bm25._count_block", dies_in_the_second_block)
    with pytest.raises(SystemExit):
        build_bm25(dataset, tmp_path / "killed", scratch=tmp_path / "blocks")
    build_bm25(dataset, tmp_path / "killed", scratch=tmp_path / "blocks")
    assert starts == [0, 8, 8, 16]
    assert content_of(tmp_path / "killed") == content_of(tmp_path / "whole")
    assert not (tmp_path / "blocks").exists()


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_datasets_own_index_is_opened_and_not_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = many_passages(tmp_path / "dataset", 20)
    expected = BM25(dataset).search(["apple tree"], 20)
    assert "run prepare again" in capfd.readouterr().err
    build_bm25(dataset, dataset.folder / "bm25", scratch=tmp_path / "blocks")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an index that lies there is built again")

    monkeypatch.setattr("components.shared.bm25.build_bm25", never)
    assert BM25(dataset).search(["apple tree"], 20) == expected
    assert "run prepare again" not in capfd.readouterr().err


def test_an_index_whose_words_were_made_by_other_rules_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = many_passages(tmp_path / "dataset", 20)
    build_bm25(dataset, dataset.folder / "bm25", scratch=tmp_path / "blocks")
    (dataset.folder / "bm25" / "vocab.index.json").write_bytes(b"damaged: whoever opens it fails")
    monkeypatch.setattr("components.shared.bm25.RULES_VERSION", 999)
    assert BM25(dataset).search(["apple tree"], 20)[0]
    assert "run prepare again" in capfd.readouterr().err


@pytest.mark.parametrize("query", ["red apple", "plum the pear plum fig fig", "zzz", "", "the of", "apple zzz tree"])
def test_scores_of_passages_are_those_that_the_search_gives_to_the_last_bit(tmp_path: Path, query: str) -> None:
    bm25 = BM25(many_passages(tmp_path / "dataset", 100))
    (searched,) = bm25.search([query], 100)
    by_id = {hit.passage_id: hit.score for hit in searched}
    rows = np.array([99, 0, 5, 5, *range(50)])
    (scores,) = bm25.scores_of([query], [rows])
    assert scores.tolist() == [by_id.get(f"p{row:03d}", 0.0) for row in rows]


def test_each_query_has_passages_of_its_own_to_score(index: Callable[..., BM25]) -> None:
    bm25 = index("red apple", "green pear", "apple")
    none, (second, third), (first,) = bm25.scores_of(
        ["apple", "apple", "pear"], [np.array([], int), np.array([1, 2]), np.array([0])]
    )
    assert (len(none), second, first) == (0, 0.0, 0.0)
    assert third == bm25.search(["apple"], 1)[0][0].score


def test_a_temporary_index_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    index = BM25(many_passages(tmp_path / "dataset", 5))
    assert list(tmp_path.glob("bm25-*"))
    del index
    gc.collect()
    assert not list(tmp_path.glob("bm25-*"))


@pytest.mark.parametrize(("num_without_hit", "num_queries", "warned"), [(0, 0, 0), (1, 20, 0), (2, 20, 1), (5, 5, 1)])
def test_more_than_one_query_in_twenty_without_a_hit_is_a_warning(
    num_without_hit: int, num_queries: int, warned: int, capfd: pytest.CaptureFixture[str]
) -> None:
    warn_without_hit(num_without_hit, num_queries, language="de")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == warned
    assert all('"language":"de"' in line and "set prepare.language" in line for line in lines)


def test_another_language_is_another_index(tmp_path: Path) -> None:
    for language in ("en", "de"):
        (tmp_path / language).mkdir()
        writer = DatasetWriter(tmp_path / language, language=language)
        writer.add_passage(Passage("p", "", "die Stra\u00dfe"))
        writer.finish([], [])
    hits = {language: BM25(Dataset(tmp_path / language)).search(["die"], 1) for language in ("en", "de")}
    # A word of English, a stop word of German.
    assert [len(hits[language][0]) for language in ("en", "de")] == [1, 0]
