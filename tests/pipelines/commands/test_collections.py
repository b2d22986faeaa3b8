"""Collections in Milvus and a store's releases: what nobody names is listed, what is gone is not rolled back to."""

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from components.promote.releases import ReleaseRecord, read_served, serve_next
from components.shared.durable import storage
from components.shared.index import IndexSettings, MilvusPlace, MilvusServer
from pipelines.commands.releases import releases, roll_back

pytest.importorskip("milvus_lite", reason="the extra milvus is not installed")


def promote(store: str, server: MilvusServer, name: str) -> ReleaseRecord:
    """A release whose index names a collection that is there."""
    server.create(f"retriever_{name}", 4, {})
    values = asdict(IndexSettings("e", 4, "Flat", "", 1))
    place = asdict(MilvusPlace(server.uri, f"retriever_{name}", "c"))
    uris = {kind: f"{store}/retrievers/{name}/{kind}" for kind in ("encoder", "index")}
    for uri in uris.values():
        storage.write_bytes(f"{uri}/manifest.json", b"{}")
    storage.write_bytes(f"{uris['index']}/index.json", orjson.dumps(values | {"milvus": place}))
    record = ReleaseRecord(digest=name, encoder_uri=uris["encoder"], index_uri=uris["index"])
    return serve_next(store, read_served(store), record)


def test_what_no_release_names_is_listed_and_dropped_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, store = MilvusServer.connect(str(tmp_path / "vectors.db")), str(tmp_path / "store")
    for name in ("old", "new"):
        promote(store, server, name)
    server.create("retriever_left_partial_1", 4, {})
    server.create("somebody_elses", 4, {})

    def listed(**flags: object) -> set[str]:
        capsys.readouterr()
        releases(store, **flags)  # type: ignore[arg-type]
        return {line.split(" ")[0] for line in capsys.readouterr().out.splitlines() if " on /" in line}

    assert listed() == {"retriever_left_partial_1"}
    assert listed(keep=1, grace_hours=0.0, remove=True) == {"retriever_old", "retriever_left_partial_1"}
    assert len(server.names()) == 4
    assert listed(drop_collections=True) == {"retriever_old", "retriever_left_partial_1"}
    assert server.names() == ["retriever_new", "somebody_elses"]


def test_a_rollback_to_a_collection_that_is_gone_is_refused_and_to_another_is_done(tmp_path: Path) -> None:
    server, store = MilvusServer.connect(str(tmp_path / "vectors.db")), str(tmp_path / "store")
    for name in ("first", "second", "third"):
        promote(store, server, name)
    server.drop("retriever_second")
    with pytest.raises(ValueError, match="release 2: its collection retriever_second is not on"):
        roll_back(store)
    assert roll_back(store, 1).index_uri.endswith("first/index")
