"""DualEncoder in torch: transformer, pooling, normalisation, and the prefixes and lengths it was trained with.

One transformer encodes queries and passages; only prefixes and lengths differ. A checkpoint folder is a Hugging Face folder
plus dual_encoder.json, so that any transformers model can come in and the result can go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import orjson
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

SETTINGS_NAME = "dual_encoder.json"
Pooling = Literal["cls", "mean"]


@dataclass(frozen=True)
class DualEncoderSettings:
    """How texts become vectors; lengths count special tokens."""

    pooling: Pooling
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_tokens: int
    passage_tokens: int


class DualEncoder(nn.Module):
    """Token ids and mask in, one vector a text out."""

    def __init__(self, transformer: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: DualEncoderSettings) -> None:
        """Takes the parts; `load` makes them."""
        super().__init__()
        self.transformer, self.tokenizer, self.settings = transformer, tokenizer, settings

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self.transformer.config.hidden_size)

    def forward(
        self, input_ids: Int64[Tensor, "text token"], attention_mask: Int64[Tensor, "text token"]
    ) -> Float[Tensor, "text dimension"]:
        """Vectors of padded texts; padding never changes a vector."""
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vectors = _pool(states, attention_mask, self.settings.pooling)
        # Divides by the norm instead of calling F.normalize, whose clamp exports as extra nodes for a case that cannot occur.
        return vectors / vectors.norm(dim=-1, keepdim=True) if self.settings.normalise else vectors

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries, prefix and special tokens included."""
        return self._tokenize([self.settings.query_prefix + text for text in texts], self.settings.query_tokens)

    def tokenize_passages(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of passages, prefix and special tokens included."""
        return self._tokenize([self.settings.passage_prefix + text for text in texts], self.settings.passage_tokens)

    def pad(self, token_ids: Sequence[list[int]]) -> tuple[Int64[Tensor, "text token"], Int64[Tensor, "text token"]]:
        """Token ids padded on the right to the longest, and their mask, on the model's device."""
        longest = max(map(len, token_ids))
        ids = torch.full((len(token_ids), longest), int(self.tokenizer.pad_token_id or 0), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, its in enumerate(token_ids):
            ids[row, : len(its)] = torch.tensor(its)
            mask[row, : len(its)] = 1
        device = self.transformer.device
        return ids.to(device), mask.to(device)

    def save(self, folder: Path) -> None:
        """Writes weights, tokenizer and settings into an existing folder."""
        self.transformer.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(self.settings), option=orjson.OPT_INDENT_2))

    def _tokenize(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        return ids


def load(
    uri: str,
    *,
    pooling: Literal["auto", "cls", "mean"] = "auto",
    normalise: Literal["auto", "yes", "no"] = "auto",
    query_prefix: str = "",
    passage_prefix: str = "",
    query_tokens: int = 32,
    passage_tokens: int = 140,
) -> DualEncoder:
    """A dual encoder from a checkpoint folder, a Hugging Face or sentence-transformers folder, or a hub name.

    The arguments are for a model that is no checkpoint of ours; a checkpoint brings its own settings.

    Raises:
        ValueError: Where nothing that transformers can load lies there.
    """
    # A bar of a second each time tells a log nothing.
    transformers_logging.disable_progress_bar()
    own = Path(uri) / SETTINGS_NAME
    if own.is_file():
        settings = DualEncoderSettings(**orjson.loads(own.read_bytes()))
    else:
        found_pooling, found_normalise = _sentence_transformers_settings(Path(uri))
        settings = DualEncoderSettings(
            pooling=found_pooling if pooling == "auto" else pooling,
            normalise=found_normalise if normalise == "auto" else normalise == "yes",
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            query_tokens=query_tokens,
            passage_tokens=passage_tokens,
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(uri)
        # Eager attention: the graph that ONNX Runtime fuses, and the same numbers in training and export.
        transformer = AutoModel.from_pretrained(uri, dtype=torch.float32, attn_implementation="eager")
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{uri}: transformers cannot load this model ({_first_line(error)}); give a folder or a hub name") from error
    return DualEncoder(transformer, tokenizer, _within_positions(settings, transformer))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _within_positions(settings: DualEncoderSettings, transformer: PreTrainedModel) -> DualEncoderSettings:
    longest = int(getattr(transformer.config, "max_position_embeddings", 1 << 30))
    return replace(settings, query_tokens=min(settings.query_tokens, longest), passage_tokens=min(settings.passage_tokens, longest))


def _sentence_transformers_settings(folder: Path) -> tuple[Pooling, bool]:
    """Pooling and normalisation as modules.json of a sentence-transformers folder says; mean and no where there is none."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return "mean", False
    kinds = {module["type"].rsplit(".", 1)[-1]: module["path"] for module in orjson.loads(modules.read_bytes())}
    config = orjson.loads((folder / kinds["Pooling"] / "config.json").read_bytes()) if "Pooling" in kinds else {}
    cls = config.get("pooling_mode_cls_token", False) or config.get("pooling_mode") == "cls"
    return ("cls" if cls else "mean"), "Normalize" in kinds


def _pool(
    states: Float[Tensor, "text token dimension"], attention_mask: Int64[Tensor, "text token"], pooling: Pooling
) -> Float[Tensor, "text dimension"]:
    if pooling == "cls":
        return states[:, 0]
    weights = attention_mask[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
