"""Local paths and URIs of object stores (gs://, s3://, memory://) behind the same few verbs.

A finished write is all or nothing: a local file is written beside its name and renamed; an object is atomic by itself.
A folder becomes visible with its manifest.json, which is uploaded last, so a reader that sees a manifest sees
everything it lists. A store that fails in a way that may pass by itself is waited for; see stores.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.durable.stores import Location, Result, locate, missing, no_bucket, patiently
from components.shared.durable.stores import is_remote as is_remote
from components.shared.hashing import file_digest, lines_digest, text_digest

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileInfo

MANIFEST_NAME = "manifest.json"

_BLOCK_BYTES = 16 << 20
_SMALL_BYTES = 64 << 10


def exists(uri: str) -> bool:
    """True where a file, an object, or a folder with at least one file lies; a local folder may be empty."""
    if not is_remote(uri):
        return Path(uri).exists()
    location = locate(uri)
    return _size(location) is not None or bool(_list(location))


def read_bytes(uri: str) -> bytes:
    """The whole file.

    Raises:
        FileNotFoundError: Naming the URI.
        ValueError: Where the bucket does not exist or the store refuses, with the remedy.
    """
    if not is_remote(uri):
        return Path(uri).read_bytes()
    location = _object(uri)

    def read() -> bytes:
        with location.filesystem.open_input_stream(location.path) as stream:
            return bytes(stream.readall())

    return _present(location, read)


def write_bytes(uri: str, content: bytes) -> None:
    """Writes the whole file or nothing; a reader never sees half of it.

    Raises:
        ValueError: Where the bucket does not exist or the store refuses, with the remedy.
    """
    if is_remote(uri):
        import pyarrow as pa

        _put(_object(uri), lambda: pa.py_buffer(content))
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
    """Names of all files below a folder, relative to it, sorted; empty where there is none.

    Links to folders are followed, each folder once, but not to one that holds this very folder: circles end.
    """
    if is_remote(uri):
        return sorted(_list(locate(uri)))
    names, entered, root = list[str](), set[str](), os.path.realpath(uri)
    for place, folders, files in os.walk(uri, followlinks=True):
        target = os.path.realpath(place)
        if target in entered or (place != uri and is_around(target, root)):
            folders.clear()
            continue
        entered.add(target)
        names += [str(path.relative_to(uri)) for path in (Path(place, name) for name in files) if path.is_file()]
    return sorted(names)


def is_around(folder: str, root: str) -> bool:
    """Whether a folder is the root or holds it, both without links in their names."""
    return os.path.commonpath((folder, root)) == folder


def file_sizes(uri: str) -> dict[str, int]:
    """Name, relative to the folder, and bytes of every file below it; a bucket is listed, nothing is read."""
    if is_remote(uri):
        return _list(locate(uri))
    return {name: (Path(uri) / name).stat().st_size for name in list_files(uri)}


def fetch(uri: str, to: Path | None = None) -> Path:
    """A local path with the content of the URI: itself when local, else downloaded into `to`.

    Without `to` a new temporary folder is made. Of a single object the path is that of the file in the folder.

    Raises:
        FileNotFoundError: Naming the URI.
        ValueError: Where the bucket does not exist or the store refuses, with the remedy.
    """
    if not is_remote(uri):
        if not Path(uri).exists():
            raise FileNotFoundError(f"{uri}: no such file or folder")
        return Path(uri)
    target = to or Path(tempfile.mkdtemp(prefix="retriever-"))
    location = locate(uri)
    names = sorted(_list(location))
    if not names:
        path = target / location.path.rpartition("/")[2]
        _download(_object(uri), path)
        return path
    for name in names:
        _download(_below(location, name), target / name)
    return target


def delete(uri: str) -> None:
    """Removes one file or object; nothing where there is none."""
    if is_remote(uri):
        _delete(_object(uri))
    else:
        Path(uri).unlink(missing_ok=True)


def remove_folder(uri: str) -> None:
    """Removes a folder with everything in it, its manifest first: what a kill leaves reads as "not made yet"."""
    for name in sorted(list_files(uri), key=lambda file: file != MANIFEST_NAME):
        delete(f"{uri.rstrip('/')}/{name}")
    if not is_remote(uri):
        shutil.rmtree(uri, ignore_errors=True)


def newest_seconds(uri: str) -> float:
    """When the newest file of a folder was written, in seconds since 1970; 0 where there is none."""
    if not is_remote(uri):
        return max((Path(uri, name).stat().st_mtime for name in list_files(uri)), default=0.0)
    return max((info.mtime_ns or 0 for info in _infos(locate(uri))), default=0) / 1e9


def publish(folder: Path, uri: str) -> None:
    """Makes a finished local folder visible under the URI at once, replacing what stood there."""
    if not is_remote(uri):
        _replace_folder(folder, Path(uri))
        return
    location = _object(uri)
    # The manifest goes first and comes last: between, the folder reads as "not made yet".
    for name in sorted(_list(location), key=lambda file: file != MANIFEST_NAME):
        _delete(_below(location, name))
    for name in sorted(list_files(str(folder)), key=lambda file: file == MANIFEST_NAME):
        _upload(folder / name, _below(location, name))


def digest_or_absent(uri: str) -> str:
    """The content's digest, or a word where nothing lies there yet."""
    try:
        return content_digest(uri)
    except FileNotFoundError:
        return "absent"


def content_digest(uri: str) -> str:
    """sha256 over the names and contents of a file or folder; of the text itself where it is a hub name.

    The checksum that a store keeps of an object stands for its content, so nothing is downloaded: crc32c of gs://, the
    ETag of s3://. The same files have another digest there than on a disk. The ETag depends on how an object was
    uploaded: one that another tool uploaded in parts of other sizes, or that the store encrypts with a key of its own,
    has another digest for the same content; never the same digest for another content.

    Raises:
        FileNotFoundError: Where nothing lies under a remote URI, which cannot be a hub name.
    """
    if not is_remote(uri):
        path = Path(uri)
        if not path.exists():
            return text_digest(uri)
        if path.is_file():
            return file_digest(path)
        return lines_digest(f"{name} {file_digest(path / name)}" for name in list_files(uri))
    location = locate(uri)
    if (size := _size(location)) is not None:
        return lines_digest([f" {size} {_checksum(location, size)}"])
    sizes = _list(location)
    if not sizes:
        raise missing(location)
    lines = (f"{name} {sizes[name]} {_checksum(_below(location, name), sizes[name])}" for name in sorted(sizes))
    return lines_digest(lines)


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


def _object(uri: str) -> Location:
    location = locate(uri)
    if "/" not in location.path:
        raise ValueError(f"{uri}: names a bucket only; add the path in it")
    return location


def _below(location: Location, name: str) -> Location:
    return Location(f"{location.uri.rstrip('/')}/{name}", location.filesystem, f"{location.path}/{name}")


def _size(location: Location) -> int | None:
    """Bytes of an object; None where there is none, or a folder only."""
    from pyarrow.fs import FileType

    if "/" not in location.path:
        return None
    info = patiently(location, lambda: location.filesystem.get_file_info(location.path))
    return info.size if info.type == FileType.File else None


def _list(location: Location) -> dict[str, int]:
    """Name, relative to the folder, and bytes of all objects below it."""
    # fsspec begins the paths of memory:// with a slash.
    start = len(location.path) + 1
    return {info.path.lstrip("/")[start:]: info.size for info in _infos(location)}


def _infos(location: Location) -> list[FileInfo]:
    """What the store says of all objects below it."""
    from pyarrow.fs import FileSelector, FileType

    selector = FileSelector(location.path, allow_not_found=True, recursive=True)
    try:
        infos = patiently(location, lambda: location.filesystem.get_file_info(selector))
    except NotADirectoryError:
        # The library says so of an object under memory://.
        return []
    # What bucket browsers leave as the mark of a folder is no file.
    return [info for info in infos if info.type == FileType.File]


def _checksum(location: Location, size: int) -> str:
    import pyarrow as pa

    def metadata() -> dict[str, str]:
        try:
            kept = _small_metadata(location) if size <= _SMALL_BYTES else _large_metadata(location)
        except pa.ArrowInvalid:
            raise
        except ValueError as error:
            # Where the store hangs up between opening and asking, the library says that the file is closed.
            raise OSError(f"UNAVAILABLE: {error}") from error
        return {name: value.decode() for name, value in kept.items()}

    values = _present(location, metadata)
    checksum = values.get("crc32c") or values.get("ETag") or values.get("md5Hash") or values.get("sha256")
    if not checksum:
        raise ValueError(f"{location.uri}: the store keeps no checksum of it; copy it to a local path and name that")
    return checksum


def _small_metadata(location: Location) -> dict[str, bytes]:
    with location.filesystem.open_input_stream(location.path) as stream:
        content = stream.read()
        # No store keeps a checksum for memory://: it is for tests.
        return stream.metadata() or {"sha256": text_digest(content).encode()}


def _large_metadata(location: Location) -> dict[str, bytes]:
    # A handle is made without reading the object. But when it is asked for the metadata, the library begins a download
    # while it holds Python's lock, and nothing else runs meanwhile; so a small object is rather read.
    with location.filesystem.open_input_file(location.path) as file:
        return file.metadata() or {"sha256": text_digest(file.readall()).encode()}


def _present(location: Location, call: Callable[[], Result]) -> Result:
    """The result of a call that needs the object."""
    try:
        return patiently(location, call)
    except FileNotFoundError as error:
        raise missing(location) from error


def _download(location: Location, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")

    def download() -> None:
        with location.filesystem.open_input_stream(location.path) as stream, part.open("wb") as file:
            while block := stream.read(_BLOCK_BYTES):
                file.write(block)

    _present(location, download)
    part.replace(path)


def _upload(path: Path, location: Location) -> None:
    import pyarrow as pa

    def content() -> pa.Buffer:
        # Mapped, not read: a file may be larger than the memory. An empty file cannot be mapped.
        return pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")

    _put(location, content)


def _put(location: Location, content: Callable[[], pa.Buffer]) -> None:
    """Writes one object from one buffer.

    A stream of the library that is closed or dropped makes an object of what was written so far, so nothing may come
    between opening and closing: it is done in a thread of its own, where Python runs no signal handler, and waited for
    even when this thread is told to stop.
    """

    def write() -> None:
        buffer = content()
        stream = location.filesystem.open_output_stream(location.path)
        stream.write(buffer)
        stream.close()

    def attempt() -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(write).result()

    try:
        patiently(location, attempt)
    except FileNotFoundError as error:
        raise no_bucket(location) from error


def _delete(location: Location) -> None:
    def delete() -> None:
        try:
            location.filesystem.delete_file(location.path)
        except FileNotFoundError:
            # An earlier attempt of ours reached the store although its answer did not reach us.
            return

    patiently(location, delete)
