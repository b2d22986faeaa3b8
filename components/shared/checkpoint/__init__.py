"""A checkpoint: the torch form of a dual encoder, and how users' models become one.

One transformer encodes queries and passages; only prefixes and lengths differ. A checkpoint folder is a
sentence-transformers folder (which is a Hugging Face folder) plus dual_encoder.json, so that users' models can come in
and the result can go out.
"""

from components.shared.checkpoint.configured import load_as
from components.shared.checkpoint.loading import load
from components.shared.checkpoint.model import SETTINGS_NAME, DualEncoder, DualEncoderSettings
from components.shared.checkpoint.pooling import PoolingMode

__all__ = ["SETTINGS_NAME", "DualEncoder", "DualEncoderSettings", "PoolingMode", "load", "load_as"]
