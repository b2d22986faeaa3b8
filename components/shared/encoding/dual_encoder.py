"""What a dual encoder is, said once: these fields are part of the config of every job that makes one.

A base model and the checkpoint that is trained from it get them from one section of the parameter file, so that two
encoders that are compared read the same number of tokens, pool alike and have the same prefixes. No heavy library is
needed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from components.shared.encoding.matryoshka import AUTO, parse_cuts
from components.shared.roles import INPUT, SETTING, at_least


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """The model to start from, and how it turns texts into vectors."""

    checkpoint_uri: str = field(metadata=INPUT)
    """Model to start from: a checkpoint of train, a Hugging Face or sentence-transformers folder, or a name on the
    hub."""
    pooling: Literal["auto", "cls", "mean", "last"] = field(default="auto", metadata=SETTING)
    """How a text's token vectors become one; auto takes what the model's folder says, else the last token of a decoder
    and the mean of any other model."""
    normalise: Literal["auto", "yes", "no"] = field(default="auto", metadata=SETTING)
    """Whether vectors are scaled to length 1; auto takes what the model's folder says, else no."""
    query_prefix: str = field(default="", metadata=SETTING)
    """Text put before each query, such as an instruction; empty takes what the model's folder says, else what the
    makers of a known hub name say (instructions.toml); none puts nothing there."""
    passage_prefix: str = field(default="", metadata=SETTING)
    """Text put before each passage; empty and none as for queries."""
    query_tokens: int = field(default=32, metadata=SETTING | at_least(4))
    """Longest query in tokens, special tokens included; the rest of a longer one is cut."""
    passage_tokens: int = field(default=140, metadata=SETTING | at_least(4))
    """Longest passage in tokens, special tokens included; the rest of a longer one is cut."""
    dimensions: int = field(default=0, metadata=SETTING | at_least(0))
    """Number of components of a vector that are kept, the first ones, before it is scaled to length 1; 0 keeps as many
    as the model's folder says, else all."""
    matryoshka: str = field(default=AUTO, metadata=SETTING)
    """Smaller numbers of dimensions that vectors may be cut to, such as 256,128: train teaches each of them, and serve
    offers them. auto takes those that the model's folder declares, none has none."""
    trust_remote_code: Literal["no", "yes"] = field(default="no", metadata=SETTING)
    """Whether code that the model's own folder brings (auto_map) is run, with all rights of this job; no refuses such a
    model. Read the code first."""


def contradictions(config: DualEncoderConfig) -> Iterator[str]:
    """What is wrong with these settings alone or together."""
    try:
        cuts = parse_cuts(config.matryoshka)
    except ValueError as error:
        yield str(error)
        return
    if config.dimensions and cuts and cuts[0] > config.dimensions:
        yield (
            f"matryoshka {config.matryoshka}: {cuts[0]} is more than dimensions {config.dimensions}, which all vectors "
            "have; leave it out, or raise dimensions"
        )
