"""An index in milvus-lite: what FAISS finds, nothing twice, and a reason for whatever does not fit."""

import os
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.shared.contract.ending import TransientError
from components.shared.index import (
    FaissIndex,
    IndexSettings,
    MilvusIndex,
    MilvusServer,
    PassageIds,
    open_index,
    uri_problem,
)
from components.shared.index import milvus_server as asked

pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")

DIGEST, CORPUS, SIZE = "d" * 64, "c" * 64, 500
IDS = [f"p{row:04d}" for row in range(SIZE)]


def unit_vectors(num_rows: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num_rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS, QUERIES = unit_vectors(SIZE), unit_vectors(20, seed=1)


def settings_of(factory: str = "Flat", search_parameters: str = "") -> IndexSettings:
    return IndexSettings(DIGEST, 16, factory, search_parameters, SIZE)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("milvus") / "vectors.db")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    for number, part in enumerate(np.array_split(VECTORS, 3)):
        np.save(folder / f"{number}.npy", part)
    return sorted(folder.glob("*.npy"))


def assemble(
    uri: str, shards: list[Path], scratch: Path, factory: str = "Flat", writer: str = "one", search_parameters: str = ""
) -> MilvusIndex:
    settings = settings_of(factory, search_parameters)
    place = {"uri": uri, "corpus": CORPUS, "scratch": scratch, "writer": writer}
    return MilvusIndex.assemble(shards, PassageIds.of(IDS), settings=settings, **place)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(uri: str, shards: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index as the job leaves it."""
    made = tmp_path_factory.mktemp("index")
    assemble(uri, shards, made).save(made)
    return made


@pytest.fixture(scope="module")
def flat() -> FaissIndex:
    return FaissIndex.build([VECTORS], IDS, sample=VECTORS, settings=settings_of())


def test_it_finds_what_faiss_finds(folder: Path, flat: FaissIndex) -> None:
    index = open_index(folder, encoder_digest=DIGEST)
    for (scores, rows), (wanted, wanted_rows) in [(index.search_rows(QUERIES, 10), flat.search_rows(QUERIES, 10))]:
        assert rows.tolist() == wanted_rows.tolist()
        assert scores == pytest.approx(wanted, abs=1e-6)
    assert index.holds(pa.array(IDS))
    assert [len(hits) for hits in index.search(QUERIES[:2], 10_000)] == [SIZE, SIZE]


def test_a_filter_by_passage_ids_ranks_exactly_those(folder: Path, flat: FaissIndex) -> None:
    index = open_index(folder, encoder_digest=DIGEST)
    rows = index.rows_of(["p0007", "p0400", "unknown", "p0003"])
    assert rows.tolist() == [3, 7, 400]
    assert np.array_equal(index.vectors_of(rows[::-1]), VECTORS[rows[::-1]])
    wanted = [[hit.passage_id for hit in hits] for hits in flat.search_among(QUERIES, rows, 2)]
    assert [[hit.passage_id for hit in hits] for hits in index.search_among(QUERIES, rows, 2)] == wanted


@pytest.mark.parametrize(
    ("factory", "deepest"), [("HNSW8", "efSearch=500"), ("IVF4,Flat", "nprobe=4"), ("IVF4,SQ8", "nprobe=4")]
)
def test_faiss_words_name_structures_of_milvus(
    uri: str, shards: list[Path], tmp_path: Path, flat: FaissIndex, factory: str, deepest: str
) -> None:
    index = assemble(uri, shards, tmp_path, factory, search_parameters=deepest)
    _, rows = index.search_rows(QUERIES, 10)
    exact = flat.search_rows(QUERIES, 10)[1]
    shared = [len(set(a) & set(b)) for a, b in zip(rows.tolist(), exact.tolist(), strict=True)]
    assert sum(shared) >= 10 * len(QUERIES) * 0.95
    index.discard()


def test_a_search_deeper_than_the_effort_gives_as_many_hits(uri: str, shards: list[Path], tmp_path: Path) -> None:
    index = assemble(uri, shards, tmp_path, "HNSW8", search_parameters="efSearch=10")
    assert (index.search_rows(QUERIES, 300)[1] >= 0).all()
    index.discard()


def test_asked_twice_it_writes_once(
    uri: str, folder: Path, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = MilvusServer.connect(uri).names()
    monkeypatch.setattr(MilvusServer, "write", lambda *_, **__: pytest.fail("it was written again"))
    assemble(uri, shards, tmp_path).save(tmp_path)
    assert MilvusServer.connect(uri).names() == before
    assert (tmp_path / "index.json").read_bytes() == (folder / "index.json").read_bytes()


class KilledError(BaseException):
    """What no handler catches."""


@pytest.mark.parametrize("keeps_scratch", [True, False], ids=["resumed", "anew"])
def test_a_killed_write_ends_without_duplicates(
    uri: str, shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_scratch: bool
) -> None:
    write, sent, first_scratch = MilvusServer.write, list[int](), tmp_path / "first"
    first_scratch.mkdir()
    monkeypatch.setattr(MilvusServer, "rows_a_message", lambda *_: 100)

    def dying(self: MilvusServer, name: str, first: int, *rest: object, **named: bool) -> None:
        write(self, name, first, *rest, **named)  # type: ignore[arg-type]
        sent.append(first)
        if len(sent) == 3:
            # Behind the insert and before it is noted.
            raise KilledError

    monkeypatch.setattr(MilvusServer, "write", dying)
    with pytest.raises(KilledError):
        assemble(uri, shards, first_scratch, "IVF2,Flat")
    index = assemble(uri, shards, first_scratch if keeps_scratch else tmp_path, "IVF2,Flat")
    assert sent[3:] == sorted(set(sent) - (set(sent[:2]) if keeps_scratch else set()))
    assert index.vectors_of(np.arange(SIZE)).tolist() == VECTORS.tolist()
    assert [name for name in MilvusServer.connect(uri).names() if "partial" in name] == [index._name]
    index.discard()


def test_two_that_write_the_same_at_once_leave_one_collection(uri: str, shards: list[Path], tmp_path: Path) -> None:
    indexes = []
    for writer in ("one", "two"):
        (tmp_path / writer).mkdir()
        indexes.append(assemble(uri, shards, tmp_path / writer, "IVF3,Flat", writer))
    for writer, index in zip(("one", "two"), indexes, strict=True):
        index.save(tmp_path / writer)
    assert (tmp_path / "one/index.json").read_bytes() == (tmp_path / "two/index.json").read_bytes()
    assert indexes[1].search(QUERIES[:1], 3) == indexes[0].search(QUERIES[:1], 3)
    assert not [name for name in MilvusServer.connect(uri).names() if "partial" in name]


def test_an_index_of_another_encoder_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="made by encoder dddddddddddd, asked to serve encoder eeeeeeeeeeee"):
        open_index(folder, encoder_digest="e" * 64)


def changed(folder: Path, into: Path, change: dict[str, object]) -> Path:
    import orjson

    values = orjson.loads((folder / "index.json").read_bytes())
    place = {**values["milvus"], **change.pop("milvus", {})}  # type: ignore[dict-item]
    (into / "index.json").write_bytes(orjson.dumps({**values, **change, "milvus": place}))
    (into / "passage_ids.arrow").write_bytes((folder / "passage_ids.arrow").read_bytes())
    return into


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"milvus": {"collection": "retriever_gone"}}, "collection retriever_gone is not on"),
        ({"dimension": 32}, "'dimension': 16.*the index says.*'dimension': 32"),
        ({"num_passages": 7}, "'num_passages': 500.*the index says.*'num_passages': 7"),
        ({"milvus": {"corpus": "9" * 64}}, "'corpus': 'cccccccccccc'"),
    ],
    ids=["missing", "dimension", "count", "corpus"],
)
def test_a_collection_that_is_not_the_artifacts_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        open_index(changed(folder, tmp_path, change), encoder_digest=DIGEST)


def test_a_server_that_is_away_is_waited_for_and_then_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "1")
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9: connecting.*waited . s, try again later"):
        MilvusServer.connect("http://127.0.0.1:9")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymilvus", None)
    with pytest.raises(ValueError, match=r"pip install 'retriever-pipeline\[milvus\]'"):
        MilvusServer.connect("http://milvus:19530")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://milvus:19530", ""),
        ("https://cluster.example.org", ""),
        ("/data/vectors.db", ""),
        ("http://me:secret@milvus:19530", "holds a password"),
        ("http://", "names no host"),
        ("", "is no address of Milvus"),
        ("vectors", "is no address of Milvus"),
        ("s3://bucket/vectors.db", "is no address of Milvus"),
    ],
)
def test_an_address_is_understood_or_refused(address: str, problem: str) -> None:
    assert uri_problem(address).startswith(problem) if problem else uri_problem(address) == ""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A server that takes one token, as a cluster does; milvus-lite itself takes any."""
    import base64

    import grpc
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from milvus_lite.db import MilvusLite
    from pymilvus.grpc_gen import milvus_pb2_grpc

    wanted = base64.b64encode(b"me:right").decode()

    class Guard(grpc.ServerInterceptor):  # type: ignore[misc]
        def intercept_service(self, go_on: object, call: object) -> object:
            if dict(call.invocation_metadata).get("authorization") == wanted:  # type: ignore[attr-defined]
                return go_on(call)  # type: ignore[operator]

            def refuse(_: object, context: object) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "auth check failure, please check api key is correct")  # type: ignore[attr-defined]

            return grpc.unary_unary_rpc_method_handler(refuse)

    database = MilvusLite(str(tmp_path / "guarded.db"))
    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=[Guard()])
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(0).wait()
    database.close()


def test_a_server_takes_its_token_and_no_other(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(asked.TOKEN_VARIABLE, "me:right")
    assert MilvusServer.connect(guarded).names() == []
    monkeypatch.setenv(asked.TOKEN_VARIABLE, "me:wrong")
    with pytest.raises(ValueError, match="Milvus refuses this token; set RETRIEVER_MILVUS_TOKEN") as refusal:
        MilvusServer.connect(guarded)
    assert "wrong" not in str(refusal.value)
    assert os.environ[asked.TOKEN_VARIABLE] not in repr(refusal.value.__cause__)
