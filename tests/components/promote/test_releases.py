"""A store's history: one release at a time takes the place of another, none is undone unseen, all can come back."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from components.promote.releases import (
    ReleaseRecord,
    Served,
    contents_digest,
    history,
    read_served,
    remove,
    serve_next,
    stored,
    to_restore,
)
from components.shared.contract.pointer import parse_pointer
from components.shared.durable import storage

_CONTENDERS = 8
_CONTEND = """
import sys, time
from components.promote.releases import ReleaseRecord, read_served, serve_next
store, name, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
served = read_served(store)
time.sleep(max(0.0, start - time.time()))
try:
    record = serve_next(store, served, ReleaseRecord(digest=name, encoder_uri="e", index_uri="i", evaluation=name))
    print("won", record.release)
except ValueError as error:
    print("lost", error)
"""


@pytest.fixture(params=["folder", "gs", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    bucket = request.getfixturevalue({"gs": "bucket", "s3": "s3_bucket"}[request.param])
    return f"{bucket}/{tmp_path.name}"


def _record(store: str, name: str, *, files: int = 10) -> ReleaseRecord:
    """A release whose artifacts are there."""
    uris = [f"{store}/retrievers/{name}/{kind}" for kind in ("encoder", "index")]
    for uri in uris:
        storage.write_bytes(f"{uri}/data", b"0" * files)
        storage.write_bytes(f"{uri}/manifest.json", b"{}")
    return ReleaseRecord(digest=name, encoder_uri=uris[0], index_uri=uris[1], verdict="pass", evaluation=f"runs/{name}")


def _promote(store: str, name: str) -> ReleaseRecord:
    return serve_next(store, read_served(store), _record(store, name))


def test_history_tells_every_release_and_the_pointer_the_newest(store: str) -> None:
    assert (read_served(store).record, history(store)) == (None, [])
    for name in ("one", "two", "three"):
        _promote(store, name)
    records = history(store)
    assert [(record.release, record.digest, record.before) for record in records] == [
        (3, "three", 2),
        (2, "two", 1),
        (1, "one", 0),
    ]
    assert records[0] == read_served(store).record
    pointer = f"{store}/pointer.json"
    assert parse_pointer(pointer, storage.read_bytes(pointer)).encoder_uri == f"{store}/retrievers/three/encoder"


def test_whoever_read_an_older_state_changes_nothing_and_hears_the_winner(store: str) -> None:
    seen = read_served(store)
    _promote(store, "winner")
    with pytest.raises(
        ValueError, match=r"release 1 \(winner, from runs/winner\) took the place of a store without any"
    ):
        serve_next(store, seen, _record(store, "loser"))
    assert [record.digest for record in history(store)] == ["winner"]


@pytest.mark.slow
def test_of_eight_that_promote_at_once_one_wins_and_seven_name_it(store: str) -> None:
    _promote(store, "before")
    start = time.time() + 8
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", _CONTEND, store, f"run-{number}", str(start)], stdout=subprocess.PIPE, text=True
        )
        for number in range(_CONTENDERS)
    ]
    outcomes = [contender.communicate(timeout=120)[0].strip() for contender in contenders]
    (winner,) = [number for number, outcome in enumerate(outcomes) if outcome == "won 2"]
    lost = [outcome for number, outcome in enumerate(outcomes) if number != winner]
    assert all(
        f"release 2 (run-{winner}, from run-{winner}) took the place of release 1" in outcome for outcome in lost
    )
    assert [record.digest for record in history(store)] == [f"run-{winner}", "before"]


def test_a_kill_between_pointer_and_history_is_mended_by_whoever_comes_next(store: str) -> None:
    _promote(store, "one")
    _promote(store, "two")
    storage.delete(f"{store}/releases/2.json")
    assert [record.release for record in history(store)] == [2, 1]
    _promote(store, "three")
    assert json.loads(storage.read_bytes(f"{store}/releases/2.json"))["digest"] == "two"
    assert [record.release for record in history(store)] == [3, 2, 1]


def test_a_rollback_goes_back_by_content_and_again_goes_further_back(tmp_path: Path) -> None:
    store = str(tmp_path)
    for name in ("one", "two", "three"):
        _promote(store, name)
    for expected in ("two", "one"):
        restored = to_restore(history(store))
        assert restored.digest == expected
        record = serve_next(store, read_served(store), replace(restored, action="rollback", restored=restored.release))
        assert (record.action, record.digest) == ("rollback", expected)
    assert [record.release for record in history(store)] == [5, 4, 3, 2, 1]
    with pytest.raises(ValueError, match="none before it with other content"):
        to_restore(history(store))
    assert to_restore(history(store), 3).digest == "three"
    with pytest.raises(ValueError, match="no release 9 before the one that is served"):
        to_restore(history(store), 9)


def test_what_was_removed_cannot_come_back_and_says_so(tmp_path: Path) -> None:
    store = str(tmp_path)
    _promote(store, "one")
    _promote(store, "two")
    remove(store, "one")
    with pytest.raises(ValueError, match="release 1 was removed"):
        to_restore(history(store))


def test_only_what_nobody_needs_may_go(store: str) -> None:
    for name in ("one", "two", "three", "four"):
        _promote(store, name)
    storage.write_bytes(f"{store}/retrievers/half/encoder/data", b"12345")

    def kept(*, keep: int = 2, grace_seconds: float = 0.0) -> dict[str, str]:
        rows = stored(store, keep=keep, grace_seconds=grace_seconds, now=time.time() + 3600)
        return {row.digest: row.kept for row in rows}

    assert kept() == {"four": "served", "three": "one of the last 2", "two": "", "one": "", "half": ""}
    fresh = kept(grace_seconds=86400.0)
    assert fresh["two"] == "a server may be loading it"
    assert fresh["half"] == "may be on its way"
    # What was rolled back to is served, however old it is.
    one = next(record for record in history(store) if record.digest == "one")
    serve_next(store, read_served(store), replace(one, action="rollback", restored=1))
    assert kept(keep=1)["one"] == "served"
    assert kept(keep=1)["four"] == ""
    remove(store, "two")
    assert not storage.list_files(f"{store}/retrievers/two")
    assert {row.digest: row.num_bytes for row in stored(store, keep=1, grace_seconds=0, now=0)}["half"] == 5


def test_a_pointer_that_a_person_wrote_is_followed_by_release_one(tmp_path: Path) -> None:
    store = str(tmp_path)
    pointer = {"encoder_uri": "e", "index_uri": "i"}
    storage.write_bytes(f"{store}/pointer.json", json.dumps(pointer).encode())
    served = read_served(store)
    assert isinstance(served, Served)
    assert served.record is not None
    assert (served.record.release, served.record.action) == (0, "by hand")
    assert _promote(store, "one").release == 1
    assert [record.release for record in history(store)] == [1]


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "pointer.json"), b'{"encoder_uri": "e", "index_uri": "i", "release": 1}')
    with pytest.raises(ValueError, match=r"pointer.json: no record of a release"):
        read_served(str(tmp_path))


def test_the_address_is_of_every_artifact_by_its_name() -> None:
    assert contents_digest({"encoder": "a", "index": "b"}) != contents_digest({"encoder": "b", "index": "a"})
