"""Settings of catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import OUTPUT, SETTING, refuse

PREFIX = "ir_datasets:"


@dataclass(frozen=True, kw_only=True)
class CatalogueConfig:
    """An id of ir_datasets -> a collection in BEIR layout."""

    dataset_id: str = field(metadata=SETTING)
    """Id of a data set with documents, queries and judgements, such as beir/scifact/test; https://ir-datasets.com lists
    them."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the collection is written to."""
    split: Literal["train", "dev", "test"] = field(default="test", metadata=SETTING)
    """Split that its judged queries become."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        if not self.dataset_id or self.dataset_id.startswith(PREFIX):
            yield f"dataset_id {self.dataset_id!r}: write the id alone, such as beir/scifact/test"
