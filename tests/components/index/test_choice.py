import pytest

from components.index.choice import candidates, lists_for

MIB = 1 << 20


def factories(num_passages: int, *, min_recall: float = 0.95, memory_mib: int = 0) -> list[str]:
    return [its.factory for its in candidates(num_passages, 384, min_recall=min_recall, memory_bytes=memory_mib * MIB)]


def test_a_small_corpus_is_searched_exactly() -> None:
    assert factories(30_000) == ["Flat"]


def test_a_large_corpus_gets_lists_of_codes_first_and_exact_search_last() -> None:
    assert factories(200_000) == ["IVF1024,PQ96x4fs,RFlat", "IVF1024,PQ96x4fs,Refine(SQ8)", "HNSW32,Flat", "Flat"]
    assert factories(100_000_000)[:2] == ["IVF32768,PQ96x4fs,RFlat", "IVF32768,PQ96x4fs,Refine(SQ8)"]


def test_a_recall_near_one_gets_a_graph_first() -> None:
    assert factories(200_000, min_recall=0.99)[0] == "HNSW32,Flat"


def test_a_memory_budget_leaves_out_what_does_not_fit() -> None:
    # 200,000 vectors: 293 MiB as 32-bit floats, 73 as bytes; 10.7 of codes and ids, 1.5 of centroids.
    assert factories(200_000, memory_mib=100) == ["IVF1024,PQ96x4fs,Refine(SQ8)"]
    assert factories(200_000, memory_mib=300) == ["IVF1024,PQ96x4fs,Refine(SQ8)", "Flat"]


def test_a_budget_that_nothing_fits_names_what_would() -> None:
    with pytest.raises(
        ValueError, match=r"memory budget of 50 MiB: 200000 vectors .* need at least 86 MiB .*raise memory_mib"
    ):
        factories(200_000, memory_mib=50)


@pytest.mark.parametrize(
    ("num_passages", "num_lists"), [(200_000, 1024), (1_000_000, 4096), (8_800_000, 8192), (100_000_000, 32768)]
)
def test_lists_grow_with_the_square_root(num_passages: int, num_lists: int) -> None:
    # 3 * sqrt(200,000) = 1342, which is nearer to 1024 than to 2048 on a scale of factors.
    assert lists_for(num_passages) == num_lists
