"""Settings of prepare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.language.table import require_language
from components.shared.roles import INPUT, OPERATION, OUTPUT, SETTING, at_least, refuse


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Raw collection in BEIR layout -> dataset."""

    collection_uri: str = field(metadata=INPUT)
    """Folder with corpus.jsonl, queries.jsonl (queries_unlabeled.jsonl may stand beside it) and, where there are human
    labels, qrels/{train,dev,test}.tsv, or one file that is not split. An integer as _id is read as its decimal text."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the dataset is written to."""
    language: str = field(default="auto", metadata=SETTING)
    """Language of the passages, which decides the words, stop words and stems of BM25: auto detects it; a code such as
    en, de, zh or hi sets it; other uses Unicode's words without stop words and stems."""
    on_problem: Literal["refuse", "skip"] = field(default="refuse", metadata=SETTING)
    """What happens to bad lines. refuse names every one and writes nothing; skip leaves them out and counts them by
    kind in the manifest. A missing or unreadable file, a wrong header, or nothing left is refused all the same."""
    max_reported: int = field(default=20, metadata=OPERATION | at_least(0))
    """Number of bad lines that are named in full; the others are counted."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        try:
            require_language(self.language)
        except ValueError as error:
            yield str(error)


@dataclass(frozen=True, kw_only=True)
class DocsConfig:
    """Documentation of installed Python packages -> a collection in BEIR layout (the demo's corpus)."""

    output_uri: str = field(metadata=OUTPUT)
    """Folder that the collection is written to."""
    packages: str = field(
        default="stdlib numpy scipy networkx torch.nn torch.optim torch.distributions torch.utils pyarrow",
        metadata=SETTING,
    )
    """Packages or parts of packages that are read, separated by spaces; stdlib is Python's own library. They are
    parsed, never imported."""
    num_passages: int = field(default=2000, metadata=SETTING | at_least(1))
    """Number of passages kept (seeded draw)."""
    num_queries: int = field(default=1500, metadata=SETTING | at_least(1))
    """Number of queries kept, of those whose object is kept; a hash splits them 60/15/25 into train, dev and test."""
    seed: int = field(default=42, metadata=SETTING)
    """Seed of both draws."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self)
