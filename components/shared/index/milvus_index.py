"""MilvusIndex: an index in a collection of Milvus; passage ids and what binds it to its encoder lie in the artifact.

A collection is named for the digest of what it holds and never changed. It is written under a name of its own and gets
the final one last, in one step, so whatever has a final name is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from jaxtyping import Float, Float32, Int64

from components.shared import log
from components.shared.contract.ending import TransientError
from components.shared.durable import storage
from components.shared.hashing import file_digest, lines_digest
from components.shared.index.exact import iter_blocks
from components.shared.index.milvus_server import MOST_HITS, MilvusServer
from components.shared.index.milvus_structure import parse_effort, parse_factory
from components.shared.index.passage_ids import PassageIds
from components.shared.index.settings import IndexSettings, MilvusPlace, write_settings
from components.shared.index.vectors import Vectors
from components.shared.records import Hit

COLLECTION_PREFIX = "retriever_"
_PARTIAL = "_partial_"
_NAME_CHARACTERS = 32
_PROGRESS_NAME = "milvus.json"
# Searched by default where nobody says how deep: enough for .95 on the collections that were measured.
_EFFORTS = {"efSearch": 64, "nprobe": 16}


@dataclass(frozen=True)
class _Writing:
    """A collection on its way to its name."""

    partial: str
    scratch: Path

    def done(self) -> int | None:
        """Rows that were answered for; None where this collection was never begun here."""
        path = self.scratch / _PROGRESS_NAME
        values = orjson.loads(path.read_bytes()) if path.exists() else {}
        return int(values["rows"]) if values.get("collection") == self.partial else None

    def note(self, rows: int) -> None:
        """Keeps how far it is."""
        content = orjson.dumps({"collection": self.partial, "rows": rows})
        storage.write_bytes(str(self.scratch / _PROGRESS_NAME), content)


class MilvusIndex:
    """A PassageIndex that Milvus searches; its rows are the primary keys of the collection."""

    def __init__(
        self,
        server: MilvusServer,
        passage_ids: PassageIds,
        settings: IndexSettings,
        place: MilvusPlace,
        partial: str = "",
    ) -> None:
        """Takes the parts; `open` and `assemble` make them. `partial` is the collection's name until `save`."""
        self._server, self._passage_ids, self.settings, self.place = server, passage_ids, settings, place
        self._partial = partial
        self._structure = parse_factory(settings.factory)
        self.set_search_parameters(settings.search_parameters)

    @classmethod
    def open(
        cls, folder: Path, settings: IndexSettings, place: MilvusPlace, *, wait_seconds: float | None = None
    ) -> MilvusIndex:
        """Checks the collection that an artifact names, and loads it.

        Raises:
            ValueError: Where it is missing, or is not what the artifact says.
            TransientError: Where the server did not answer in time.
        """
        server = MilvusServer.connect(place.uri, wait_seconds=wait_seconds)
        remedy = f"name the server that has it, or delete {folder} and build the index again"
        collection = server.describe(place.collection)
        if collection is None:
            raise ValueError(f"{folder}: collection {place.collection} is not on {place.uri}; {remedy}")
        passage_ids = PassageIds.read(folder)
        server.load(place.collection)
        count = server.count(place.collection)
        held = {"dimension": collection.dimension, "num_passages": count, **_made_by(collection.properties)}
        said = {"dimension": settings.dimension, "num_passages": settings.num_passages}
        wanted = {**said, **_made_by(_properties(settings, place))}
        if held != wanted or len(passage_ids) != count:
            raise ValueError(
                f"{folder}: collection {place.collection} on {place.uri} holds {held}, the index says {wanted} with "
                f"{len(passage_ids)} passage ids; {remedy}"
            )
        return cls(server, passage_ids, settings, place)

    @classmethod
    def assemble(
        cls, shards: Sequence[Path], passage_ids: PassageIds, *, settings: IndexSettings, uri: str, corpus: str,
        scratch: Path, writer: str,
    ) -> MilvusIndex:  # fmt: skip
        """Writes vectors on disk into a collection and builds its index; nothing where such a collection is complete.

        A killed attempt is gone on with by the next one that has the same scratch folder; another one starts anew.

        Args:
            shards: Files of vectors, in the order of the rows.
            passage_ids: Of all rows.
            settings: Of the index.
            uri: Of the server.
            corpus: Digest of the corpus.
            scratch: Folder that outlives a kill.
            writer: Tells apart those who write the same content at once.

        Raises:
            ValueError: Where Milvus has no such structure, or refuses.
            TransientError: Where the server did not answer in time, or the collection does not hold what was sent.
        """
        structure = parse_factory(settings.factory)
        server = MilvusServer.connect(uri)
        lines = [settings.encoder_digest, corpus, settings.factory, *map(file_digest, shards)]
        name = COLLECTION_PREFIX + lines_digest(lines)[:_NAME_CHARACTERS]
        place = MilvusPlace(uri, name, corpus)
        if server.describe(name) is not None:
            log.event("the collection is there and complete", collection=name, server=uri)
            server.drop(f"{name}{_PARTIAL}{writer}")
            server.load(name)
            return cls(server, passage_ids, settings, place)
        writing = _Writing(f"{name}{_PARTIAL}{writer}", scratch)
        _insert(server, writing, shards, passage_ids, settings, place)
        server.build(writing.partial, structure.index_type, structure.build)
        if (count := server.count(writing.partial)) != settings.num_passages:
            server.drop(writing.partial)
            raise TransientError(
                f"{uri}: collection {writing.partial} held {count} rows where {settings.num_passages} were sent, and "
                "was removed"
            )
        return cls(server, passage_ids, settings, place, writing.partial)

    def save(self, folder: Path) -> None:
        """Gives the collection its final name, and writes what names it into an existing folder."""
        if self._partial:
            if not self._server.rename(self._partial, self.place.collection):
                # The same content, written at the same time.
                self.discard()
            self._partial = ""
            self._server.load(self.place.collection)
        self._passage_ids.write(folder)
        write_settings(folder, self.settings, self.place)

    def discard(self) -> None:
        """Removes what is not complete yet: an index whose recall is too low stays nowhere."""
        if self._partial:
            self._server.drop(self._partial)

    def set_search_parameters(self, search_parameters: str) -> None:
        """Changes how deep the index searches, in FAISS's words: nprobe=32, efSearch=64.

        Raises:
            ValueError: Where this index has no such parameters.
        """
        self._effort = parse_effort(self._structure, search_parameters)
        self.settings = replace(self.settings, search_parameters=search_parameters)

    def structure(self) -> dict[str, int]:
        """What can be searched more or less deeply, with its largest value, and the bytes of a list's codes."""
        if not self._structure.effort:
            return {}
        most = {self._structure.effort: self._structure.most or self.num_passages}
        return most | {"code_bytes": self._structure.bytes_a_component * self.settings.dimension}

    def keeps_vectors(self) -> bool:
        """True: Milvus keeps what was inserted beside whatever index it builds."""
        return True

    def vectors_of(self, rows: Int64[np.ndarray, " row"]) -> Float32[np.ndarray, "row dimension"]:
        """The vectors of rows, bit by bit."""
        return self._server.vectors(self._name, rows, self.settings.dimension)

    @property
    def num_passages(self) -> int:
        """Passages in the index."""
        return self.settings.num_passages

    def search(self, queries: Vectors, depth: int) -> list[list[Hit]]:
        """The best `depth` passages of each query, best first; equal scores in passage-id order."""
        scores, rows = self.search_rows(queries, depth)
        return [self.hits(of_query, best) for of_query, best in zip(scores, rows, strict=True)]

    def search_rows(
        self, queries: Vectors, depth: int
    ) -> tuple[Float32[np.ndarray, "query depth"], Int64[np.ndarray, "query depth"]]:
        """Scores and rows, best first; row -1 where fewer were found.

        Raises:
            ValueError: Where more hits are wanted than Milvus gives.
        """
        deepest = min(depth, self.num_passages)
        if deepest > MOST_HITS:
            raise ValueError(f"depth {depth}: Milvus gives at most {MOST_HITS} hits of a query; ask for fewer")
        return self._server.search(self._name, queries, deepest, self._search_parameters(deepest))

    def _search_parameters(self, depth: int) -> dict[str, int]:
        name = self._structure.effort
        if not name:
            return {}
        effort = self._effort or _EFFORTS[name]
        # A graph must be searched at least as deep as hits are wanted; Milvus refuses less, where FAISS just does it.
        return {"ef": max(effort, depth)} if name == "efSearch" else {"nprobe": min(effort, self._structure.most)}

    def rows_of(self, passage_ids: Sequence[str]) -> Int64[np.ndarray, " found"]:
        """Rows of those passage ids that the index holds, ascending."""
        return self._passage_ids.rows_of(passage_ids)

    def search_among(self, queries: Vectors, rows: Int64[np.ndarray, " row"], depth: int) -> list[list[Hit]]:
        """The best `depth` of the given rows, best first; every row is scored."""
        return self._passage_ids.best_among(queries, rows, self.vectors_of(rows), depth)

    def holds(self, passage_ids: pa.Array) -> bool:
        """True where these are the passage ids of the rows, in order."""
        return self._passage_ids.equal(passage_ids)

    def hits(self, scores: Float[np.ndarray, " depth"], rows: Int64[np.ndarray, " depth"]) -> list[Hit]:
        """Scores and rows as hits, best first; equal scores in passage-id order, row -1 left out."""
        return self._passage_ids.hits(scores, rows)

    @property
    def _name(self) -> str:
        return self._partial or self.place.collection


def _properties(settings: IndexSettings, place: MilvusPlace) -> dict[str, str]:
    """What a collection says of itself to whoever looks at it on the server."""
    return {
        "retriever.encoder": settings.encoder_digest,
        "retriever.corpus": place.corpus,
        "retriever.factory": settings.factory,
        "retriever.variant": settings.variant,
    }


def _made_by(properties: Mapping[str, str]) -> dict[str, str]:
    return {name: properties.get(f"retriever.{name}", "")[:12] for name in ("encoder", "corpus")}


def _insert(
    server: MilvusServer,
    writing: _Writing,
    shards: Sequence[Path],
    passage_ids: PassageIds,
    settings: IndexSettings,
    place: MilvusPlace,
) -> None:
    """Sends all rows that a killed attempt has not sent."""
    done, is_there = writing.done(), server.describe(writing.partial) is not None
    is_resumed = is_there and done is not None
    if not is_resumed:
        if is_there:
            server.drop(writing.partial)
        server.create(writing.partial, settings.dimension, _properties(settings, place))
        writing.note(0)
    done = done or 0 if is_resumed else 0
    at_once, first = server.rows_a_message(settings.dimension), 0
    with log.Progress("inserting vectors", total=settings.num_passages, unit="vectors", done=done) as bar:
        for block in iter_blocks(shards):
            for row in range(first, first + len(block), at_once):
                part = block[row - first : row - first + at_once]
                last = row + len(part)
                if last <= done:
                    continue
                # The killed attempt may have sent the first of these without hearing so: that is sent to replace.
                ids = passage_ids.between(row, last)
                server.write(writing.partial, row, ids, part, may_be_there=is_resumed and row <= done)
                writing.note(last)
                bar.add(len(part))
            first += len(block)
