"""A release whose index lies in Milvus: searched in every mode, switched under load, and clear when Milvus is away."""

import json
import os
import threading
from pathlib import Path

import pytest

from components.index.config import IndexConfig
from components.index.job import build_index
from components.serve.config import ServeConfig
from components.shared.contract.ending import TransientError
from components.shared.index import MilvusServer
from components.shared.manifest import read_manifest
from tests.components.serve.served import InProcess, Sources, write_sources

pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")

QUERY = "the danger of a volcano"


def write_in_milvus(folder: Path, uri: str, seed: int) -> Sources:
    sources = write_sources(folder, seed=seed)
    index = folder / "milvus-index"
    build_index(
        IndexConfig(
            dataset_uri=sources.dataset_uri,
            encoder_uri=sources.encoder_uri,
            output_uri=str(index),
            backend="milvus",
            milvus_uri=uri,
            num_recall_queries=4,
        )
    )
    return Sources(sources.encoder_uri, str(index), sources.dataset_uri)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sources, Sources]:
    folder = tmp_path_factory.mktemp("releases")
    first, second = (write_in_milvus(folder / str(seed), str(folder / "vectors.db"), seed) for seed in (0, 1))
    return first, second


def point(pointer: Path, sources: Sources) -> None:
    uris = {"encoder_uri": sources.encoder_uri, "index_uri": sources.index_uri, "dataset_uri": sources.dataset_uri}
    pointer.with_suffix(".new").write_text(json.dumps(uris))
    os.replace(pointer.with_suffix(".new"), pointer)


def hits(server: InProcess, **body: object) -> dict[str, float]:
    answer = server.post("/search", query=QUERY, **body).json()
    return {hit["passage_id"]: round(hit["score"], 5) for hit in answer["hits"]}


def test_it_answers_as_the_same_release_with_faiss_does(both: tuple[Sources, Sources]) -> None:
    sources = both[0]
    faiss = Sources(sources.encoder_uri, str(Path(sources.index_uri).parent / "index"), sources.dataset_uri)
    answers = []
    for served in (sources, faiss):
        server = InProcess(served.config(num_sessions=1))
        bodies = [
            {"mode": mode, "depth": 5, **more}
            for mode in ("dense", "hybrid")
            for more in (
                {},
                {"exclude_passage_ids": ["volcano-danger"]},
                {"passage_ids": ["bakery-danger", "no-such-passage", "violin-craft"]},
            )
        ]
        answers.append([hits(server, **body) for body in bodies])
        server.close()
    for in_milvus, in_faiss in zip(*answers, strict=True):
        assert in_milvus == pytest.approx(in_faiss, abs=2e-5)


def test_a_switch_to_another_collection_and_back_fails_no_request(
    both: tuple[Sources, Sources], tmp_path: Path
) -> None:
    first, second = both
    assert read_manifest(first.index_uri).metrics["collection"] != read_manifest(second.index_uri).metrics["collection"]
    pointer = tmp_path / "pointer.json"
    point(pointer, first)
    server = InProcess(ServeConfig(pointer_uri=str(pointer), pointer_seconds=1000.0, num_sessions=2))
    ended, statuses, versions = threading.Event(), list[int](), list[str]()

    def send() -> None:
        while not ended.is_set():
            answer = server.post("/search", query=QUERY, depth=3)
            statuses.append(answer.status_code)
            versions.append(answer.headers.get("retriever-version", ""))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for sources in (second, first):
        point(pointer, sources)
        assert server.run(server.service.reload())
    ended.set()
    for thread in threads:
        thread.join()
    server.close()
    assert set(statuses) == {200}
    assert len(set(versions)) == 2


def test_a_search_while_milvus_is_away_is_answered_503(
    both: tuple[Sources, Sources], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = InProcess(both[0].config(num_sessions=1))

    def away(*_: object) -> None:
        raise TransientError("http://milvus:19530: search: Milvus does not answer")

    monkeypatch.setattr(MilvusServer, "search", away)
    answer = server.post("/search", query=QUERY, mode="dense")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "Milvus does not answer" in answer.json()["error"]["message"]
    assert server.post("/search", query=QUERY, mode="bm25").status_code == 200
    server.close()


def test_an_index_of_another_encoder_is_no_release(both: tuple[Sources, Sources]) -> None:
    mixed = Sources(both[0].encoder_uri, both[1].index_uri, both[1].dataset_uri)
    with pytest.raises(ValueError, match="their vectors do not mix"):
        InProcess(mixed.config())
