"""`retriever copy`: a folder or file into a bucket or out of it, with the stores and credentials that jobs use.

For what a person carries: a corpus in, a report out. Terabytes are the work of the cloud's own tools.
"""

from __future__ import annotations

from pathlib import Path

from components.shared.durable import storage


def copy(source: str, target: str) -> int:
    """Copies what lies under `source` to `target`, replacing what stood there; number of files.

    Raises:
        FileNotFoundError: Where nothing lies under the source.
        ValueError: Where neither is in a bucket, or the store refuses, with the remedy.
    """
    if storage.is_remote(source) == storage.is_remote(target):
        raise ValueError(f"{source} to {target}: one of the two is in a bucket (gs://, s3://), the other a local path")
    if storage.is_remote(source):
        storage.fetch(source, Path(target))
        return len(storage.list_files(source)) or 1
    path = storage.fetch(source)
    if path.is_file():
        storage.write_bytes(target, path.read_bytes())
        return 1
    storage.publish(path, target)
    return len(storage.list_files(source))
