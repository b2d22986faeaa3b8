"""Local paths and buckets behind the same verbs: what is read, what is all or nothing, what is named in an error."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.shared.durable import storage
from components.shared.durable.stores import locate
from components.shared.manifest import (
    artifact_writer,
    compute_identity,
    input_digests,
    is_finished,
    open_artifact,
    read_manifest,
)
from components.shared.roles import INPUT, OUTPUT, SETTING

_BUCKETS = {"gs": "bucket", "s3": "s3_bucket", "memory": ""}


@pytest.fixture(params=["local", *_BUCKETS])
def folder_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of every kind, that is not there yet."""
    return str(tmp_path / "folder") if request.param == "local" else _remote(request, tmp_path)


@pytest.fixture(params=_BUCKETS)
def remote_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of every kind of store, that is not there yet."""
    return _remote(request, tmp_path)


@pytest.fixture(params=["gs", "s3"])
def served_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder of every store that other processes reach, that is not there yet."""
    return _remote(request, tmp_path)


def _remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    fixture = _BUCKETS[request.param]
    bucket = request.getfixturevalue(fixture) if fixture else "memory://tests"
    return f"{bucket}/{tmp_path.name}/folder"


def test_what_is_written_is_read(folder_uri: str) -> None:
    assert not storage.exists(f"{folder_uri}/a/b.json")
    storage.write_bytes(f"{folder_uri}/a/b.json", b"one")
    storage.write_bytes(f"{folder_uri}/a/b.json", b"two")
    assert storage.read_bytes(f"{folder_uri}/a/b.json") == b"two"
    assert storage.exists(f"{folder_uri}/a/b.json")
    assert storage.exists(f"{folder_uri}/a")
    assert not storage.exists(f"{folder_uri}/a/b")
    assert storage.list_files(folder_uri) == ["a/b.json"]


def test_what_is_not_there_is_named(folder_uri: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{folder_uri}/nothing"):
        storage.read_bytes(f"{folder_uri}/nothing")
    with pytest.raises(FileNotFoundError, match=f"{folder_uri}/nothing"):
        storage.fetch(f"{folder_uri}/nothing")
    assert storage.list_files(f"{folder_uri}/nothing") == []


def test_files_are_listed_sorted_and_relative(folder_uri: str) -> None:
    for name in ("b", "a/z", "a/b/c", "ab"):
        storage.write_bytes(f"{folder_uri}/{name}", b"")
    assert storage.list_files(folder_uri) == ["a/b/c", "a/z", "ab", "b"]
    assert storage.list_files(f"{folder_uri}/a/") == ["b/c", "z"]


def test_a_folder_and_a_file_are_fetched(folder_uri: str) -> None:
    storage.write_bytes(f"{folder_uri}/a/b", b"one")
    storage.write_bytes(f"{folder_uri}/c", b"two")
    folder = storage.fetch(folder_uri)
    assert (folder / "a" / "b").read_bytes() == b"one"
    assert (folder / "c").read_bytes() == b"two"
    assert storage.fetch(f"{folder_uri}/c").read_bytes() == b"two"


def _folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("_json", ".json")).write_text(text)
    return path


def test_a_published_folder_replaces_what_stood_there(folder_uri: str, tmp_path: Path) -> None:
    storage.publish(_folder(tmp_path / "first", manifest_json="1", old="old", same="1"), folder_uri)
    storage.publish(_folder(tmp_path / "second", manifest_json="2", same="2"), folder_uri)
    assert storage.list_files(folder_uri) == ["manifest.json", "same"]
    assert storage.read_bytes(f"{folder_uri}/same") == b"2"


def test_a_digest_depends_on_names_and_contents_only(folder_uri: str) -> None:
    for copy in ("one", "two"):
        storage.write_bytes(f"{folder_uri}/{copy}/a", b"1")
        storage.write_bytes(f"{folder_uri}/{copy}/b/c", b"2")
    digest = storage.content_digest(f"{folder_uri}/one")
    assert storage.content_digest(f"{folder_uri}/two") == digest
    storage.write_bytes(f"{folder_uri}/two/b/c", b"3")
    assert storage.content_digest(f"{folder_uri}/two") != digest
    storage.write_bytes(f"{folder_uri}/one/d", b"")
    assert storage.content_digest(f"{folder_uri}/one") != digest
    assert storage.content_digest(f"{folder_uri}/one/a") != storage.content_digest(f"{folder_uri}/two/b/c")


def test_a_hub_name_has_the_digest_of_its_text() -> None:
    # sha256 of the text, as `printf intfloat/e5-base | sha256sum` gives it
    assert storage.content_digest("hub/model-a") != storage.content_digest("hub/model-b")
    assert storage.content_digest("hub/model-a") == storage.content_digest("hub/model-a")


def test_the_mark_of_a_folder_in_a_bucket_is_no_file(bucket: str) -> None:
    locate(f"{bucket}/marked").filesystem.create_dir("tests/marked")
    storage.write_bytes(f"{bucket}/marked/a", b"1")
    assert storage.list_files(f"{bucket}/marked") == ["a"]
    assert sorted(path.name for path in storage.fetch(f"{bucket}/marked").iterdir()) == ["a"]


def test_a_neighbour_with_a_longer_name_is_not_part_of_a_folder(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/near/index/a", b"1")
    storage.write_bytes(f"{bucket}/near/index-2/b", b"2")
    assert storage.list_files(f"{bucket}/near/index") == ["a"]


def test_nothing_is_downloaded_for_a_digest(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage.write_bytes(f"{bucket}/large/a", b"1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    storage.content_digest(f"{bucket}/large")
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True, kw_only=True)
class _Config:
    output_uri: str = field(metadata=OUTPUT)
    corpus_uri: str = field(default="", metadata=INPUT)
    seed: int = field(default=42, metadata=SETTING)


def test_an_artifact_in_a_bucket_is_finished_when_its_manifest_is_there(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # the partial folder of a remote artifact lies below
    config = _Config(output_uri=f"{bucket}/artifacts/index")
    identity = compute_identity("index", config, input_digests(config))
    assert not is_finished(config.output_uri, identity)
    with artifact_writer("index", config) as artifact:
        (artifact.path / "rows").write_text("12")
        artifact.metrics["num_rows"] = 1
    assert is_finished(config.output_uri, identity)
    assert (open_artifact(config.output_uri) / "rows").read_text() == "12"
    assert read_manifest(config.output_uri).metrics == {"num_rows": 1}
    storage.write_bytes(f"{config.output_uri}/rows", b"34")
    with pytest.raises(ValueError, match=r"rows: content differs"):
        open_artifact(config.output_uri)


_WRITE_FOR_EVER = """
import sys
from components.shared.durable import storage
for number in range(10**9):
    storage.write_bytes(sys.argv[1], str(number).encode() * 100_000)
"""


def test_a_reader_never_sees_half_of_a_file_even_of_a_killed_writer(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(path)])
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(50):
            content = storage.read_bytes(str(path))
            digits = content[: len(content) // 100_000]
            assert content == digits * 100_000
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        content = path.read_bytes()
        assert content == content[: len(content) // 100_000] * 100_000


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "file"), b"old")
    with pytest.raises(TypeError):
        storage.write_bytes(str(tmp_path / "file"), 7)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
