"""Settings of prepare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.language.table import require_language
from components.shared.roles import INPUT, OPERATION, OUTPUT, SETTING, at_least, refuse


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Raw collection in BEIR layout, or a folder of documents -> dataset."""

    collection_uri: str = field(metadata=INPUT)
    """Folder with corpus.jsonl, queries.jsonl where there are any (queries_unlabeled.jsonl may stand beside it) and,
    where there are human labels, qrels/{train,dev,test}.tsv, or one file that is not split. An integer as _id is read
    as its decimal text. A folder without corpus.jsonl is read as documents: text, Markdown, reStructuredText, HTML,
    PDF and JSON records; queries.jsonl and qrels may stand beside them, and qrels may name a file or a record for all
    of its passages. Beside corpus.jsonl may stand clicks.tsv, a log of what was shown and clicked: session, query-id,
    corpus-id, rank, clicked (0 or 1), dwell-seconds. A query's topic, where it has one, keeps its queries in one
    split."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the dataset is written to."""
    language: str = field(default="auto", metadata=SETTING)
    """Language of the passages, which decides the words, stop words and stems of BM25: auto detects it; a code such as
    en, de, zh or hi sets it; other uses Unicode's words without stop words and stems."""
    on_problem: Literal["refuse", "skip"] = field(default="refuse", metadata=SETTING)
    """What happens to bad lines. refuse names every one and writes nothing; skip leaves them out and counts them by
    kind in the manifest. A missing or unreadable file, a wrong header, or nothing left is refused all the same. Of
    documents a whole file may be bad; files that are no documents are named and counted, and never refused."""
    cut_tokens: int = field(default=120, metadata=SETTING | at_least(16))
    """Documents: the most tokens of a passage's text, estimated without a tokenizer: up to six letters, up to three
    digits, a mark, or a character of a script without spaces count one. The titles in front of it come on top."""
    cut_overlap_tokens: int = field(default=20, metadata=SETTING | at_least(0))
    """Documents: the most tokens that a passage repeats of the one before it in the same section."""
    duplicates: Literal["drop", "keep"] = field(default="drop", metadata=SETTING)
    """Documents: what happens to a passage with the same text as an earlier one, case and white space aside. drop
    leaves it out, and qrels that name it go to the earlier one; keep gives both. They are counted either way."""
    boilerplate_documents: int = field(default=10, metadata=SETTING | at_least(2))
    """Documents: number of documents that a paragraph must stand in to count as boilerplate. Passages that are mostly
    boilerplate are counted and kept."""
    processes: int = field(default=0, metadata=OPERATION | at_least(0))
    """Documents: number of processes that read files at the same time; 0 is one a core."""
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
        if 2 * self.cut_overlap_tokens > self.cut_tokens:
            yield f"cut_overlap_tokens {self.cut_overlap_tokens}: must be at most half of cut_tokens {self.cut_tokens}"


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
