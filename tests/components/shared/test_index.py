import json
from pathlib import Path

import numpy as np
import pytest

from components.shared.index import (
    SETTINGS_NAME,
    FaissIndex,
    IndexSettings,
    exact_rows,
    iter_blocks,
    open_index,
    recall,
)
from components.shared.records import Hit

DIGEST = "d" * 64


def unit_vectors(num_rows: int, seed: int = 0, dimension: int = 16) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num_rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def settings_of(vectors: np.ndarray, factory: str = "Flat", search_parameters: str = "") -> IndexSettings:
    return IndexSettings(DIGEST, vectors.shape[1], factory, search_parameters, len(vectors))


def build(
    vectors: np.ndarray, factory: str = "Flat", search_parameters: str = "", ids: list[str] | None = None
) -> FaissIndex:
    names = ids or [f"p{row:04d}" for row in range(len(vectors))]
    halves = np.array_split(vectors, 2)
    return FaissIndex.build(halves, names, sample=vectors, settings=settings_of(vectors, factory, search_parameters))


def brute_force(vectors: np.ndarray, queries: np.ndarray, depth: int) -> np.ndarray:
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :depth]


def test_flat_search_is_brute_force() -> None:
    vectors, queries = unit_vectors(300), unit_vectors(20, seed=1)
    scores, rows = build(vectors).search_rows(queries, 10)
    assert rows.tolist() == brute_force(vectors, queries, 10).tolist()
    assert scores == pytest.approx(np.sort(queries @ vectors.T, axis=1)[:, ::-1][:, :10], abs=1e-6)


def test_hits_carry_the_ids_of_their_rows() -> None:
    vectors = np.eye(4, dtype=np.float32)
    index = build(vectors, ids=["north", "east", "south", "west"])
    ((first, *_),) = index.search(vectors[2:3], 4)
    assert first == Hit("south", 1.0)


def test_equal_scores_rank_in_id_order() -> None:
    vectors = np.tile(np.eye(1, 4, dtype=np.float32), (3, 1))
    ((*hits,),) = build(vectors, ids=["c", "a", "b"]).search(vectors[:1], 3)
    assert [hit.passage_id for hit in hits] == ["a", "b", "c"]


def test_depth_beyond_the_corpus_gives_the_corpus() -> None:
    vectors = unit_vectors(5)
    assert [len(hits) for hits in build(vectors).search(unit_vectors(2, seed=1), 1000)] == [5, 5]


def test_a_saved_index_finds_the_same(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(5, seed=1)
    index = build(vectors)
    index.save(tmp_path)
    opened = open_index(tmp_path, encoder_digest=DIGEST)
    assert opened.search(queries, 7) == index.search(queries, 7)
    assert (opened.settings, opened.num_passages) == (index.settings, 200)


def test_an_index_of_another_encoder_is_refused(tmp_path: Path) -> None:
    build(unit_vectors(10)).save(tmp_path)
    with pytest.raises(
        ValueError, match=r"made by encoder dddddddddddd, asked to serve encoder eeeeeeeeeeee; .*build the index again"
    ):
        open_index(tmp_path, encoder_digest="e" * 64)


@pytest.mark.parametrize("change", [{"dimension": 8}, {"num_passages": 9}])
def test_settings_that_do_not_fit_the_vectors_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    build(unit_vectors(10)).save(tmp_path)
    path = tmp_path / SETTINGS_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"index holds 10 vectors of 16 dimensions for 10 passage ids.*build it again"):
        open_index(tmp_path, encoder_digest=DIGEST)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"dimension": 8})])
def test_settings_that_are_not_an_indexs_are_refused(tmp_path: Path, content: str) -> None:
    build(unit_vectors(10)).save(tmp_path)
    (tmp_path / SETTINGS_NAME).write_text(content)
    with pytest.raises(ValueError, match=r"index\.json: not the settings of an index"):
        open_index(tmp_path, encoder_digest=DIGEST)


def test_ids_that_do_not_fit_the_vectors_are_refused() -> None:
    vectors = unit_vectors(10)
    with pytest.raises(ValueError, match="10 vectors of 16 dimensions for 3 passage ids"):
        FaissIndex.build([vectors], ["a", "b", "c"], sample=vectors, settings=settings_of(vectors))


@pytest.mark.parametrize(
    ("factory", "search_parameters", "smallest_recall"),
    [
        ("HNSW16", "efSearch=200", 0.95),
        ("IVF8,Flat", "nprobe=8", 1.0),
        ("IVF8,Flat", "nprobe=1", 0.1),
        ("SQ8", "", 0.9),
        ("PQ8x4", "", 0.2),
        ("IVF8,PQ8x4fs,RFlat", "nprobe=8,k_factor_rf=20", 0.9),
    ],
)
def test_approximate_indexes_find_most_of_what_is_there(
    factory: str, search_parameters: str, smallest_recall: float, tmp_path: Path
) -> None:
    vectors, queries = unit_vectors(1500), unit_vectors(30, seed=1)
    build(vectors, factory, search_parameters).save(tmp_path)
    index = open_index(tmp_path, encoder_digest=DIGEST)
    found = index.search_rows(queries, 10)[1]
    assert recall(found, exact_rows([vectors], queries, 10)) >= smallest_recall


def test_search_parameters_change_what_is_found() -> None:
    vectors, queries = unit_vectors(1500), unit_vectors(30, seed=1)
    exact = exact_rows([vectors], queries, 10)
    few, all_of_them = (
        recall(build(vectors, "IVF16,Flat", f"nprobe={n}").search_rows(queries, 10)[1], exact) for n in (1, 16)
    )
    assert few < 0.9 < all_of_them == 1.0


def test_rows_that_were_not_found_are_no_hits() -> None:
    # One probed list of 16 holds fewer vectors than the depth: FAISS fills the rest with row -1.
    vectors = unit_vectors(640)
    index = build(vectors, "IVF16,Flat", "nprobe=1")
    queries = unit_vectors(5, seed=1)
    assert (index.search_rows(queries, 600)[1] == -1).any()
    hits = index.search(queries, 600)
    assert all(0 < len(its) < 600 and len({hit.passage_id for hit in its}) == len(its) for its in hits)


@pytest.mark.parametrize("factory", ["Flatt", "IVF", "HNSW16,Nonsense", "PQ7x8", ""])
def test_a_factory_string_that_faiss_refuses_is_named(factory: str) -> None:
    with pytest.raises(ValueError, match=f"factory {factory!r}: FAISS"):
        build(unit_vectors(50), factory)


def test_too_few_vectors_to_train_on_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"factory 'IVF64,Flat': FAISS cannot be trained on 50 vectors .*use fewer clusters or Flat"
    ):
        build(unit_vectors(50), "IVF64,Flat")


@pytest.mark.parametrize("search_parameters", ["nprobe", "nonsense=3", "nprobe=many"])
def test_search_parameters_that_faiss_refuses_are_named(search_parameters: str) -> None:
    with pytest.raises(ValueError, match=f"search parameters '{search_parameters}': FAISS refuses them"):
        build(unit_vectors(400), "IVF4,Flat", search_parameters)


@pytest.mark.parametrize("num_blocks", [1, 3, 50])
def test_exact_rows_are_brute_force_however_the_vectors_are_cut(num_blocks: int) -> None:
    vectors, queries = unit_vectors(200), unit_vectors(9, seed=1)
    found = exact_rows(np.array_split(vectors, num_blocks), queries, 10)
    assert found.tolist() == brute_force(vectors, queries, 10).tolist()


def test_exact_rows_beyond_the_corpus_are_minus_one() -> None:
    vectors, queries = unit_vectors(4), unit_vectors(2, seed=1)
    found = exact_rows(np.array_split(vectors, 2), queries, 6)
    assert found[:, :4].tolist() == brute_force(vectors, queries, 4).tolist()
    assert (found[:, 4:] == -1).all()


def test_blocks_from_disk_are_searched_like_those_in_memory(tmp_path: Path) -> None:
    vectors, queries = unit_vectors(100), unit_vectors(3, seed=1)
    paths = [tmp_path / f"{number}.npy" for number in range(3)]
    for path, block in zip(paths, np.array_split(vectors, 3), strict=True):
        np.save(path, block)
    assert exact_rows(iter_blocks(paths), queries, 5).tolist() == brute_force(vectors, queries, 5).tolist()
    index = FaissIndex.build(iter_blocks(paths), map(str, range(100)), sample=vectors, settings=settings_of(vectors))
    assert index.search_rows(queries, 5)[1].tolist() == brute_force(vectors, queries, 5).tolist()


def test_recall_by_hand() -> None:
    # The first query's two exact rows are both found (order does not matter), the second query's one exact row is not.
    found, exact = np.array([[2, 1, -1], [7, 8, 9]]), np.array([[1, 2, -1], [5, -1, -1]])
    assert recall(found, exact) == pytest.approx((1.0 + 0.0) / 2)


def test_vectors_of_a_passage_are_those_of_its_row_after_saving(tmp_path: Path) -> None:
    vectors = unit_vectors(64)
    names = [f"id-{row % 8}-{row // 8}" for row in range(64)]
    build(vectors, ids=names).save(tmp_path)
    index = open_index(tmp_path, encoder_digest=DIGEST)
    assert [hits[0].passage_id for hits in index.search(vectors, 1)] == names


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "IVF8,Flat", "IVF8,PQ8x4fs,RFlat"])
def test_a_search_among_some_rows_is_exact_however_the_index_searches(tmp_path: Path, factory: str) -> None:
    vectors, queries = unit_vectors(800), unit_vectors(3, seed=1)
    build(vectors, factory).save(tmp_path)
    index = open_index(tmp_path, encoder_digest=DIGEST)
    rows = index.rows_of(["p0700", "p0003", "nowhere", "p0150", "p0042"])
    assert rows.tolist() == [3, 42, 150, 700]
    for ranking, query in zip(index.search_among(queries, rows, 3), queries, strict=True):
        scores = vectors[rows] @ query
        best = np.argsort(-scores)[:3]
        assert [hit.passage_id for hit in ranking] == [f"p{rows[place]:04d}" for place in best]
        assert [hit.score for hit in ranking] == pytest.approx(scores[best].tolist(), abs=1e-6)


def test_a_search_among_no_rows_finds_nothing() -> None:
    index = build(unit_vectors(10))
    assert index.search_among(unit_vectors(2, seed=1), index.rows_of(["nowhere"]), 5) == [[], []]
