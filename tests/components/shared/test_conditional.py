"""A write under a condition: of many writers who read the same, one wins and the others are told."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from components.shared.durable import conditional, storage
from components.shared.durable.conditional import ABSENT, ConflictError

_CONTENDERS = 8
_CONTEND = """
import sys, time
from components.shared.durable import conditional
uri, name, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
version = conditional.read(uri).version
time.sleep(max(0.0, start - time.time()))
try:
    conditional.write(uri, name.encode(), version=version)
    print("won")
except conditional.ConflictError:
    print("lost")
"""


@pytest.fixture(params=["folder", "memory", "gs", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "pointer.json")
    if request.param == "memory":
        return f"memory://tests/{tmp_path.name}/pointer.json"
    bucket = request.getfixturevalue({"gs": "bucket", "s3": "s3_bucket"}[request.param])
    return f"{bucket}/{tmp_path.name}/pointer.json"


def test_a_file_is_written_at_the_version_that_was_read_and_at_no_other(uri: str) -> None:
    assert conditional.read(uri) == (None, ABSENT)
    conditional.write(uri, b"first", version=ABSENT)
    content, first = conditional.read(uri)
    assert content == b"first"
    with pytest.raises(ConflictError):
        conditional.write(uri, b"other", version=ABSENT)
    conditional.write(uri, b"second", version=first)
    with pytest.raises(ConflictError):
        conditional.write(uri, b"late", version=first)
    assert storage.read_bytes(uri) == b"second"


def test_a_file_that_was_removed_meanwhile_is_a_conflict_too(uri: str) -> None:
    conditional.write(uri, b"first", version=ABSENT)
    version = conditional.read(uri).version
    storage.delete(uri)
    with pytest.raises(ConflictError):
        conditional.write(uri, b"second", version=version)
    assert not storage.exists(uri)


def test_a_writer_whose_own_first_attempt_arrived_has_not_lost(uri: str) -> None:
    conditional.write(uri, b"mine", version=ABSENT)
    # The answer to the line above was lost, and the library asks again.
    conditional.write(uri, b"mine", version=ABSENT)
    assert storage.read_bytes(uri) == b"mine"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["folder", "gs", "s3"])
@pytest.mark.parametrize("begins", ["absent", "present"])
def test_one_of_eight_contenders_wins(scheme: str, begins: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    uri = str(tmp_path / "pointer.json")
    if scheme != "folder":
        uri = f"{request.getfixturevalue({'gs': 'bucket', 's3': 's3_bucket'}[scheme])}/{tmp_path.name}/pointer.json"
    if begins == "present":
        conditional.write(uri, b"before", version=ABSENT)
    start = time.time() + 6
    command = [sys.executable, "-c", _CONTEND, uri]
    contenders = [
        subprocess.Popen([*command, str(number), str(start)], stdout=subprocess.PIPE, text=True)
        for number in range(_CONTENDERS)
    ]
    outcomes = [contender.communicate(timeout=120)[0].strip() for contender in contenders]
    assert sorted(outcomes) == ["lost"] * (_CONTENDERS - 1) + ["won"]
    assert storage.read_bytes(uri) == str(outcomes.index("won")).encode()


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_missing_bucket_is_named_with_the_remedy(scheme: str, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue({"gs": "bucket", "s3": "s3_bucket"}[scheme])
    uri = f"{scheme}://nowhere/pointer.json"
    with pytest.raises(ValueError, match=r"no such bucket as nowhere; .*create it|permission denied"):
        conditional.write(uri, b"x", version=conditional.read(uri).version)


def test_whoever_may_not_look_at_the_bucket_may_still_make_the_first_object(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.api_core.exceptions import Forbidden
    from google.cloud.storage import Bucket

    def refused(*_: object, **__: object) -> bool:
        raise Forbidden("storage.buckets.get access denied")

    # The emulator knows no rights.
    monkeypatch.setattr(Bucket, "exists", refused)
    uri = f"{bucket}/{tmp_path.name}/pointer.json"
    conditional.write(uri, b"first", version=conditional.read(uri).version)
    assert storage.read_bytes(uri) == b"first"
    with pytest.raises(ValueError, match="no such bucket as nowhere"):
        conditional.write("gs://nowhere/pointer.json", b"x", version=ABSENT)


def test_credentials_that_are_wrong_or_may_not_write_are_said_with_the_remedy(
    s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{s3_bucket}/{tmp_path.name}/pointer.json"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "r")
    with pytest.raises(ValueError, match=r"pointer.json: permission denied .*put"):
        conditional.write(uri, b"x", version=ABSENT)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(ValueError, match=r"pointer.json: .*(credentials|AWS_SECRET_ACCESS_KEY)"):
        conditional.read(uri)


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_store_that_is_not_there_is_to_be_tried_again(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "2")
    address = {"gs": "STORAGE_EMULATOR_HOST", "s3": "AWS_ENDPOINT_URL"}[scheme]
    monkeypatch.setenv(address, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(OSError, match="the store did not"):
        conditional.read(f"{scheme}://tests/pointer.json")
