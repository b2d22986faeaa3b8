import json
from pathlib import Path

import numpy as np
import pytest

from components.index.tuning import grid, tune
from components.shared.index import FaissIndex, IndexSettings, PassageIndex, exact_rows

SIZE = 6000


def unit_vectors(num_rows: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(99).standard_normal((60, 32))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, 60, num_rows)] + 0.7 * random.standard_normal((num_rows, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def build(factory: str) -> FaissIndex:
    vectors = unit_vectors(SIZE, 0)
    settings = IndexSettings("d" * 64, 32, factory, "", SIZE)
    return FaissIndex.build([vectors], map(str, range(SIZE)), sample=vectors, settings=settings)


def tuned(index: PassageIndex, min_recall: float) -> tuple[object, list[dict[str, object]]]:
    queries = unit_vectors(200, 1)
    return tune(index, queries, exact_rows([unit_vectors(SIZE, 0)], queries, 10), min_recall=min_recall)


@pytest.mark.parametrize("factory", ["IVF32,PQ8x4fs,RFlat", "IVF32,Flat", "HNSW16,Flat", "PQ8x4fs,RFlat"])
def test_the_cheapest_parameters_that_hold_the_target_are_kept_in_the_index(factory: str) -> None:
    index = build(factory)
    point, curve = tuned(index, 0.9)
    assert point is not None
    assert index.settings.search_parameters == point.search_parameters
    assert point.recall_10_low >= 0.9
    cheaper = curve[: [its["search_parameters"] for its in curve].index(point.search_parameters)] if curve else []
    assert all(its["recall_10_low"] < 0.9 for its in cheaper)
    recalls = [its["recall_10"] for its in curve]
    assert recalls == sorted(set(recalls))
    json.dumps(curve)


def test_a_higher_target_searches_deeper() -> None:
    index = build("IVF32,Flat")
    few, many = (int(tuned(index, target)[0].search_parameters.removeprefix("nprobe=")) for target in (0.5, 0.99))
    assert few < many


def test_a_target_out_of_reach_chooses_nothing() -> None:
    # Eight half-byte codes of 32 components, never scored again.
    point, curve = tuned(build("IVF32,PQ8x4"), 0.999)
    assert point is None
    assert curve


def test_the_choice_does_not_depend_on_the_clock() -> None:
    chosen = {tuned(build("IVF32,PQ8x4fs,RFlat"), 0.95)[0].search_parameters for _ in range(3)}
    assert len(chosen) == 1


def test_work_is_codes_plus_twice_the_vectors_scored_again() -> None:
    # 1,000 passages in 10 lists, 4 bytes a code: 400 bytes a probe; 2 * 2 * 10 * 8 * 4 = 1,280 bytes for twice the
    # depth of 8 components.
    wanted = ["nprobe=1,k_factor_rf=2", "nprobe=2,k_factor_rf=2", "nprobe=4,k_factor_rf=2", "nprobe=1,k_factor_rf=4"]
    assert list(grid({"nprobe": 10, "code_bytes": 4, "k_factor_rf": 1000}, 1000, 8))[:4] == wanted


def test_an_exact_index_has_nothing_to_tune(tmp_path: Path) -> None:
    assert list(grid(build("Flat").structure(), SIZE, 32)) == [""]
    point, _ = tuned(build("Flat"), 1.0)
    assert (point.recall_10, point.recall_10_low) == (1.0, 1.0)


def test_a_corpus_of_fewer_passages_than_are_looked_for_is_measured() -> None:
    vectors, queries = unit_vectors(4, 0), unit_vectors(20, 1)
    settings = IndexSettings("d" * 64, 32, "Flat", "", 4)
    index = FaissIndex.build([vectors], map(str, range(4)), sample=vectors, settings=settings)
    point, _ = tune(index, queries, exact_rows([vectors], queries, 10), min_recall=1.0)
    assert point is not None
    assert point.recall_10 == 1.0
