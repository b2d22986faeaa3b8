"""Settings of the report on drift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from components.shared.roles import INPUT, OUTPUT, SETTING, above, at_least, at_most, below, refuse


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """Sampled queries and the release that answered them -> how far they are from the release's own queries."""

    encoder_uri: str = field(default="", metadata=INPUT)
    """Encoder of the release."""
    index_uri: str = field(default="", metadata=INPUT)
    """Index that this encoder made."""
    dataset_uri: str = field(default="", metadata=INPUT)
    """Dataset of the release: its dev and test queries are compared with, its passages say which words are known."""
    pointer_uri: str = field(default="", metadata=INPUT)
    """Pointer of a store of releases, such as s3://bucket/retrievers/pointer.json, that names the three instead of the
    flags."""
    sample_uri: str = field(metadata=INPUT)
    """Folder of sampled queries that serve writes (its flag --sample-uri)."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the report is written to, in the place of the one before."""
    days: int = field(default=7, metadata=SETTING | at_least(1))
    """Days of sampled queries, counted back from the newest one."""
    most_queries: int = field(default=2000, metadata=SETTING | at_least(1))
    """Largest number of sampled queries that are scored; drawn from each server as many as it had to answer."""
    fewest_queries: int = field(default=100, metadata=SETTING | at_least(2))
    """Smallest number of sampled queries, and of own ones, that a verdict is given on; fewer are shown without one."""
    smallest_distance: float = field(default=0.1, metadata=SETTING | at_least(0) | at_most(1))
    """Distance of the distributions of best scores (Kolmogorov-Smirnov, 0 to 1) that counts as drift, where it is more
    than chance and the scores have fallen."""
    smallest_difference: float = field(default=0.05, metadata=SETTING | at_least(0) | at_most(1))
    """Difference of a share (queries without a good hit, cut, in a language that is not the release's, with a word that
    no passage holds) that counts as drift, where it is more than chance."""
    confidence: float = field(default=0.95, metadata=SETTING | above(0) | below(1))
    """Confidence of the tests together (Holm), and of each interval."""
    num_resamples: int = field(default=2000, metadata=SETTING | at_least(100))
    """Number of bootstrap resamples behind the interval of the mean score's difference."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of the draw and of the bootstrap."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        named = [self.encoder_uri, self.index_uri, self.dataset_uri]
        if self.pointer_uri and any(named):
            yield f"pointer_uri {self.pointer_uri!r}: names the artifacts itself; leave the other addresses out"
        if not self.pointer_uri and not all(named):
            yield "pointer_uri '': name it, or encoder, index and dataset"
