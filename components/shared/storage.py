"""Local paths and gs:// URIs behind the same few verbs; a finished write is all or nothing.

A local file is written beside its name and renamed; an object in a bucket is atomic by itself. A folder becomes visible
with its manifest.json, which is uploaded last, so a reader that sees a manifest sees everything it lists.
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.hashing import file_digest, lines_digest, text_digest

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket, Client

REMOTE_SCHEME = "gs://"
MANIFEST_NAME = "manifest.json"


def is_remote(uri: str) -> bool:
    """True for gs:// URIs; everything else is a local path."""
    return uri.startswith(REMOTE_SCHEME)


def exists(uri: str) -> bool:
    """True where a file, an object, or a non-empty folder lies."""
    if not is_remote(uri):
        return Path(uri).exists()
    bucket, name = _bucket(uri)
    return bucket.blob(name).exists() or next(iter(_blobs(uri)), None) is not None


def read_bytes(uri: str) -> bytes:
    """The whole file.

    Raises:
        FileNotFoundError: Naming the URI.
    """
    if not is_remote(uri):
        return Path(uri).read_bytes()
    bucket, name = _bucket(uri)
    blob = bucket.get_blob(name)
    if blob is None:
        raise FileNotFoundError(f"{uri}: no such object")
    return bytes(blob.download_as_bytes())


def write_bytes(uri: str, content: bytes) -> None:
    """Writes the whole file or nothing; a reader never sees half of it."""
    if is_remote(uri):
        bucket, name = _bucket(uri)
        bucket.blob(name).upload_from_string(content)
        return
    path = Path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # A temporary file is private; an artifact is read by other users' containers.
            os.fchmod(file.fileno(), 0o644)
        except BaseException:
            os.unlink(file.name)
            raise
    os.replace(file.name, path)


def list_files(uri: str) -> list[str]:
    """Names of all files below a folder, relative to it, sorted; empty where there is none."""
    if is_remote(uri):
        prefix = uri.rstrip("/") + "/"
        names = (f"{REMOTE_SCHEME}{blob.bucket.name}/{blob.name}"[len(prefix) :] for blob in _blobs(uri))
        # A name that is empty or ends in a slash is the mark that bucket browsers leave for a folder, not a file.
        return sorted(name for name in names if name and not name.endswith("/"))
    folder = Path(uri)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fetch(uri: str, to: Path | None = None) -> Path:
    """A local path with the content of the URI: itself when local, else downloaded into `to` (default: a new temporary folder).

    Raises:
        FileNotFoundError: Naming the URI.
    """
    if not is_remote(uri):
        if not Path(uri).exists():
            raise FileNotFoundError(f"{uri}: no such file or folder")
        return Path(uri)
    target = to or Path(tempfile.mkdtemp(prefix="retriever-"))
    names = list_files(uri)
    if not names:
        target = target / uri.rsplit("/", 1)[-1]
        target.parent.mkdir(parents=True, exist_ok=True)
        bucket, name = _bucket(uri)
        blob = bucket.get_blob(name)
        if blob is None:
            raise FileNotFoundError(f"{uri}: no such object or folder")
        blob.download_to_filename(str(target))
        return target
    bucket, folder = _bucket(uri)
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        bucket.blob(f"{folder.rstrip('/')}/{name}").download_to_filename(str(target / name))
    return target


def publish(folder: Path, uri: str) -> None:
    """Makes a finished local folder visible under the URI at once, replacing what stood there."""
    if not is_remote(uri):
        _replace_folder(folder, Path(uri))
        return
    bucket, name = _bucket(uri)
    # The manifest goes first and comes last: between, the folder reads as "not made yet".
    for relative in sorted(list_files(uri), key=lambda file: file != MANIFEST_NAME):
        bucket.blob(f"{name.rstrip('/')}/{relative}").delete()
    for relative in sorted(list_files(str(folder)), key=lambda file: file == MANIFEST_NAME):
        bucket.blob(f"{name.rstrip('/')}/{relative}").upload_from_filename(str(folder / relative))


def content_digest(uri: str) -> str:
    """sha256 over the names and contents of a file or folder; of the text itself where nothing lies under it (a hub name).

    Of objects in a bucket the checksum that the bucket keeps stands for the content, so nothing is downloaded; the same
    files have another digest there than on a disk.
    """
    if not exists(uri):
        return text_digest(uri)
    if is_remote(uri):
        lines = _remote_lines(uri)
    elif Path(uri).is_file():
        return file_digest(Path(uri))
    else:
        lines = [f"{name} {file_digest(Path(uri) / name)}" for name in list_files(uri)]
    return lines_digest(lines)


def _remote_lines(uri: str) -> list[str]:
    bucket, name = _bucket(uri)
    blob = bucket.get_blob(name) if name else None
    if blob is not None:
        return [f" {blob.size} {blob.crc32c}"]
    return sorted(f"{blob.name.removeprefix(name)} {blob.size} {blob.crc32c}" for blob in _blobs(uri))


def _replace_folder(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        # Two renames instead of one: a folder cannot be renamed over a non-empty one. A kill between them leaves the
        # old content under .old and no target, which reads as "not made yet", never as a mixture.
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        folder.rename(target)
        shutil.rmtree(old)
        return
    folder.rename(target)


def _bucket(uri: str) -> tuple[Bucket, str]:
    bucket_name, _, name = uri.removeprefix(REMOTE_SCHEME).partition("/")
    return _client().bucket(bucket_name), name


@functools.cache
def _client() -> Client:
    # Imported here: it costs 0.4 s and is not installed where everything is local. One client a process: each new one
    # asks for credentials again.
    try:
        from google.cloud.storage import Client
    except ImportError as error:
        raise ValueError("gs:// URIs need google-cloud-storage; run `pip install 'retriever-pipeline[gcs]'`") from error
    return Client()


def _blobs(uri: str) -> Iterator[Blob]:
    bucket, name = _bucket(uri)
    yield from bucket.client.list_blobs(bucket, prefix=name.rstrip("/") + "/" if name else "")
