"""Settings of promote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from components.shared.roles import ADDRESS, INPUT, OUTPUT, SETTING, at_least, refuse


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
    instead_of: int = field(default=-1, metadata=SETTING | at_least(-1))
    """Number of the release that the gate compared with; where another one is served, nothing is promoted. 0: none was
    served; -1: whatever is served when this job begins."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if not self.store:
            yield "store '': nowhere to promote to; name a folder, such as s3://bucket/retrievers-of-my-corpus"
