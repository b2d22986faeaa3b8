"""FAISS on a GPU finds what it finds on a CPU, and what it trained there is searched here."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from components.shared.index import FaissIndex, IndexSettings, open_index, structure
from tests.gpu.devices import DEVICES, faiss_gpu

_DIMENSION, _CENTRES, _VECTORS, _QUERIES = 64, 40, 6000, 200
# k-means starts alike and sums in another order; clusters at its border change sides.
_MOST_LOST = 0.02


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Unit vectors in clusters, the queries last."""
    random = np.random.default_rng(3)
    centres = random.normal(size=(_CENTRES, _DIMENSION))
    made = centres[random.integers(_CENTRES, size=_VECTORS + _QUERIES)] + random.normal(
        scale=0.6, size=(_VECTORS + _QUERIES, _DIMENSION)
    )
    unit: np.ndarray = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _settings(factory: str, parameters: str) -> IndexSettings:
    return IndexSettings(
        factory=factory,
        search_parameters=parameters,
        dimension=_DIMENSION,
        num_passages=_VECTORS,
        encoder_digest="gpu",
        variant="fp32",
    )


def _built(vectors: np.ndarray, factory: str, parameters: str) -> FaissIndex:
    ids = [str(row) for row in range(_VECTORS)]
    passages = vectors[:_VECTORS]
    return FaissIndex.build([passages], ids, sample=passages, settings=_settings(factory, parameters))


def _recall(index: FaissIndex, vectors: np.ndarray) -> float:
    queries = vectors[_VECTORS:]
    exact = np.argsort(-(queries @ vectors[:_VECTORS].T), axis=1)[:, :10]
    hits = index.search(queries, 10)
    shared = [
        len({int(hit.passage_id) for hit in row} & set(best.tolist())) for row, best in zip(hits, exact, strict=True)
    ]
    return sum(shared) / (10 * len(shared))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("factory", "parameters"),
    [("IVF32,Flat", "nprobe=4"), ("IVF32,PQ16x4fs,RFlat", "nprobe=4,k_factor_rf=10")],
)
def test_what_is_trained_on_a_device_is_searched_like_what_a_cpu_trained(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, factory: str, parameters: str
) -> None:
    used = []
    if device == "cuda":
        faiss_gpu()
    else:
        # FAISS as its GPU build is called, with the CPU in the GPU's place.
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
        monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: index)
    on_gpus = faiss.index_cpu_to_all_gpus
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", lambda index: used.append(index.d) or on_gpus(index))
    index = _built(vectors, factory, parameters)
    assert used == [_DIMENSION]
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    of_cpu = _recall(_built(vectors, factory, parameters), vectors)
    assert used == [_DIMENSION]
    assert of_cpu > 0.8
    assert _recall(index, vectors) >= of_cpu - _MOST_LOST
    # It is written and read as any other.
    index.save(tmp_path)
    read = open_index(tmp_path, encoder_digest="gpu")
    assert _recall(read, vectors) == _recall(index, vectors)


@pytest.mark.gpu
def test_a_search_on_a_gpu_finds_what_a_search_on_the_cpu_finds(vectors: np.ndarray) -> None:
    faiss_gpu()
    on_cpu = structure.trained("IVF32,Flat", _DIMENSION, vectors[:_VECTORS])
    on_cpu.add(vectors[:_VECTORS])
    on_gpu = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, on_cpu)
    for index in (on_cpu, on_gpu):
        index.nprobe = 4
    scores, rows = on_cpu.search(vectors[_VECTORS:], 10)
    gpu_scores, gpu_rows = on_gpu.search(vectors[_VECTORS:], 10)
    # Equal scores may change places.
    assert np.allclose(scores, gpu_scores, atol=1e-3)
    assert (rows == gpu_rows).mean() > 0.99
