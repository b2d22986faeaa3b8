"""The one setting of every job that encodes: which program computes the encoder's graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from components.shared.roles import SETTING

EngineName = Literal["auto", "onnxruntime", "openvino"]


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """What index, mine, evaluate and serve share: vectors that are compared were made by programs that agree."""

    engine: EngineName = field(default="auto", metadata=SETTING)
    """Program that computes the encoder's graph. auto: index takes what the processor has and a measured second finds
    fastest (OpenVINO where it is installed, with AMX or AVX-512 BF16 also in bf16), all others take that of the
    index."""
