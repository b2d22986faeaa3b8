"""Settings of prepare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Raw collection in BEIR layout -> dataset."""

    collection_uri: str
    """Folder with corpus.jsonl, queries.jsonl (queries_unlabeled.jsonl may stand beside it) and, where there are human
    labels, qrels/{train,dev,test}.tsv, or one file that is not split. An integer as _id is read as its decimal text."""
    output_uri: str
    """Where the dataset goes."""
    on_problem: Literal["refuse", "skip"] = "refuse"
    """refuse: name every bad line and write nothing. skip: leave bad lines out, counted by kind in the manifest; a
    missing or unreadable file, a wrong header, or nothing left is refused all the same."""
    language: str = "auto"
    """Language of the passages, which decides the words, stop words and stems of BM25: auto detects it; a code such as
    en, de, zh or hi sets it; other uses Unicode's words without stop words and stems."""
    max_reported: int = 20
    """Bad lines named in full; the rest are counted."""


@dataclass(frozen=True, kw_only=True)
class DocsConfig:
    """Documentation of installed Python packages -> a collection in BEIR layout (the demo's corpus)."""

    output_uri: str
    """Where the collection goes."""
    packages: str = "stdlib numpy scipy networkx torch.nn torch.optim torch.distributions torch.utils pyarrow"
    """Packages or parts of packages read, separated by spaces; stdlib is Python's own library. They are parsed, never
    imported."""
    num_passages: int = 2000
    """Passages kept (seeded draw)."""
    num_queries: int = 1500
    """Queries kept, of those whose object is kept; split 60/15/25 into train, dev and test by hash."""
    seed: int = 42
    """Of the draws."""
