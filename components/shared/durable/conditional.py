"""Writes under a condition: a file is replaced only if it still is what the writer has read, so one of many wins.

pyarrow's file systems cannot say such a condition. gs:// says it with the object's generation (google-cloud-storage,
extra `gcs`), s3:// with its ETag (obstore, extra `s3`; boto3 refuses the python-dateutil that others need), a local
folder with a lock beside the file. Only promotion needs it, so both libraries are imported where they are needed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from components.shared.durable import storage
from components.shared.durable.stores import StoreError, locate, no_bucket, refusal, store_seconds
from components.shared.hashing import text_digest

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.storage import Bucket, Client
    from obstore import UpdateVersion
    from obstore.store import S3Store

# Of the versions below: nothing lies there.
ABSENT = ""
_GENERATION_NOT_THERE = 0
_ATTEMPTS = 8
_CONFLICTS = (409, 412)
_in_memory = threading.Lock()


class ConflictError(Exception):
    """Another writer was there first; the file is as it wrote it."""


class Versioned(NamedTuple):
    """A file as it was read: its content (None where there is none), and what names this state of it."""

    content: bytes | None
    version: str


def read(uri: str) -> Versioned:
    """The file and the version that a later write may be bound to.

    Raises:
        ValueError: Where the bucket does not exist, the store refuses, or its library is missing; with the remedy.
        OSError: Where the store did not answer (StoreError).
    """
    return _reader(uri)(uri)


def write(uri: str, content: bytes, *, version: str) -> None:
    """Writes the whole file if it is still at this version (ABSENT: if there is none), or nothing.

    Raises:
        ConflictError: Where another writer was first.
        ValueError: As for read.
        OSError: As for read.
    """
    try:
        _writer(uri)(uri, content, version)
    except ConflictError:
        # An earlier attempt of ours may have reached the store although its answer did not reach us.
        if read(uri).content != content:
            raise


def _reader(uri: str) -> Callable[[str], Versioned]:
    return {"gs": _read_google, "s3": _read_amazon}.get(_scheme(uri), _read_plainly)


def _writer(uri: str) -> Callable[[str, bytes, str], None]:
    return {"gs": _write_google, "s3": _write_amazon}.get(_scheme(uri), _write_locked)


def _scheme(uri: str) -> str:
    return uri.partition("://")[0] if storage.is_remote(uri) else ""


def _read_plainly(uri: str) -> Versioned:
    try:
        content = storage.read_bytes(uri)
    except FileNotFoundError:
        return Versioned(None, ABSENT)
    return Versioned(content, text_digest(content))


def _write_locked(uri: str, content: bytes, version: str) -> None:
    with _locked(uri):
        if _read_plainly(uri).version != version:
            raise ConflictError(uri)
        storage.write_bytes(uri, content)


@contextmanager
def _locked(uri: str) -> Iterator[None]:
    if storage.is_remote(uri):
        # memory:// is seen by this process only.
        with _in_memory:
            yield
        return
    path = Path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("ab") as file:
        # Let go when the file is closed, also by a kill.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_google(uri: str) -> Versioned:
    bucket, key = _google_of(uri)
    with _google_errors(uri):
        from google.api_core.exceptions import Forbidden, NotFound

        for _ in range(_ATTEMPTS):
            blob = bucket.get_blob(key, retry=_retry())
            if blob is None:
                # Whoever may read objects need not have the right to look at the bucket.
                with contextlib.suppress(Forbidden):
                    if not bucket.exists(retry=_retry()):
                        raise no_bucket(locate(uri))
                return Versioned(None, ABSENT)
            # Of that generation alone, so that content and version are of one state; replaced meanwhile, it is gone.
            with contextlib.suppress(NotFound):
                state = bucket.blob(key, generation=blob.generation)
                return Versioned(bytes(state.download_as_bytes(retry=_retry())), str(blob.generation))
    raise StoreError(f"{uri}: was replaced each of {_ATTEMPTS} times that it was read; try again")


def _write_google(uri: str, content: bytes, version: str) -> None:
    bucket, key = _google_of(uri)
    with _google_errors(uri):
        generation = int(version) if version else _GENERATION_NOT_THERE
        bucket.blob(key).upload_from_string(
            content, content_type="application/json", if_generation_match=generation, retry=_retry()
        )


def _retry() -> Retry:
    from google.cloud.storage.retry import DEFAULT_RETRY

    retry: Retry = DEFAULT_RETRY.with_timeout(store_seconds())
    return retry


@contextmanager
def _google_errors(uri: str) -> Iterator[None]:
    from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except NotFound as error:
        # An object that is not there is no error of these calls.
        raise no_bucket(locate(uri)) from error
    except GoogleAPICallError as error:
        status = int(error.code or 0)
        if status in _CONFLICTS:
            raise ConflictError(uri) from error
        raise _told(uri, f"HTTP status {status}: {error.message}") from error
    except GoogleAuthError as error:
        raise _told(uri, f"Status(UNAUTHENTICATED: {error})") from error
    except (RetryError, RequestException, ConnectionError) as error:
        raise StoreError(f"{uri}: the store did not answer ({error}); see whether it is reachable from here") from error


def _google_of(uri: str) -> tuple[Bucket, str]:
    """The bucket, and the key in it."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return _google(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", "")).bucket(bucket), key


@functools.cache
def _google(_process: int, emulator: str) -> Client:
    try:
        from google.auth.credentials import AnonymousCredentials
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud import storage as google
    except ImportError as error:
        raise ValueError("gs://: promotion needs google-cloud-storage; install the extra `gcs`") from error
    if emulator:
        return google.Client(project="none", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    try:
        return google.Client()
    except DefaultCredentialsError as error:
        raise _told("gs://", f"Status(UNAUTHENTICATED: {error})") from error


def _read_amazon(uri: str) -> Versioned:
    with _amazon_errors(uri):
        store, key = _amazon_of(uri)
        try:
            answer = store.get(key)
        except FileNotFoundError as error:
            # The library says the same of a bucket that is not there, in other words.
            if "NoSuchBucket" in str(error):
                raise no_bucket(locate(uri)) from error
            return Versioned(None, ABSENT)
        return Versioned(bytes(answer.bytes()), str(answer.meta["e_tag"]))


def _write_amazon(uri: str, content: bytes, version: str) -> None:
    with _amazon_errors(uri):
        store, key = _amazon_of(uri)
        mode: UpdateVersion | Literal["create"] = {"e_tag": version} if version else "create"
        store.put(key, content, mode=mode, use_multipart=False)


@contextmanager
def _amazon_errors(uri: str) -> Iterator[None]:
    from obstore import exceptions

    try:
        yield
    except (exceptions.PreconditionError, exceptions.AlreadyExistsError) as error:
        raise ConflictError(uri) from error
    except exceptions.PermissionDeniedError as error:
        raise _told(uri, f"AWS Error ACCESS_DENIED: {_words(error)}") from error
    except exceptions.UnauthenticatedError as error:
        raise _told(uri, f"AWS Error UNAUTHENTICATED: {_words(error)}") from error
    except (FileNotFoundError, exceptions.BaseError) as error:
        problem = str(error)
        if "NoSuchBucket" in problem:
            raise no_bucket(locate(uri)) from error
        # 409: two writers at the same moment; 404 beside If-Match: what was read is not there any more.
        if "ConditionalRequestConflict" in problem or isinstance(error, FileNotFoundError):
            raise ConflictError(uri) from error
        raise _told(uri, _words(error)) from error


def _words(error: Exception) -> str:
    return str(error).partition("Debug source")[0].strip()


def _told(uri: str, problem: str) -> Exception:
    words = refusal(uri, problem)
    return ValueError(words) if words else StoreError(f"{uri}: the store did not do it ({problem}); try again")


def _amazon_of(uri: str) -> tuple[S3Store, str]:
    """The bucket's store, and the key in it."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
    account = os.environ.get("AWS_ACCESS_KEY_ID", ""), os.environ.get("AWS_SECRET_ACCESS_KEY", "")
    return _amazon(os.getpid(), endpoint, region or "us-east-1", bucket, account), key


@functools.cache
def _amazon(_process: int, endpoint: str, region: str, bucket: str, _account: tuple[str, str]) -> S3Store:
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise ValueError("s3://: promotion needs obstore; install the extra `s3`") from error
    # A server with an address of its own seldom has a name for each bucket.
    return S3Store(
        bucket,
        endpoint=endpoint or None,
        region=region,
        virtual_hosted_style_request=not endpoint,
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": "30s"},
        retry_config={"max_retries": _ATTEMPTS, "retry_timeout": timedelta(seconds=store_seconds())},
    )
