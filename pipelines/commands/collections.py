"""Collections in Milvus that a store's releases name, and those that nobody points to any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.shared import log
from components.shared.contract.ending import TransientError
from components.shared.durable import storage
from components.shared.index import COLLECTION_PREFIX, SETTINGS_NAME, MilvusPlace, MilvusServer, parse_settings


def named_places(store: str) -> list[MilvusPlace]:
    """Where the indexes of all retrievers of a store lie that Milvus searches."""
    folder = f"{store.rstrip('/')}/retrievers"
    uris = [f"{folder}/{name}" for name in storage.list_files(folder) if name.endswith(f"/index/{SETTINGS_NAME}")]
    places = [place_at(uri) for uri in uris]
    return [place for place in places if place is not None]


def place_at(uri: str) -> MilvusPlace | None:
    """The place that an index.json names; None where the index lies beside it."""
    try:
        return parse_settings(storage.read_bytes(uri))[1]
    except (FileNotFoundError, TypeError, AttributeError, ValueError):
        # Not written yet, or by another version: what it names is not known.
        return None


def orphans(servers: set[str], named: list[MilvusPlace], *, drop: bool) -> Iterator[str]:
    """A line for every collection of ours that no retriever of the store names, and for a server that cannot be asked.

    Args:
        servers: Addresses of Milvus.
        named: By the retrievers that are in the store.
        drop: Whether they are removed.
    """
    for uri in sorted(servers):
        if "://" not in uri and not Path(uri).exists():
            yield f"{uri}: not on this machine, so its collections are not known"
            continue
        try:
            server = MilvusServer.connect(uri, wait_seconds=0.0)
        except (ValueError, TransientError) as error:
            yield f"{uri}: its collections are not known ({error})"
            continue
        kept = {place.collection for place in named if place.uri == uri}
        for name in server.names():
            if name.startswith(COLLECTION_PREFIX) and name not in kept:
                if drop:
                    server.drop(name)
                    log.event("collection dropped", collection=name, server=uri)
                yield f"{name}  on {uri}: {'dropped' if drop else 'no release here names it; --drop-collections'}"


def check_restorable(index_uri: str, number: int) -> None:
    """Refuses to roll back to a release whose collection is known to be gone.

    A server that cannot be asked stands in nobody's way: a rollback is wanted when things are broken.

    Raises:
        ValueError: Naming the release and its collection.
    """
    place = place_at(f"{index_uri}/{SETTINGS_NAME}")
    if place is None:
        return
    try:
        is_there = place.collection in MilvusServer.connect(place.uri, wait_seconds=0.0).names()
    except (ValueError, TransientError) as error:
        log.warning("whether the collection of the release is there could not be asked", problem=str(error))
        return
    if not is_there:
        raise ValueError(
            f"release {number}: its collection {place.collection} is not on {place.uri} any more; name another one "
            "(retriever releases)"
        )
