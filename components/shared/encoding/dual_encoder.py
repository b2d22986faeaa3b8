"""What a dual encoder is, said once: these fields are part of the config of every job that makes one.

A base model and the checkpoint that is trained from it get them from one section of the parameter file, so that two
encoders that are compared read the same number of tokens, pool alike and have the same prefixes. No heavy library is
needed here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    """Text put before each query; empty takes what the model's folder says."""
    passage_prefix: str = field(default="", metadata=SETTING)
    """Text put before each passage; empty takes what the model's folder says."""
    query_tokens: int = field(default=32, metadata=SETTING | at_least(4))
    """Longest query in tokens, special tokens included; the rest of a longer one is cut."""
    passage_tokens: int = field(default=140, metadata=SETTING | at_least(4))
    """Longest passage in tokens, special tokens included; the rest of a longer one is cut."""
    trust_remote_code: Literal["no", "yes"] = field(default="no", metadata=SETTING)
    """Whether code that the model's own folder brings (auto_map) is run, with all rights of this job; no refuses such a
    model. Read the code first."""
