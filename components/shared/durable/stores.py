"""The store that a URI names, and patience with it: gs://, s3:// and memory:// through the file systems of pyarrow.

Why pyarrow: every image has it already (0 MB more; fsspec with gcsfs and s3fs 114 MB in 47 packages, which also refuse
the installed python-dateutil; obstore 16 MB), it works in a forked child (obstore hangs there), it keeps no listings,
and it speaks the JSON API of Google Cloud Storage, which the emulators speak too. Against one SeaweedFS on loopback
pyarrow / obstore / s3fs read 64 MB at 77 / 224 / 57 MB/s, and 500 bytes in 2.4 / 1.2 / 9.4 ms.

Environment: credentials are found where Google's and Amazon's own libraries look. `STORAGE_EMULATOR_HOST` names another
server for gs://; `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` one for s3:// (MinIO, SeaweedFS), `AWS_REGION` its region.
`RETRIEVER_STORE_SECONDS` says how long a failure that may pass by itself is waited out (default 300).
"""

from __future__ import annotations

import functools
import os
import random
import re
import time
from collections.abc import Callable
from datetime import timedelta
from errno import EAGAIN
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

from components.shared import log

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

Result = TypeVar("Result")

REMOTE_SCHEMES = ("gs://", "s3://", "memory://")

# Long enough for a store's pod to be moved to a new node, short against a job of hours.
_STORE_SECONDS = 300
# A machine outside a cloud never gets credentials from a metadata server; a new pod may have to wait seconds for its.
_CREDENTIAL_SECONDS = 30
# How long the library itself goes on with a request before we hear of it: it resumes in the middle of a large object.
_LIBRARY_SECONDS, _LIBRARY_ATTEMPTS = 30, 5
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0
_WARNING_SECONDS = 30.0

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_LOST_SLASH = re.compile(r"(gs|s3|memory):/?[^/]")
_HTTP_STATUS = re.compile(r"HTTP (?:response )?(?:status )?(?:code: )?(\d{3})", re.IGNORECASE)
_UNTRUSTED = re.compile(r"(?:CURL error \[|curlCode: )60\b")
_AWS_ERROR = re.compile(r"AWS Error (\w+)")
_GOOGLE_STATUS = re.compile(r"Status\((\w+):")

# Source: the error names of the AWS SDK for C++ (CoreErrors, S3Errors) and the canonical status codes of Google's APIs.
_NO_BUCKET = {"NO_SUCH_BUCKET"}
_DENIED = {"ACCESS_DENIED", "PERMISSION_DENIED"}
_BAD_CREDENTIALS = {
    "UNAUTHENTICATED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "UNRECOGNIZED_CLIENT",
    "INVALID_SIGNATURE",
}
_REFUSED = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "VALIDATION",
    "INVALID_PARAMETER_VALUE",
    "INVALID_OBJECT_STATE",
}


class StoreError(OSError):
    """A store that did not do what was asked for as long as we waited; a later attempt may find it well."""

    def __init__(self, message: str) -> None:
        # The number is that of "try again": a job that ends with it is retried.
        super().__init__(EAGAIN, message)

    def __str__(self) -> str:
        return str(self.strerror)


class Location(NamedTuple):
    """Where a remote URI leads: a file system and the path in it, which begins with the bucket."""

    uri: str
    filesystem: FileSystem
    path: str


def is_remote(uri: str) -> bool:
    """True for gs://, s3:// and memory:// URIs; False for a local path or a hub name.

    Raises:
        ValueError: Where the URI has another scheme, or one of ours with a slash missing; says what is known.
    """
    if uri.startswith(REMOTE_SCHEMES):
        return True
    if _LOST_SLASH.match(uri):
        raise ValueError(f"{uri}: a slash is missing; a remote URI begins with {_known()}")
    if (scheme := _SCHEME.match(uri)) is None:
        return False
    hints = {
        "file": "write the path alone",
        "minio": "write s3:// and set AWS_ENDPOINT_URL to the address of the server",
    }
    raise ValueError(
        f"{uri}: cannot read or write {scheme[0]}; "
        + hints.get(scheme[1].lower(), f"use a local path or a URI that begins with {_known()}")
    )


def locate(uri: str) -> Location:
    """The file system of a remote URI and the path in it.

    Raises:
        ValueError: Where the URI names no bucket, or the file system cannot be made.
    """
    scheme, _, path = uri.partition("://")
    bucket, _, key = path.partition("/")
    if not bucket:
        raise ValueError(f"{uri}: no bucket named; write {scheme}://<bucket>/<path>")
    key = key.strip("/")
    return Location(uri, _filesystem(scheme, bucket), f"{bucket}/{key}" if key else bucket)


def patiently(location: Location, call: Callable[[], Result]) -> Result:
    """The result of the call, which is repeated with growing pauses while the store fails in a way that may pass.

    Raises:
        OSError: As the call raises it, where it is not the store that fails: FileNotFoundError, a full disk here.
        ValueError: At once, where the bucket does not exist or the store refuses; names the URI and the remedy.
        StoreError: Where it still failed after RETRIEVER_STORE_SECONDS (30 at most where it is about credentials).
    """
    import pyarrow as pa

    start, pause, last_warning = time.monotonic(), _FIRST_PAUSE_SECONDS, -_WARNING_SECONDS
    while True:
        try:
            return call()
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and not _is_of_store(error):
                raise
            problem = _first_words(error)
            # The library's names for an invalid argument and for what a server does not know.
            is_refused = isinstance(error, ValueError | NotImplementedError)
            told = _refused(location.uri, problem) if is_refused else refusal(location.uri, str(error))
            if told is not None:
                raise ValueError(told) from error
            patience = _patience(str(error))
        waited = time.monotonic() - start
        if waited + pause > patience:
            raise StoreError(_given_up(location.uri, problem, waited))
        if waited - last_warning >= _WARNING_SECONDS:
            last_warning = waited
            log.warning("the store does not answer; waiting", uri=location.uri, problem=problem, up_to_seconds=patience)
        # Many workers that lost the store at once must not come back at once.
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def missing(location: Location) -> Exception:
    """What to raise for an object or folder that is not there: the bucket may be the one that is missing."""
    import pyarrow as pa
    from pyarrow.fs import FileType

    bucket = location.path.partition("/")[0]
    try:
        kind = location.filesystem.get_file_info(bucket).type
    except (OSError, pa.ArrowException):
        # Whoever may read objects need not have the right to look at the bucket.
        kind = FileType.Directory
    if kind == FileType.NotFound and not location.uri.startswith("memory://"):
        return no_bucket(location)
    return FileNotFoundError(f"{location.uri}: no such object or folder")


def no_bucket(location: Location) -> ValueError:
    """What to raise for a write that found nothing to write to."""
    return ValueError(_no_bucket(location.uri))


def store_seconds() -> int:
    """How long a failure that may pass by itself is waited out, from RETRIEVER_STORE_SECONDS.

    Raises:
        ValueError: Where it is not a whole number of seconds.
    """
    text = os.environ.get("RETRIEVER_STORE_SECONDS", str(_STORE_SECONDS))
    if not text.isdecimal():
        raise ValueError(f"RETRIEVER_STORE_SECONDS={text!r}: write a whole number of seconds, 0 to wait for nothing")
    return int(text)


def _known() -> str:
    return ", ".join(REMOTE_SCHEMES)


def refusal(uri: str, problem: str) -> str | None:
    """What to tell the user about a failure that no waiting mends; None where it may pass."""
    scheme = uri.partition("://")[0]
    code = _code(problem)
    status = _http_status(problem)
    words = _first_words(problem)
    if code in _NO_BUCKET:
        return _no_bucket(uri)
    if code in _DENIED or (code not in _BAD_CREDENTIALS and status == 403 and not _is_about_credentials(problem)):
        return f"{uri}: permission denied ({words}); {_RIGHTS[scheme]}"
    if code in _BAD_CREDENTIALS or (status == 401 and not _is_about_credentials(problem)):
        return f"{uri}: the store does not accept the credentials ({words}); {_CREDENTIALS[scheme]}"
    if _UNTRUSTED.search(problem):
        return f"{uri}: the server's certificate is not trusted here ({words}); add its authority to /etc/ssl/certs"
    if "PERMANENT_REDIRECT" in problem or status == 301:
        return f"{uri}: the bucket lies in another region ({words}); set AWS_REGION to it"
    is_client_error = status is not None and 400 <= status < 500 and status not in (408, 429)
    if code in _REFUSED or (is_client_error and not _is_about_credentials(problem)):
        return _refused(uri, words)
    return None


def _refused(uri: str, words: str) -> str:
    return f"{uri}: the store refuses ({words}); see whether the URI and the address of the store are right"


_RIGHTS = {
    "gs": "give the account roles/storage.objectUser on the bucket",
    "s3": "see whether the credentials are right, and give the account the rights to list the bucket and to get, put "
    "and delete its objects",
    "memory": "",
}
_CREDENTIALS = {
    "gs": "run `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or bind the pod's service "
    "account to one of Google Cloud",
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or fill in ~/.aws/credentials",
    "memory": "",
}
_CREATE = {
    "gs": "create it (`gcloud storage buckets create gs://{bucket}`)",
    "s3": "create it (`aws s3 mb s3://{bucket}`), or see whether AWS_ENDPOINT_URL names the right server",
    "memory": "",
}


def _no_bucket(uri: str) -> str:
    scheme, _, path = uri.partition("://")
    bucket = path.partition("/")[0]
    return f"{uri}: no such bucket as {bucket}; correct the name or {_CREATE[scheme].format(bucket=bucket)}"


def _given_up(uri: str, problem: str, waited: float) -> str:
    scheme = uri.partition("://")[0]
    if _is_about_credentials(problem):
        return f"{uri}: no credentials after {waited:.0f} s ({problem}); {_CREDENTIALS[scheme]}"
    return (
        f"{uri}: the store did not answer for {waited:.0f} s ({problem}); see whether it runs and is reachable from "
        "here, or set RETRIEVER_STORE_SECONDS to wait longer"
    )


def _patience(problem: str) -> int:
    return min(store_seconds(), _CREDENTIAL_SECONDS) if _is_about_credentials(problem) else store_seconds()


def _is_about_credentials(problem: str) -> bool:
    return "OAuth2 access token" in problem


def _is_of_store(error: OSError) -> bool:
    """False for what is no failure: an object that is not there, and for what this machine says: its disk is full."""
    is_google_or_amazon = _code(str(error)) != ""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return False
    return error.errno is None or is_google_or_amazon


def _code(problem: str) -> str:
    match = _AWS_ERROR.search(problem) or _GOOGLE_STATUS.search(problem)
    return match[1] if match else ""


def _http_status(problem: str) -> int | None:
    match = _HTTP_STATUS.search(problem)
    return int(match[1]) if match else None


def _first_words(error: object) -> str:
    """The library's own words without what only its programmers read."""
    words = str(error).partition(" error_info=")[0].removeprefix("google::cloud::Status(").partition("\n")[0]
    return words if len(words) <= 400 else f"{words[:400]}..."


def _filesystem(scheme: str, bucket: str) -> FileSystem:
    # The process is part of the key: a forked child must not speak through its parent's connections.
    if scheme == "gs":
        return _google(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", ""), store_seconds())
    if scheme == "s3":
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
        if not (endpoint or region):
            region = _region(bucket)
        key = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
        return _amazon(os.getpid(), endpoint, region, key)
    return _memory()


@functools.cache
def _google(_process: int, emulator: str, patience: int) -> FileSystem:
    from pyarrow.fs import GcsFileSystem

    limit = timedelta(seconds=max(1, min(_LIBRARY_SECONDS, patience)))
    if emulator:
        scheme, host = _server(emulator, "STORAGE_EMULATOR_HOST")
        return GcsFileSystem(anonymous=True, scheme=scheme, endpoint_override=host, retry_time_limit=limit)
    return GcsFileSystem(retry_time_limit=limit)


@functools.cache
def _amazon(_process: int, endpoint: str, region: str, _key: tuple[str, str]) -> FileSystem:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    scheme, host = _server(endpoint, "AWS_ENDPOINT_URL") if endpoint else ("https", None)
    return S3FileSystem(
        scheme=scheme,
        endpoint_override=host,
        region=region or "us-east-1",
        connect_timeout=10,
        request_timeout=60,
        # In the background the parts of a large object would all wait in memory.
        background_writes=False,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_LIBRARY_ATTEMPTS),
    )


@functools.cache
def _region(bucket: str) -> str:
    from pyarrow.fs import resolve_s3_region

    try:
        return str(resolve_s3_region(bucket))
    except OSError as error:
        if "not found" in str(error).lower():
            raise ValueError(_no_bucket(f"s3://{bucket}")) from error
        raise StoreError(f"s3://{bucket}: its region could not be asked for ({error}); set AWS_REGION") from error


@functools.cache
def _memory() -> FileSystem:
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        from fsspec.implementations.memory import MemoryFileSystem
    except ImportError as error:
        raise ValueError("memory:// URIs are for tests and need fsspec; run `pip install fsspec`") from error
    return PyFileSystem(FSSpecHandler(MemoryFileSystem()))


def _server(address: str, variable: str) -> tuple[str, str]:
    """Scheme and host with port of a server's address; a bare host is spoken to without encryption."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{variable}={address!r}: write the address of a server, such as http://localhost:9000")
    return parts.scheme, parts.netloc
