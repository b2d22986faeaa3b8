"""A real but tiny transformer with random weights and a word tokenizer: what train and export work on."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer

from components.shared.checkpoint import DualEncoder, DualEncoderSettings
from tests.tiny_encoder import SPECIAL_WORDS


def write_tiny_checkpoint(
    folder: Path,
    words: Sequence[str],
    *,
    seed: int = 0,
    pooling: str = "mean",
    normalise: bool = True,
    num_layers: int = 1,
) -> Path:
    """A checkpoint folder (no manifest): 32 dimensions, dropout on. A layer makes an export take twice as long."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL_WORDS, "[MASK]", *words]))
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words) + 5,
        hidden_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=80,
    )
    settings = DualEncoderSettings(pooling, normalise, "query: ", "", 16, 48)  # type: ignore[arg-type]
    DualEncoder(BertModel(config), BertTokenizer(str(folder / "vocab.txt")), settings).save(folder)
    return folder
