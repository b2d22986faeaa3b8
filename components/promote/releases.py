"""The store of releases: what is served, what was, and how one takes the place of another.

    retrievers/<digest>/{encoder,index,dataset,checkpoint}   never changed, each with its manifest last
    pointer.json        what is served, written under the condition that nobody else has
    releases/<n>.json   history; release n stands in the pointer first, so n has one author

A kill between the last two leaves a history that lacks its newest record, which the pointer has: whoever reads or
writes next mends it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import orjson

from components.shared.contract.pointer import POINTER_NAME, pointer_values
from components.shared.durable import conditional, storage
from components.shared.hashing import text_digest

ARTIFACTS = ("encoder", "index", "dataset", "checkpoint")
# Of sha256: an address that people copy by hand.
DIGEST_CHARACTERS = 16


@dataclass(frozen=True, kw_only=True)
class ReleaseRecord:
    """One release: what is served from its `time` on until the next one.

    Attributes:
        digest: Of all artifacts together; the folder below retrievers/.
        encoder_uri: Where the copy of the encoder lies.
        index_uri: Of the index.
        dataset_uri: Of the dataset; empty where none is served.
        checkpoint_uri: Of what the encoder was exported from, for the next training; empty where it was not given.
        release: Its number in the store's history, from 1; 0 of a pointer that was written by hand.
        action: What made it.
        before: Number of the release whose place it took; 0 where there was none.
        restored: Of a rollback: number of the release that is served again.
        collection: Digest of the collection that its dataset was prepared from; empty where that is not known.
        evaluation: Address of the evaluation whose gate let it through.
        verdict: Of the gate.
        reasons: Of the gate.
        metrics: Of the evaluation.
        time: Seconds since 1970.
    """

    digest: str
    encoder_uri: str
    index_uri: str
    dataset_uri: str = ""
    checkpoint_uri: str = ""
    release: int = 0
    action: Literal["promote", "rollback", "by hand"] = "promote"
    before: int = 0
    restored: int = 0
    collection: str = ""
    evaluation: str = ""
    verdict: str = ""
    reasons: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    time: float = 0.0

    @property
    def uris(self) -> dict[str, str]:
        """Address of each artifact that it has."""
        return {name: uri for name in ARTIFACTS if (uri := getattr(self, f"{name}_uri"))}


@dataclass(frozen=True)
class Served:
    """What a store serves as it was read, and the version that binds a write to this reading."""

    record: ReleaseRecord | None
    version: str


def read_served(store: str) -> Served:
    """What servers follow now; no record where nothing was ever promoted there.

    Raises:
        ValueError: Where the pointer is no pointer, or the store refuses.
    """
    uri = _pointer(store)
    content, version = conditional.read(uri)
    return Served(None if content is None else _parse(uri, content), version)


def serve_next(store: str, served: Served, chosen: ReleaseRecord) -> ReleaseRecord:
    """Points servers at a release, in the place of the one that was read and of no other.

    Args:
        store: Folder of all releases.
        served: What `read_served` said before the release was prepared.
        chosen: All but its numbers and its time, which are given here.

    Raises:
        ValueError: Where another release was promoted meanwhile; names it. Nothing is changed then.
    """
    before = served.record.release if served.record else 0
    if served.record:
        _keep(store, served.record)
    values = asdict(chosen) | {"release": before + 1, "before": before, "time": time.time()}
    record = ReleaseRecord(**values)
    try:
        conditional.write(_pointer(store), _json(record), version=served.version)
    except conditional.ConflictError as error:
        raise ValueError(_lost(store, before)) from error
    _keep(store, record)
    return record


def history(store: str) -> list[ReleaseRecord]:
    """All releases, the newest first; the newest one is what is served.

    Raises:
        ValueError: Where a record is none.
    """
    uris = [f"{_folder(store)}/releases/{name}" for name in storage.list_files(f"{_folder(store)}/releases")]
    records = {record.release: record for record in (_parse(uri, storage.read_bytes(uri)) for uri in uris)}
    if served := read_served(store).record:
        records[served.release] = served
    return [records[number] for number in sorted(records, reverse=True)]


def to_restore(records: Sequence[ReleaseRecord], number: int = 0) -> ReleaseRecord:
    """The release of a history that a rollback serves again: this number, or the last one with other content.

    Raises:
        ValueError: Where there is no such release, or its artifacts were removed.
    """
    if not records:
        raise ValueError("nothing was ever promoted there; look at --store")
    served, *earlier = records
    matching = [
        record
        for record in earlier
        if (
            record.release == number
            if number
            else record.release < _root(records, served) and record.digest != served.digest
        )
    ]
    if not matching:
        known = ", ".join(str(record.release) for record in earlier) or "none"
        raise ValueError(
            f"no release {number} before the one that is served ({served.release})"
            if number
            else f"release {served.release} is served and has none before it with other content; releases: {known}"
        )
    chosen = matching[0]
    for uri in chosen.uris.values():
        if not storage.exists(f"{uri}/{storage.MANIFEST_NAME}"):
            raise ValueError(f"{uri}: release {chosen.release} was removed; name another one (retriever releases)")
    return chosen


def contents_digest(contents: Mapping[str, str]) -> str:
    """The address of the artifacts of a release, from the digest of each."""
    return text_digest("\n".join(f"{name} {contents[name]}" for name in contents))[:DIGEST_CHARACTERS]


@dataclass(frozen=True)
class Stored:
    """One folder of a store, and why it stays."""

    digest: str
    num_bytes: int
    releases: list[int]
    kept: str
    """Empty: nobody needs it."""


def stored(store: str, *, keep: int, grace_seconds: float, now: float) -> Iterator[Stored]:
    """Every retriever that lies in a store.

    Args:
        store: Folder of all releases.
        keep: Releases of the history that stay, the served one among them.
        grace_seconds: A retriever stays so long after another one took its place: a server may still be loading it.
            One without a release stays so long after its newest file: it may just be on its way.
        now: Seconds since 1970.
    """
    records = history(store)
    until = {record.release: later.time for later, record in itertools.pairwise(records)}
    folder = f"{_folder(store)}/retrievers"
    sizes: dict[str, int] = {}
    for name, size in storage.file_sizes(folder).items():
        digest = name.partition("/")[0]
        sizes[digest] = sizes.get(digest, 0) + size
    for digest in sorted(sizes):
        having = [record for record in records if record.digest == digest]
        ended = max((until.get(record.release, now) for record in having), default=0.0)
        ended = ended or storage.newest_seconds(f"{folder}/{digest}")
        numbers = [record.release for record in having]
        if records and digest == records[0].digest:
            kept = "served"
        elif any(record in records[:keep] for record in having):
            kept = f"one of the last {keep}"
        elif now - ended < grace_seconds:
            kept = "a server may be loading it" if having else "may be on its way"
        else:
            kept = ""
        yield Stored(digest, sizes[digest], numbers, kept)


def remove(store: str, digest: str) -> None:
    """Removes a retriever; killed half-way, what is left is not taken for a whole one."""
    for name in ARTIFACTS:
        storage.remove_folder(f"{_folder(store)}/retrievers/{digest}/{name}")
    storage.remove_folder(f"{_folder(store)}/retrievers/{digest}")


def _root(records: Sequence[ReleaseRecord], served: ReleaseRecord) -> int:
    """The release whose content is served, behind any number of rollbacks: one rollback more goes on from there."""
    numbered = {record.release: record for record in records}
    while served.restored in numbered:
        served = numbered[served.restored]
    return served.release


def _keep(store: str, record: ReleaseRecord) -> None:
    """Writes a record of history, unless it is there or belongs to a pointer that was written by hand."""
    uri = f"{_folder(store)}/releases/{record.release}.json"
    if record.release and not storage.exists(uri):
        storage.write_bytes(uri, _json(record))


def _lost(store: str, before: int) -> str:
    winner = read_served(store).record
    compared = f"release {before}" if before else "a store without any"
    if winner is None:
        return f"{_pointer(store)}: was removed while this release was being prepared; promote again"
    return (
        f"{_pointer(store)}: release {winner.release} ({winner.digest}, from {winner.evaluation or winner.action}) "
        f"took the place of {compared} while this one was being prepared, and is served; evaluate against it and "
        "promote again"
    )


def _parse(uri: str, content: bytes) -> ReleaseRecord:
    values = pointer_values(uri, content)
    if "release" not in values:
        addresses = {name: values[f"{name}_uri"] for name in ARTIFACTS if values.get(f"{name}_uri")}
        values = {**values, "release": 0, "digest": contents_digest(addresses), "action": "by hand"}
    try:
        return ReleaseRecord(**values)
    except TypeError as error:
        raise ValueError(f"{uri}: no record of a release ({error}); promote writes it") from error


def _json(record: ReleaseRecord) -> bytes:
    return orjson.dumps(asdict(record), option=orjson.OPT_INDENT_2)


def _folder(store: str) -> str:
    return store.rstrip("/")


def _pointer(store: str) -> str:
    return f"{_folder(store)}/{POINTER_NAME}"
