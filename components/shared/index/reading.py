"""Opening an index: index.json says which engine searches it."""

from __future__ import annotations

from pathlib import Path

from components.shared.index.faiss_index import FaissIndex
from components.shared.index.milvus_index import MilvusIndex
from components.shared.index.passage_index import PassageIndex
from components.shared.index.settings import check_encoder, read_settings


def open_index(folder: Path, *, encoder_digest: str, wait_seconds: float | None = None) -> PassageIndex:
    """The index of a folder, for the encoder with this digest.

    Args:
        folder: An artifact of index.
        encoder_digest: Of the encoder whose queries will be searched.
        wait_seconds: How long a server that does not answer is waited for, now and at every search; default is what
            RETRIEVER_STORE_SECONDS says.

    Raises:
        ValueError: Where another encoder made the index, the folder is not an index, or its collection is not there.
        TransientError: Where the server did not answer in that time.
    """
    settings, place = read_settings(folder)
    check_encoder(folder, settings, encoder_digest)
    if place is None:
        return FaissIndex.read(folder, settings)
    return MilvusIndex.open(folder, settings, place, wait_seconds=wait_seconds)
