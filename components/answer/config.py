"""Settings of answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.engines.config import EngineConfig, engine_contradictions
from components.shared.roles import INPUT, OUTPUT, SETTING, above, at_least, below, refuse


@dataclass(frozen=True, kw_only=True)
class AnswerConfig(EngineConfig):
    """Runs -> answers from their first passages by an LLM, measured against the collection's reference answers."""

    dataset_uri: str = field(metadata=INPUT)
    """Dataset whose queries have reference answers."""
    output_uri: str = field(metadata=OUTPUT)
    """Folder that answers.jsonl, metrics.json and report.html are written to."""
    evaluation_uri: str = field(default="", metadata=INPUT)
    """Evaluation whose runs are answered from; empty: none."""
    runs_uri: str = field(default="", metadata=INPUT)
    """TREC run files that are answered from beside these, separated by commas; a run is called as its file is."""
    annotations_uri: str = field(default="", metadata=INPUT)
    """Annotations that the retriever was trained on (shards separated by commas), to say so where their LLM is the one
    that answers; empty: none."""
    systems: str = field(default="", metadata=SETTING)
    """Names of the runs that are answered from, separated by commas; the first is compared with all others and with
    both bounds. Empty takes all runs in the order of their names."""
    split: str = field(default="test", metadata=SETTING)
    """Name of the split whose queries are answered."""
    num_queries: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of queries with reference answers that are answered (seeded draw); 0 leaves answer out of a run."""
    num_passages: int = field(default=3, metadata=SETTING | at_least(1))
    """Number of passages, from the first of a run on, that the LLM reads."""
    passage_words: int = field(default=200, metadata=SETTING | at_least(1))
    """Number of words of a passage that the LLM reads; the rest is cut."""
    answer_tokens: int = field(default=24, metadata=SETTING | at_least(1))
    """Longest answer in tokens; what was written before the cut is the answer."""
    closed_book: Literal["yes", "no"] = field(default="yes", metadata=SETTING)
    """Whether the LLM also answers without any passage, which is what it knows by itself: the lower bound."""
    oracle: Literal["yes", "no"] = field(default="yes", metadata=SETTING)
    """Whether the LLM also answers from the known positives alone, which is what a perfect retriever would give it: the
    upper bound. Queries without a positive are then left out for all systems."""
    primary: Literal["EM", "F1", "ROUGE-L", "BLEU"] = field(default="F1", metadata=SETTING)
    """Measure that decides; p values of its comparisons are corrected for their number, all others only describe."""
    rouge_stemmer: Literal["no", "yes"] = field(default="no", metadata=SETTING)
    """Whether ROUGE-L compares English word stems; it moves scores by points, so the page names it."""
    bertscore_uri: str = field(default="", metadata=INPUT)
    """Encoder of BERTScore, a folder or a name on the hub (extra bertscore); empty leaves BERTScore out."""
    bertscore_layer: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of the encoder's layer whose vectors BERTScore compares, from 1; part of what its values mean."""
    num_resamples: int = field(default=10000, metadata=SETTING | at_least(1))
    """Number of bootstrap samples behind each interval and behind the test of BLEU."""
    confidence: float = field(default=0.95, metadata=SETTING | above(0) | below(1))
    """Confidence level of the intervals."""

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse(self, *self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        yield from engine_contradictions(self)
        if bool(self.bertscore_uri) != bool(self.bertscore_layer):
            yield (
                f"bertscore_layer {self.bertscore_layer}: BERTScore needs an encoder and the number of its layer; "
                "set bertscore_uri and bertscore_layer, or none of them"
            )
        named = [name.strip() for name in self.systems.split(",")]
        if self.systems and (len(set(named)) != len(named) or not all(named)):
            yield f"systems {self.systems!r}: names a run twice or not at all; write such as trained,base"
