"""Settings of ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.ask.styles import DEFAULT_STYLES, parse_styles
from components.shared.engines.config import EngineConfig, engine_contradictions
from components.shared.roles import INPUT, OUTPUT, SETTING, above, at_least, at_most, refuse


@dataclass(frozen=True, kw_only=True)
class AskConfig(EngineConfig):
    """Dataset -> dataset with queries that an LLM wrote for sampled passages and filters chose."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset that prepare wrote."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that the dataset with the asked queries is written to."""
    encoder_uri: str = field(default="", metadata=INPUT)
    """Encoder whose search may find a source passage in the round trip; empty: only BM25 searches."""
    index_uri: str = field(default="", metadata=INPUT)
    """Index of that encoder over the same corpus."""
    num_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of queries that the LLM is asked to write, before the filters; 0 leaves ask out of a run."""
    styles: str = field(default=DEFAULT_STYLES, metadata=SETTING)
    """Kinds of queries with their shares: question, keywords, claim, conversational, and two_passages, a question that
    needs two passages; such as question=0.5,keywords=0.5."""
    passage_words: int = field(default=200, metadata=SETTING | at_least(1))
    """Number of words of a passage that the LLM reads; the rest is cut."""
    min_passage_words: int = field(default=12, metadata=SETTING | at_least(1))
    """Number of words that a passage must have to be asked about."""
    query_tokens: int = field(default=64, metadata=SETTING | at_least(8))
    """Longest reply in tokens; a query and the words around it must fit."""
    max_attempts: int = field(default=2, metadata=SETTING | at_least(1))
    """Number of tries to get one query that can be read, each with a new seed."""
    min_query_words: int = field(default=3, metadata=SETTING | at_least(1))
    """Number of words below which a query is rejected as too short."""
    max_query_words: int = field(default=40, metadata=SETTING | at_least(1))
    """Number of words above which a query is rejected as too long."""
    max_copied_words: int = field(default=8, metadata=SETTING | at_least(1))
    """Number of words in a row that a query may take from its passage; a longer run is rejected as a copy."""
    max_copied_share: float = field(default=0.8, metadata=SETTING | above(0) | at_most(1))
    """Share of the words of a query (of five words or more) that may stand in one run of its passage."""
    max_likeness: float = field(default=0.8, metadata=SETTING | above(0) | at_most(1))
    """Share of common terms (Jaccard) with an earlier query from which on a query is rejected as a duplicate of it."""
    round_trip: Literal["bm25", "dense", "either", "none"] = field(default="either", metadata=SETTING)
    """Whose search must find the source passages again: either takes the better rank of BM25 and the encoder, where
    there is one; none leaves the round trip out."""
    round_trip_depth: int = field(default=20, metadata=SETTING | at_least(2))
    """Number of hits among which every source passage must be; in a small corpus at most 2 % of it, and 3."""
    max_flatness: float = field(default=0.95, metadata=SETTING | above(0) | at_most(1))
    """Score of the last of these BM25 hits as a share of the first one's from which on a query is rejected as too
    general, because nothing tells its passage from the others."""
    min_likelihood_gain: float = field(default=0.0, metadata=SETTING | at_least(0))
    """Nats per token by which the source passage must raise the LLM's likelihood of the query above that with an
    unrelated passage; 0 does not ask the LLM. It costs two more calls a query."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        try:
            parse_styles(self.styles)
        except ValueError as error:
            yield f"styles {self.styles!r}: {error}"
        if self.min_query_words > self.max_query_words:
            yield (
                f"min_query_words {self.min_query_words}: is above max_query_words {self.max_query_words}; "
                "no query could have both"
            )
        yield from engine_contradictions(self)
        if bool(self.encoder_uri) != bool(self.index_uri):
            yield f"index_uri {self.index_uri!r}: an encoder and its index go together; name both or none"
        if self.round_trip == "dense" and not self.encoder_uri:
            yield "round_trip 'dense': needs encoder_uri and index_uri; name them, or use bm25"
