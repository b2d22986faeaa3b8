"""Settings of promote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from components.shared.contract.pointer import POINTER_NAME
from components.shared.roles import ADDRESS, INPUT, MAY_BE_ABSENT, OUTPUT, SETTING, refuse


@dataclass(frozen=True, kw_only=True)
class PromoteConfig:
    """Encoder, index and dataset of a run -> a release that servers follow, where the evaluation's gate lets it."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset whose passages are served."""
    encoder_uri: str = field(metadata=INPUT)
    """Encoder of the release."""
    index_uri: str = field(metadata=INPUT)
    """Index that this encoder made."""
    evaluation_uri: str = field(metadata=INPUT)
    """Evaluation whose gate says whether they may be served."""
    checkpoint_uri: str = field(default="", metadata=INPUT)
    """Checkpoint that the encoder was exported from: with it in the release the next training can go on from what is
    served. Empty: it cannot."""
    start_uri: str = field(default="", metadata=INPUT)
    """What the run went on from (start.py): where another release is served by now, the gate has not compared with it,
    and nothing is promoted. Empty: the place of whatever is served is taken."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that release.json is written to."""
    store: str = field(default="", metadata=SETTING | ADDRESS)
    """Folder of all releases, local or in a bucket: retrievers/<digest>/, releases/<number>.json, and pointer.json,
    which is what `--pointer-uri` of serve names. In a flow an empty one promotes nothing."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if not self.store:
            yield "store '': nowhere to promote to; name a folder, such as s3://bucket/retrievers-of-my-corpus"


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """A store of releases -> what a run starts from: the checkpoint that is served, or a base model for the first."""

    collection_uri: str = field(metadata=INPUT)
    """Collection of the run; where what is served was made of this very one, there is nothing to do."""
    checkpoint_uri: str = field(metadata=INPUT)
    """Model to start from where nothing is served yet."""
    pointer_uri: str = field(default="", metadata=INPUT | MAY_BE_ABSENT)
    """Pointer of the store, such as s3://bucket/retrievers-of-my-corpus/pointer.json, read when the job begins. In a
    flow an empty one starts every run from encoder.checkpoint_uri."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the reference is written to."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if not self.pointer_uri.endswith(f"/{POINTER_NAME}"):
            yield (
                f"pointer_uri {self.pointer_uri!r}: no pointer of a store; name one, such as "
                f"s3://bucket/retrievers-of-my-corpus/{POINTER_NAME}"
            )
