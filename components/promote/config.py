"""Settings of promote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from components.shared.roles import ADDRESS, INPUT, OUTPUT, SETTING, refuse


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
