"""MilvusServer: what an index asks of Milvus, a server or milvus-lite in a folder, with errors that say what to do.

The only file that knows pymilvus, which the extra `milvus` installs. A server that does not answer is waited out as a
store is; a token is read from RETRIEVER_MILVUS_TOKEN and appears in no message and no artifact.
"""

from __future__ import annotations

import fcntl
import logging
import logging.config
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float32, Int64

from components.shared.contract.patience import wait_out
from components.shared.index.vectors import Vectors

TOKEN_VARIABLE = "RETRIEVER_MILVUS_TOKEN"
_SCHEMES, _LITE_SUFFIX = ("http", "https"), ".db"
_ROW, _PASSAGE_ID, _VECTOR = "row", "passage_id", "vector"
# Longest VARCHAR of Milvus, in bytes.
_LONGEST_ID = 65_535
# A question that takes longer is not answered any more; an insert may meet a busy machine, and sent again it would be
# more work (30 s were not enough for milvus-lite on one that was busy); building and loading take what they take.
_ANSWER_SECONDS, _INSERT_SECONDS, _WORK_SECONDS = 30.0, 600.0, 6 * 3600.0
# Milvus returns no more hits of a query, and no more rows of a question.
MOST_HITS = 16_384
# gRPC's messages end at 64 MiB; a small part of it keeps a server's memory flat.
_MESSAGE_BYTES = 2 << 20
_HITS_AT_ONCE = 65_536
# Codes of Milvus and words of gRPC that say so whatever the version.
_NOT_THERE = (4, 100)
_REFUSED = ("unauthenticated", "permission_denied", "permission denied", "auth check fail", "privilege")
_AWAY = ("unavailable", "deadline_exceeded", "fail connecting", "timeout", "timed out", "not ready", "retry run out")

Result = TypeVar("Result")


def uri_problem(uri: str) -> str:
    """What is wrong with the address of a server or of milvus-lite's folder; empty where nothing is."""
    parts = urlsplit(uri)
    if parts.scheme in _SCHEMES:
        if parts.username or parts.password:
            return f"holds a password; leave it out and put user:password into {TOKEN_VARIABLE}"
        return "" if parts.hostname else "names no host; write http://host:19530"
    if "://" in uri or not uri.endswith(_LITE_SUFFIX):
        return "is no address of Milvus; write http://host:19530, or a path that ends in .db for milvus-lite"
    return ""


def place_of(uri: str) -> str:
    """The address as an index keeps it: that of a server as it is, a path of this machine in full."""
    return uri if urlsplit(uri).scheme in _SCHEMES else str(Path(uri).expanduser().resolve())


@dataclass(frozen=True)
class Collection:
    """What a collection says of itself."""

    dimension: int
    properties: Mapping[str, str]


class MilvusServer:
    """A connection; every call repeats what passes by itself, up to its patience."""

    def __init__(self, uri: str, client: Any, wait_seconds: float | None) -> None:  # noqa: ANN401 pymilvus has no types
        """Takes the parts; `connect` makes them."""
        self.uri, self._client, self._wait_seconds = uri, client, wait_seconds

    @classmethod
    def connect(cls, uri: str, *, wait_seconds: float | None = None) -> MilvusServer:
        """Opens a connection and asks something, so that a wrong token is known at once.

        Args:
            uri: http(s)://host:port, or the path of milvus-lite's folder.
            wait_seconds: How long a server that does not answer is waited for; default is what RETRIEVER_STORE_SECONDS
                says.

        Raises:
            ValueError: Where pymilvus is not installed, the address is none, or the token is refused.
            TransientError: Where nobody answered in that time.
        """
        client_class = _client_class()
        if problem := uri_problem(uri):
            raise ValueError(f"milvus_uri {uri!r}: {problem}")
        uri = place_of(uri)
        server = cls(uri, None, wait_seconds)

        def opened() -> Any:  # noqa: ANN401 pymilvus has no types
            client = client_class(uri=uri, token=os.environ.get(TOKEN_VARIABLE, ""), timeout=_ANSWER_SECONDS)
            client.list_collections(timeout=_ANSWER_SECONDS)
            return client

        if urlsplit(uri).scheme not in _SCHEMES:
            Path(uri).parent.mkdir(parents=True, exist_ok=True)
        server._client = server._asked("connecting", opened)
        return server

    def names(self) -> list[str]:
        """Names of all collections."""
        return sorted(self._asked("collections", lambda: self._client.list_collections(timeout=_ANSWER_SECONDS)))

    def describe(self, name: str) -> Collection | None:
        """A collection; None where there is none of this name."""
        if name not in self.names():
            return None
        said = self._asked("describe", lambda: self._client.describe_collection(name, timeout=_ANSWER_SECONDS))
        dimensions = [field["params"].get("dim") for field in said["fields"] if field["name"] == _VECTOR]
        return Collection(int(dimensions[0]) if dimensions else 0, dict(said.get("properties") or {}))

    def create(self, name: str, dimension: int, properties: Mapping[str, str]) -> None:
        """Makes an empty collection of rows, passage ids and vectors."""
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(_ROW, DataType.INT64, is_primary=True)
        schema.add_field(_PASSAGE_ID, DataType.VARCHAR, max_length=_LONGEST_ID)
        schema.add_field(_VECTOR, DataType.FLOAT_VECTOR, dim=dimension)
        self._asked(
            "create",
            lambda: self._client.create_collection(
                name, schema=schema, consistency_level="Bounded", properties=dict(properties), timeout=_ANSWER_SECONDS
            ),
        )

    def rows_a_message(self, dimension: int) -> int:
        """Number of rows that are sent or asked for at once."""
        return max(1, min(5000, _MESSAGE_BYTES // (4 * dimension)))

    def write(self, name: str, first: int, passage_ids: Sequence[str], vectors: Vectors, *, may_be_there: bool) -> None:
        """Inserts rows from `first` on.

        Args:
            name: Of the collection.
            first: Row of the first vector.
            passage_ids: Of the rows.
            vectors: Of the rows.
            may_be_there: Some may have been inserted by an attempt that was killed: they are replaced, not doubled.
        """
        rows = [
            {_ROW: first + number, _PASSAGE_ID: passage_id, _VECTOR: vector}
            for number, (passage_id, vector) in enumerate(zip(passage_ids, vectors, strict=True))
        ]
        attempts = 0

        def send() -> None:
            nonlocal attempts
            attempts += 1
            # An insert that was not answered may have been done: the next attempt replaces.
            call = self._client.upsert if may_be_there or attempts > 1 else self._client.insert
            call(name, rows, timeout=_INSERT_SECONDS)

        self._asked("insert", send)

    def build(self, name: str, index_type: str, parameters: Mapping[str, int]) -> None:
        """Writes what was inserted to disk, builds the index over it, and loads it for searching."""
        params = self._client.prepare_index_params()
        # Once more below "params": a client of version 3 flattens them, and milvus-lite reads the older form only.
        params.add_index(_VECTOR, index_type=index_type, metric_type="IP", params={"params": dict(parameters)})
        self._asked("flush", lambda: self._client.flush(name, timeout=_WORK_SECONDS))
        if not self._asked("indexes", lambda: self._client.list_indexes(name)):
            self._asked("build", lambda: self._client.create_index(name, params, timeout=_WORK_SECONDS))
        self.load(name)

    def load(self, name: str) -> None:
        """Makes a collection searchable; nothing where it is."""
        self._asked("load", lambda: self._client.load_collection(name, timeout=_WORK_SECONDS))

    def count(self, name: str) -> int:
        """Number of rows of a loaded collection, the last inserts among them."""
        answer = self._asked(
            "count",
            lambda: self._client.query(
                name, filter="", output_fields=["count(*)"], consistency_level="Strong", timeout=_ANSWER_SECONDS
            ),
        )
        return int(answer[0]["count(*)"])

    def rename(self, name: str, new: str) -> bool:
        """Gives a collection another name, in one step; False where another one has it."""
        if new in self.names():
            return False
        try:
            self._asked("rename", lambda: self._client.rename_collection(name, new, timeout=_ANSWER_SECONDS))
        except ValueError:
            # Somebody else was quicker, or the answer to our own was lost on its way.
            if new not in self.names():
                raise
            return name not in self.names()
        return True

    def drop(self, name: str) -> None:
        """Removes a collection; nothing where there is none."""
        self._asked("drop", lambda: self._client.drop_collection(name, timeout=_ANSWER_SECONDS))

    def search(
        self, name: str, queries: Vectors, depth: int, parameters: Mapping[str, int]
    ) -> tuple[Float32[np.ndarray, "query depth"], Int64[np.ndarray, "query depth"]]:
        """Scores and rows, best first; row -1 where fewer were found."""
        scores = np.full((len(queries), depth), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), depth), -1, dtype=np.int64)
        at_once = max(1, min(MOST_HITS, _HITS_AT_ONCE // depth))
        for start in range(0, len(queries), at_once):
            block = np.ascontiguousarray(queries[start : start + at_once], dtype=np.float32)
            for row, hits in enumerate(self._search(name, block, depth, parameters), start=start):
                rows[row, : len(hits)] = hits.ids
                scores[row, : len(hits)] = hits.distances
        return scores, rows

    def _search(self, name: str, queries: Vectors, depth: int, parameters: Mapping[str, int]) -> Any:  # noqa: ANN401
        return self._asked(
            "search",
            lambda: self._client.search(
                name,
                data=list(queries),
                anns_field=_VECTOR,
                limit=depth,
                search_params={"metric_type": "IP", "params": dict(parameters)},
                # Named, because milvus-lite sends the vectors too where nothing is named.
                output_fields=[_ROW],
                timeout=_ANSWER_SECONDS,
            ),
        )

    def vectors(self, name: str, rows: Int64[np.ndarray, " row"], dimension: int) -> Float32[np.ndarray, "row dim"]:
        """The vectors of rows, as they were written.

        Raises:
            ValueError: Where a row is not there.
        """
        vectors = np.empty((len(rows), dimension), dtype=np.float32)
        at_once = self.rows_a_message(dimension)
        for start in range(0, len(rows), at_once):
            wanted = rows[start : start + at_once].tolist()
            by_row = self._vectors(name, wanted)
            if missing := [row for row in wanted if row not in by_row]:
                raise ValueError(f"{self.uri}: collection {name} lacks row {missing[0]}; build the index again")
            vectors[start : start + len(wanted)] = [by_row[row] for row in wanted]
        return vectors

    def _vectors(self, name: str, rows: Sequence[int]) -> dict[int, Sequence[float]]:
        said = self._asked(
            "vectors",
            lambda: self._client.get(name, list(rows), output_fields=[_ROW, _VECTOR], timeout=_ANSWER_SECONDS),
        )
        return {entity[_ROW]: entity[_VECTOR] for entity in said}

    def _asked(self, what: str, call: Callable[[], Result]) -> Result:
        def translated() -> Result:
            try:
                return call()
            except Exception as error:
                raise _translation(self.uri, error) from error

        # Named, because a hub that is offline (HF_HUB_OFFLINE) says nothing of this server.
        return wait_out(f"{self.uri}: {what}", translated, seconds=self._wait_seconds, passes=_is_away)


def _set_up_nothing(config: Any) -> None:  # noqa: ANN401 the signature of what it stands for
    """Stands for logging.config.dictConfig while pymilvus is imported."""


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Keeps pymilvus from setting up logging when it is imported: that closes the handlers of the whole process."""
    set_up = logging.config.dictConfig
    logging.config.dictConfig = _set_up_nothing
    try:
        yield
    finally:
        logging.config.dictConfig = set_up


def _client_class() -> Any:  # noqa: ANN401 pymilvus has no types
    try:
        with warnings.catch_warnings(), _logging_left_alone():
            # Of its own dependencies; what it warns of is not ours to mend.
            warnings.simplefilter("ignore")
            from pymilvus import MilvusClient
    except ImportError as error:
        raise ValueError("Milvus needs pymilvus; run `pip install 'retriever-pipeline[milvus]'`") from error
    for name in ("pymilvus", "milvus_lite"):
        # They write a traceback for every error that they raise too.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return MilvusClient


def _translation(uri: str, error: Exception) -> Exception:
    """What our callers know: a ConnectionError passes by itself, a ValueError is for a person to mend.

    Anything that is not pymilvus's or gRPC's stays as it is.
    """
    module = type(error).__module__.partition(".")[0]
    if module not in ("pymilvus", "grpc"):
        return error
    said = " ".join(f"{error} {_grpc_words(error)} {_grpc_words(error.__cause__)}".split())[:300]
    words = said.lower()
    if any(word in words for word in _REFUSED):
        return ValueError(f"{uri}: Milvus refuses this token; set {TOKEN_VARIABLE} to user:password or to an API key")
    if "open local milvus failed" in words:
        return _not_opened(uri)
    if any(word in words for word in _AWAY):
        return ConnectionError(f"Milvus does not answer ({said})")
    if getattr(error, "code", None) in _NOT_THERE:
        return ValueError(f"{uri}: the collection is not there ({said}); build the index again")
    return ValueError(f"{uri}: Milvus refuses this ({said})")


def _is_away(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


def _grpc_words(error: BaseException | None) -> str:
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    return f"{code()} {details()}" if callable(code) and callable(details) else ""


def _not_opened(uri: str) -> Exception:
    """Why milvus-lite does not open a folder: another process has it open, or it is damaged."""
    with suppress(OSError), (Path(uri) / "LOCK").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return ConnectionError(
                "another process has this folder open, and milvus-lite lets one in; end that, or run a server"
            )
    return ValueError(f"{uri}: milvus-lite cannot open it (no folder of its own, or damaged); name another path")
