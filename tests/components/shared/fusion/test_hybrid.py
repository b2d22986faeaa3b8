"""Both retrievers over one corpus: what is ranked, by which scores, and what a filter and a depth change."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.bm25 import BM25, build_bm25
from components.shared.dataset import Dataset, DatasetWriter
from components.shared.encoding.encoder import Encoder
from components.shared.fusion.hybrid import Hybrid
from components.shared.fusion.tuned import Fusion, read_fusion, write_fusion
from components.shared.index import FaissIndex, IndexSettings, PassageIndex
from components.shared.records import Hit, Passage
from tests.tiny_encoder import words_of, write_tiny_encoder_files

WORDS = ("apple", "pear", "plum", "tree", "red", "green", "fig", "house", "river", "stone")
QUERIES = ["red apple", "river stone house", "green", "plum fig tree apple", "nothing known"]
NUM_PASSAGES = 60


class Corpus:
    """Sixty passages of drawn words with their BM25 index, their vectors and an encoder."""

    def __init__(self, folder: Path) -> None:
        draw = np.random.default_rng(5)
        (folder / "dataset").mkdir()
        writer = DatasetWriter(folder / "dataset", language="en")
        for number in range(NUM_PASSAGES):
            text = " ".join(draw.choice(WORDS, size=int(draw.integers(1, 9))))
            writer.add_passage(Passage(f"p{(number * 37) % NUM_PASSAGES:02d}", "", text))
        writer.finish([], [])
        self.dataset = Dataset(folder / "dataset")
        build_bm25(self.dataset, folder / "dataset" / "bm25", scratch=folder / "blocks")
        self.bm25 = BM25(self.dataset)
        passages = list(self.dataset.iter_passages())
        (folder / "encoder").mkdir()
        write_tiny_encoder_files(folder / "encoder", 0, words_of([p.full_text for p in passages] + QUERIES))
        encoder = Encoder(folder / "encoder", num_threads=1)
        self.queries = encoder.encode_queries(QUERIES)
        self.passages = encoder.encode_passages(passages)
        self.ids = [passage.passage_id for passage in passages]
        self.index = self.index_of(self.ids)

    def index_of(self, ids: list[str]) -> PassageIndex:
        index_settings = IndexSettings("digest", self.passages.shape[1], "Flat", "", len(ids))
        return FaissIndex.build([self.passages], ids, sample=self.passages, settings=index_settings)

    def hybrid(self, **settings: object) -> Hybrid:
        return Hybrid(self.bm25, self.index, Fusion(**settings))  # type: ignore[arg-type]

    def search(self, num_hits: int, **settings: object) -> list[list[Hit]]:
        return self.hybrid(**settings).search(QUERIES, self.queries, num_hits)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus(tmp_path_factory.mktemp("hybrid"))


def ids_of(rankings: list[list[Hit]]) -> list[list[str]]:
    return [[hit.passage_id for hit in hits] for hits in rankings]


def test_the_best_inner_product_comes_with_the_hits_and_is_not_known_where_vectors_have_no_weight(
    corpus: Corpus,
) -> None:
    hits, best = corpus.hybrid(weight=0.5).search_scored(QUERIES, corpus.queries, 3)
    assert hits == corpus.search(3, weight=0.5)
    assert best == pytest.approx((corpus.queries @ corpus.passages.T).max(axis=1), abs=1e-5)
    assert np.isnan(corpus.hybrid(weight=1.0).search_scored(QUERIES, corpus.queries, 3)[1]).all()


def by_hand(corpus: Corpus, query: int, weight: float) -> dict[str, float]:
    """Every passage of the corpus by the formula, with the score of each retriever for all of them."""
    (bm25,) = corpus.bm25.scores_of([QUERIES[query]], [np.arange(NUM_PASSAGES)])
    dense = corpus.passages @ corpus.queries[query]
    scaled = (dense - dense.min()) / (dense.max() - dense.min())
    return dict(zip(corpus.ids, weight * bm25 / max(bm25.max(), 1e-9) + (1 - weight) * scaled, strict=True))


def test_with_all_passages_as_candidates_the_scores_are_those_of_the_formula(corpus: Corpus) -> None:
    for query, hits in enumerate(corpus.search(NUM_PASSAGES, weight=0.4, depth=NUM_PASSAGES)):
        expected = by_hand(corpus, query, 0.4)
        assert {hit.passage_id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_score_that_a_retriever_did_not_return_is_computed(corpus: Corpus) -> None:
    # One hit of each retriever: the best of BM25 has its true dense score and not 0, and the other way around.
    hybrid = corpus.hybrid(weight=0.5, depth=1)
    for query, rows in enumerate(hybrid.first_rows(QUERIES[:4], corpus.queries[:4], 1)):
        (candidates,) = hybrid.candidates([QUERIES[query]], corpus.queries[[query]], [np.empty(0, np.int64)])
        assert candidates.rows.tolist() == rows.tolist()
        assert candidates.dense == pytest.approx(corpus.passages[rows] @ corpus.queries[query], abs=1e-6)
        assert candidates.bm25.tolist() == corpus.bm25.scores_of([QUERIES[query]], [rows])[0].tolist()


def test_weight_0_is_the_dense_ranking(corpus: Corpus) -> None:
    expected = [hits[:20] for hits in corpus.index.search(corpus.queries, NUM_PASSAGES)]
    assert ids_of(corpus.search(20, weight=0.0, depth=30)) == ids_of(expected)


def test_weight_1_is_bm25s_ranking(corpus: Corpus) -> None:
    expected = [hits[:20] for hits in corpus.bm25.search(QUERIES, NUM_PASSAGES)]
    assert ids_of(corpus.search(20, weight=1.0, depth=NUM_PASSAGES)) == ids_of(expected)


@pytest.mark.parametrize("method", ["minmax", "zscore", "rrf"])
def test_a_ranking_begins_the_same_however_deep_it_goes(corpus: Corpus, method: str) -> None:
    deep = corpus.search(NUM_PASSAGES, weight=0.3, depth=10, method=method)
    assert [len(hits) for hits in deep] == [NUM_PASSAGES] * len(QUERIES)
    for depth in (1, 5, 10):
        assert ids_of(corpus.search(depth, weight=0.3, depth=10, method=method)) == [i[:depth] for i in ids_of(deep)]
    for hits in deep:
        assert all(before.score >= after.score for before, after in pairwise(hits))
        assert len({hit.passage_id for hit in hits}) == NUM_PASSAGES


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, NUM_PASSAGES - 1), min_size=1, max_size=20), st.sampled_from(["minmax", "zscore", "rrf"]))
def test_excluded_passages_change_a_search_as_if_the_corpus_did_not_hold_them(
    corpus: Corpus, excluded: set[int], method: str
) -> None:
    rows = np.array(sorted(excluded))
    hybrid = corpus.hybrid(weight=0.3, depth=NUM_PASSAGES, method=method)
    without = hybrid.search(QUERIES, corpus.queries, 10, excluded=[rows] * len(QUERIES))
    others = np.array([row for row in range(NUM_PASSAGES) if row not in excluded])
    assert without == hybrid.search_among(QUERIES, corpus.queries, others, 10)
    assert not {corpus.ids[row] for row in excluded} & {hit.passage_id for hits in without for hit in hits}


def test_equal_scores_rank_in_passage_id_order(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    writer = DatasetWriter(tmp_path / "dataset", language="en")
    for passage_id in "cab":
        writer.add_passage(Passage(passage_id, "", "apple"))
    writer.finish([], [])
    build_bm25(Dataset(tmp_path / "dataset"), tmp_path / "dataset" / "bm25", scratch=tmp_path / "blocks")
    vectors = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (3, 1))
    index = FaissIndex.build([vectors], "cab", sample=vectors, settings=IndexSettings("d", 2, "Flat", "", 3))
    hybrid = Hybrid(BM25(Dataset(tmp_path / "dataset")), index, Fusion(weight=0.5))
    assert ids_of(hybrid.search(["apple"], vectors[:1], 3)) == [["a", "b", "c"]]


def test_indexes_of_other_passages_are_refused(corpus: Corpus) -> None:
    for ids in ([*corpus.ids[1:], corpus.ids[0]], [*corpus.ids[:-1], "other"]):
        with pytest.raises(ValueError, match="do not hold the same passages in the same order"):
            Hybrid(corpus.bm25, corpus.index_of(ids), Fusion())


def test_fusion_json_is_read_as_it_was_written_and_its_absence_is_the_default(tmp_path: Path) -> None:
    assert read_fusion(tmp_path) == Fusion()
    written = Fusion(weight=0.15, default_mode="hybrid", curve=[{"weight": 0.0, "ndcg_10": 0.5}])
    write_fusion(tmp_path, written)
    assert read_fusion(tmp_path) == written
    (tmp_path / "fusion.json").write_text('{"weight": 0.1, "unknown": 1}')
    with pytest.raises(ValueError, match=r"fusion\.json: not a fusion of this version .*build the index again"):
        read_fusion(tmp_path)
