"""Stores that fail, refuse or are named wrongly: what is waited out, what is said at once, what stays whole."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest

from components.shared.durable import storage, stores
from components.shared.durable.stores import StoreError
from tests.bucket import await_port, free_ports
from tests.components.shared.flaky_proxy import FlakyProxy, flaky

_ADDRESS = {"gs": "STORAGE_EMULATOR_HOST", "s3": "AWS_ENDPOINT_URL"}


@pytest.fixture(params=_ADDRESS)
def bucket_uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue({"gs": "bucket", "s3": "s3_bucket"}[request.param]))


@pytest.fixture
def uri(bucket_uri: str, tmp_path: Path) -> str:
    return f"{bucket_uri}/{tmp_path.name}"


@pytest.fixture
def proxy(bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    """Stands between us and the store, whose library gives up early so that it is our own patience that is seen."""
    variable = _ADDRESS[bucket_uri.partition("://")[0]]
    monkeypatch.setattr(stores, "_LIBRARY_SECONDS", 1)
    monkeypatch.setattr(stores, "_LIBRARY_ATTEMPTS", 1)
    with flaky(os.environ[variable]) as between:
        monkeypatch.setenv(variable, between.url)
        yield between


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["reset", 503, 429, 500])
def test_what_passes_by_itself_is_waited_out(
    proxy: FlakyProxy, uri: str, failure: int | str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "60")
    proxy.fail(failure, seconds=3)
    storage.write_bytes(f"{uri}/file", b"late")
    assert proxy.num_failed > 1
    assert "the store does not answer; waiting" in capfd.readouterr().err
    for verb in (storage.read_bytes, storage.list_files, storage.exists, storage.content_digest):
        proxy.fail(failure, seconds=1.5)
        assert verb(uri if verb is storage.list_files else f"{uri}/file")


def test_a_store_that_stays_away_is_given_up_with_a_remedy(
    proxy: FlakyProxy, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "2")
    proxy.fail("reset")
    start = time.monotonic()
    with pytest.raises(StoreError, match=rf"{uri}/file: the store did not answer .* RETRIEVER_STORE_SECONDS") as caught:
        storage.write_bytes(f"{uri}/file", b"1")
    assert time.monotonic() - start < 20
    # launch ends with "try again" for this number.
    assert caught.value.errno == errno.EAGAIN


def test_a_store_that_comes_up_late_is_waited_for(
    bucket_uri: str, uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    variable = _ADDRESS[bucket_uri.partition("://")[0]]
    upstream, (port,) = os.environ[variable], free_ports(1)
    monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
    monkeypatch.setattr(stores, "_LIBRARY_SECONDS", 1)
    monkeypatch.setattr(stores, "_LIBRARY_ATTEMPTS", 1)
    started: list[FlakyProxy] = []
    later = threading.Timer(3, lambda: started.append(FlakyProxy(upstream, port=port)))
    later.start()
    assert not storage.exists(f"{uri}/file")
    later.join()
    started[0].close()
    assert "the store does not answer; waiting" in capfd.readouterr().err


def test_a_store_is_not_waited_for_where_the_setting_is_zero(
    bucket_uri: str, uri: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "0")
    monkeypatch.setenv(_ADDRESS[bucket_uri.partition("://")[0]], "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="did not answer"):
        storage.exists(f"{uri}/file")
    assert "waiting" not in capfd.readouterr().err


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_refusal_is_said_at_once_with_a_remedy(proxy: FlakyProxy, uri: str, status: int) -> None:
    proxy.fail(status)
    start = time.monotonic()
    # The library calls a 401 of S3 a denial too.
    remedy = {401: "credentials", 403: "permission denied", 400: "refuses"}[status]
    with pytest.raises(ValueError, match=rf"{uri}/file: .*({remedy})"):
        storage.write_bytes(f"{uri}/file", b"1")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("scheme", _ADDRESS)
def test_a_server_that_is_not_trusted_is_said_at_once(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("no openssl to make a certificate with")
    (port,) = free_ports(1)
    certificate = [f"-keyout={tmp_path / 'key'}", f"-out={tmp_path / 'certificate'}"]
    flags = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    flags += [word for flag in certificate for word in flag.split("=", 1)]
    subprocess.run([openssl, "req", *flags], check=True, capture_output=True)
    serve = ["-accept", str(port), "-cert", str(tmp_path / "certificate"), "-key", str(tmp_path / "key"), "-www"]
    server = subprocess.Popen([openssl, "s_server", *serve], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_port(port, server)
        monkeypatch.setenv(_ADDRESS[scheme], f"https://localhost:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        with pytest.raises(ValueError, match=rf"{scheme}://tests/file: the server's certificate is not trusted here"):
            storage.read_bytes(f"{scheme}://tests/file")
    finally:
        server.kill()
        server.wait()


def test_wrong_credentials_are_said_at_once(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"s3://tests/file: .*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        storage.write_bytes(f"{s3_bucket}/file", b"1")
    with pytest.raises(ValueError, match=r"s3://tests/file: permission denied"):
        storage.read_bytes(f"{s3_bucket}/file")
    assert time.monotonic() - start < 10


def test_an_account_that_may_only_read_is_told_which_right_it_lacks(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{s3_bucket}/readable", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "r")
    assert storage.read_bytes(f"{s3_bucket}/readable") == b"1"
    with pytest.raises(ValueError, match=r"permission denied .*rights to list the bucket"):
        storage.write_bytes(f"{s3_bucket}/readable", b"2")


def test_no_credentials_at_all_are_said_after_thirty_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Where Google's metadata server is not.
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")
    monkeypatch.setattr(stores, "_CREDENTIAL_SECONDS", 1)
    monkeypatch.setattr(stores, "_LIBRARY_SECONDS", 1)
    with pytest.raises(StoreError, match=r"no credentials after .*gcloud auth application-default login"):
        storage.read_bytes("gs://tests/file")


def test_a_bucket_that_does_not_exist_is_named_at_once(bucket_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = bucket_uri.replace("tests", "tests-misspelt") + "/file"
    # S3 does not tell an account without rights whether a bucket exists.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "admin")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "admin")
    start = time.monotonic()
    for verb in (storage.read_bytes, storage.fetch, storage.content_digest):
        with pytest.raises(ValueError, match=f"{uri}: no such bucket as tests-misspelt"):
            verb(uri)
    assert time.monotonic() - start < 10


def test_a_write_to_a_bucket_that_does_not_exist_is_refused_at_once(bucket: str) -> None:
    with pytest.raises(ValueError, match=r"gs://nowhere/file: no such bucket as nowhere; .*gcloud storage buckets"):
        storage.write_bytes("gs://nowhere/file", b"1")


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("http://host/file", "use a local path or a URI that begins with gs://, s3://, memory://"),
        ("az://container/file", "use a local path or"),
        ("abfs://container/file", "use a local path or"),
        ("GS://bucket/file", "use a local path or"),
        ("minio://mlpipeline/file", "write s3:// and set AWS_ENDPOINT_URL"),
        ("file:///data/corpus", "write the path alone"),
        ("gs:/bucket/file", "a slash is missing"),
        ("s3:bucket/file", "a slash is missing"),
        ("gs:///file", "no bucket named"),
        ("s3://", "no bucket named"),
    ],
)
def test_a_uri_that_is_not_ours_is_refused_with_what_is_known(uri: str, remedy: str) -> None:
    for verb in (storage.exists, storage.read_bytes, storage.list_files, storage.fetch, storage.content_digest):
        with pytest.raises(ValueError, match=remedy):
            verb(uri)
    with pytest.raises(ValueError, match=remedy):
        storage.write_bytes(uri, b"1")


@pytest.mark.parametrize("name", ["hub/model", "/absolute/path", "relative", "C:", "org/model:tag", "with space/x"])
def test_a_path_or_a_hub_name_is_not_remote(name: str) -> None:
    assert not storage.is_remote(name)


def test_a_bucket_alone_can_be_listed_and_not_written(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/at-the-top", b"1")
    assert "at-the-top" in storage.list_files(bucket)
    with pytest.raises(ValueError, match="names a bucket only"):
        storage.write_bytes(bucket, b"1")


@pytest.mark.parametrize(
    ("variable", "value"), [("RETRIEVER_STORE_SECONDS", "5m"), ("STORAGE_EMULATOR_HOST", "ftp://host")]
)
def test_a_setting_that_cannot_work_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        storage.exists("gs://tests/file")


_WRITE_FOR_EVER = """
import sys
from components.shared.durable import storage
from components.shared.contract.stopping import heed_sigterm
heed_sigterm()
number = 0
while True:
    number = (number + 1) % 10
    storage.write_bytes(sys.argv[1], str(number).encode() * 3_000_000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_object_is_whole_even_of_a_writer_that_was_stopped(uri: str, number: signal.Signals) -> None:
    storage.write_bytes(f"{uri}/file", b"0" * 3_000_000)
    for attempt in range(4):
        writer = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, f"{uri}/file"], stderr=subprocess.DEVNULL)
        before = storage.content_digest(f"{uri}/file")
        deadline = time.monotonic() + 60
        while storage.content_digest(f"{uri}/file") == before and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.013 * attempt)
        writer.send_signal(number)
        assert writer.wait(60) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        content = storage.read_bytes(f"{uri}/file")
        assert len(content) == 3_000_000
        assert len(set(content)) == 1


@pytest.mark.slow
def test_an_upload_that_is_cut_leaves_the_old_content(
    proxy: FlakyProxy, uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage.write_bytes(f"{uri}/folder/file", b"old")
    monkeypatch.setenv("RETRIEVER_STORE_SECONDS", "0")
    proxy.fail("cut")
    with pytest.raises(StoreError):
        storage.write_bytes(f"{uri}/folder/file", os.urandom(12_000_000))
    assert proxy.num_failed
    proxy.heal()
    assert storage.read_bytes(f"{uri}/folder/file") == b"old"


def test_what_another_process_wrote_is_listed_at_once(uri: str) -> None:
    assert storage.list_files(uri) == []
    code = "import sys; from components.shared.durable import storage; storage.write_bytes(sys.argv[1], b'1')"
    for number in (1, 2):
        subprocess.run([sys.executable, "-c", code, f"{uri}/{number}"], check=True)
        assert len(storage.list_files(uri)) == number
        assert storage.exists(f"{uri}/{number}")


def _write_and_read(uri: str, text: bytes) -> None:
    storage.write_bytes(f"{uri}/{text.decode()}", text)
    assert storage.read_bytes(f"{uri}/parent") == b"parent"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_goes_on_with_the_store(uri: str) -> None:
    storage.write_bytes(f"{uri}/parent", b"parent")
    children = [get_context("fork").Process(target=_write_and_read, args=(uri, name)) for name in (b"a", b"b")]
    for child in children:
        child.start()
    for _ in range(20):
        assert storage.read_bytes(f"{uri}/parent") == b"parent"
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert storage.list_files(uri) == ["a", "b", "parent"]


@pytest.mark.parametrize("name", ["with space", "ä-ß-漢", "hash#and%25", "a+b&c=d", "dots..in.name", "q?uery"])
def test_any_name_of_a_file_comes_back(uri: str, name: str) -> None:
    storage.write_bytes(f"{uri}/{name}/{name}.txt", name.encode())
    assert storage.list_files(uri) == [f"{name}/{name}.txt"]
    assert storage.read_bytes(f"{uri}/{name}/{name}.txt") == name.encode()
    assert (storage.fetch(uri) / name / f"{name}.txt").read_bytes() == name.encode()


def test_a_digest_stays_until_the_object_is_overwritten(uri: str) -> None:
    content = os.urandom(11_000_000)  # more than one part of an upload to S3
    storage.write_bytes(f"{uri}/file", content)
    digest = storage.content_digest(f"{uri}/file")
    assert storage.content_digest(f"{uri}/file") == digest
    storage.write_bytes(f"{uri}/file", content[::-1])
    assert storage.content_digest(f"{uri}/file") != digest
    storage.write_bytes(f"{uri}/file", content)
    assert storage.content_digest(f"{uri}/file") == digest
    assert storage.content_digest(f"{uri}") == storage.content_digest(f"{uri}/")


def test_a_remote_uri_without_content_is_no_hub_name(uri: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{uri}/nothing: no such object or folder"):
        storage.content_digest(f"{uri}/nothing")


def test_a_large_folder_is_published_and_fetched_whole(uri: str, tmp_path: Path) -> None:
    (tmp_path / "made" / "empty").mkdir(parents=True)
    contents = {"manifest.json": b"{}", "large": os.urandom(25_000_000), "sub/small": b"1", "empty/none": b""}
    for name, content in contents.items():
        (tmp_path / "made" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "made" / name).write_bytes(content)
    storage.publish(tmp_path / "made", f"{uri}/artifact")
    got = storage.fetch(f"{uri}/artifact", tmp_path / "got")
    assert {str(path.relative_to(got)): path.read_bytes() for path in got.rglob("*") if path.is_file()} == contents
