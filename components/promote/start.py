"""What a run starts from, read from the store when the run begins: the checkpoint that is served, or a base model.

Its artifact is a reference and no copy: who reads it reads the checkpoint itself, whose address never changes content.
"""

from __future__ import annotations

import orjson

from components.promote.config import StartConfig
from components.promote.releases import ReleaseRecord, read_served
from components.shared import log
from components.shared.contract.pointer import POINTER_NAME
from components.shared.contract.verdict import PASSED, VERDICT
from components.shared.durable import storage
from components.shared.launch import launch
from components.shared.manifest import REFERENCE_NAME, artifact_writer

_FAILED = "fail"


def start(config: StartConfig) -> None:
    """Writes the address of the model to start from; the verdict is `pass` where there is something to do.

    Raises:
        ValueError: Where the release that is served holds no checkpoint to go on from.
    """
    with artifact_writer("promote.start", config) as artifact:
        served = read_served(config.pointer_uri.removesuffix(POINTER_NAME)).record
        is_new = served is None or not _is_made_of(served, config.collection_uri)
        chosen = served.checkpoint_uri if served else config.checkpoint_uri
        if served and is_new and not chosen:
            raise ValueError(
                f"{config.pointer_uri}: release {served.release} holds no checkpoint, so training cannot go on from "
                "it; promote a run with `retriever promote` first"
            )
        release = served.release if served else 0
        event = "going on from what is served" if is_new else "what is served was made of this; nothing to do"
        log.event(event if served else "nothing is served yet", release=release, checkpoint=chosen)
        (artifact.path / REFERENCE_NAME).write_bytes(orjson.dumps({"uri": chosen}))
        artifact.metrics.update({VERDICT: PASSED if is_new else _FAILED, "release": release})


def _is_made_of(served: ReleaseRecord, collection_uri: str) -> bool:
    return bool(served.collection) and storage.content_digest(collection_uri) == served.collection


if __name__ == "__main__":
    launch("promote.start", StartConfig, start)
