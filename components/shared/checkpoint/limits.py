"""How many tokens of a text are read: what was asked for, within what the model was made for and what it can do."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from components.shared import log
from components.shared.encoding.sentence_transformers import NO_LIMIT

# Kinds of RoPE scaling. Source: names in transformers' modeling_rope_utils.
_OF_BATCH = ("dynamic", "longrope")


def position_limit(transformer: PreTrainedModel) -> int:
    """Most tokens that a transformer has positions for; NO_LIMIT where positions are relative.

    Models of RoBERTa's kind count positions from the row after their padding row: 514 rows are 512 tokens. Rotations
    that are chosen by the longest text of a batch (_OF_BATCH) end where the choice begins: beyond, a text's vector
    would depend on its neighbours, and a graph holds one choice only.
    """
    limit = getattr(transformer.config, "max_position_embeddings", None)
    limit = int(limit) if limit and limit > 0 else NO_LIMIT
    rotations = getattr(transformer.config, "rope_parameters", None) or {}
    # Some families have a set of rotations for each kind of layer.
    for rotation in (rotations, *(value for value in rotations.values() if isinstance(value, dict))):
        if rotation.get("rope_type") in _OF_BATCH:
            limit = min(limit, int(rotation.get("original_max_position_embeddings") or limit))
    for module in transformer.modules():
        table, padding_row = getattr(module, "position_embeddings", None), getattr(module, "padding_idx", None)
        if isinstance(table, nn.Embedding) and isinstance(padding_row, int):
            limit = min(limit, table.num_embeddings - padding_row - 1)
    return limit


def within(uri: str, name: str, asked: int, *, soft: int, hard: int) -> int:
    """The tokens that are read of a text.

    Args:
        uri: The model, for messages.
        name: The setting, for messages.
        asked: What the setting says.
        soft: What the model's folder says it was made for; a text is cut there, as everywhere else.
        hard: What it has positions for.

    Raises:
        ValueError: Where the model cannot read that many.
    """
    tokens = min(asked, soft)
    if tokens > hard:
        raise ValueError(f"{uri}: {name} {asked}, but the model takes {hard}; set {name} to {hard} or less")
    if tokens < asked:
        log.warning("texts are cut where the model's folder says", setting=name, asked=asked, tokens=tokens)
    return tokens
