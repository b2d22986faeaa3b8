"""DualEncoder in torch: transformer, pooling, normalisation, and the prefixes and lengths it was trained with.

One transformer encodes queries and passages; only prefixes and lengths differ. A checkpoint folder is a
sentence-transformers folder (which is a Hugging Face folder) plus dual_encoder.json, so that users' models can come in
and the result can go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import orjson
import torch
from jaxtyping import Float, Int64
from tokenizers.processors import Sequence as Sequential
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from components.shared import sentence_transformers

SETTINGS_NAME = "dual_encoder.json"
Pooling = Literal["cls", "mean", "last"]


@dataclass(frozen=True)
class DualEncoderSettings:
    """How texts become vectors; lengths count special tokens. Pooling `last` takes the last token, for decoders."""

    pooling: Pooling
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_tokens: int
    passage_tokens: int


class DualEncoder(nn.Module):
    """Token ids and mask in, one vector a text out."""

    def __init__(
        self, transformer: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: DualEncoderSettings
    ) -> None:
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
        # Divides by the norm instead of calling F.normalize, whose clamp exports as extra nodes for a case that cannot
        # occur.
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
        sentence_transformers.write_settings(folder, self._modules_settings())
        (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(self.settings), option=orjson.OPT_INDENT_2))

    def _modules_settings(self) -> sentence_transformers.ModuleSettings:
        its = self.settings
        return sentence_transformers.ModuleSettings(
            pooling=its.pooling,
            normalise=its.normalise,
            query_prefix=its.query_prefix,
            passage_prefix=its.passage_prefix,
            # One length for both is all that such a folder can say.
            max_tokens=max(its.query_tokens, its.passage_tokens),
            dimension=self.dimension,
        )

    def _tokenize(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        return ids


def load(
    uri: str,
    *,
    pooling: Literal["auto", "cls", "mean", "last"] = "auto",
    normalise: Literal["auto", "yes", "no"] = "auto",
    query_prefix: str = "",
    passage_prefix: str = "",
    query_tokens: int = 32,
    passage_tokens: int = 140,
    attention: Literal["eager", "fused"] = "eager",
) -> DualEncoder:
    """A dual encoder from a checkpoint folder, a Hugging Face or sentence-transformers folder, or a hub name.

    The arguments are for a model that is no checkpoint of ours; a checkpoint brings its own settings. `attention` fused
    is faster to train (where the model has it), eager gives the graph that ONNX Runtime fuses; their vectors agree to
    1e-6.

    Raises:
        ValueError: Where nothing that transformers can load lies there, or its modules are not ours to repeat.
    """
    # A bar of a second each time tells a log nothing.
    transformers_logging.disable_progress_bar()
    own, folder = Path(uri) / SETTINGS_NAME, Path(uri)
    found = None if own.is_file() else sentence_transformers.read_settings(folder)
    try:
        place = folder / found.transformer_path if found else uri
        tokenizer = AutoTokenizer.from_pretrained(place)
        implementation = "eager" if attention == "eager" else None
        transformer = AutoModel.from_pretrained(place, dtype=torch.float32, attn_implementation=implementation)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{uri}: transformers cannot load this model ({_first_line(error)}); give a folder or a hub name"
        ) from error
    if own.is_file():
        settings = DualEncoderSettings(**orjson.loads(own.read_bytes()))
    else:
        its = found or sentence_transformers.ModuleSettings(pooling="last" if _is_decoder(transformer) else "mean")
        # sentence-transformers 6 keeps its maximum length in the tokenizer.
        longest = min(its.max_tokens, int(min(tokenizer.model_max_length, 1 << 30)))
        settings = DualEncoderSettings(
            pooling=its.pooling if pooling == "auto" else pooling,
            normalise=its.normalise if normalise == "auto" else normalise == "yes",
            query_prefix=query_prefix or its.query_prefix,
            passage_prefix=passage_prefix or its.passage_prefix,
            query_tokens=min(query_tokens, longest),
            passage_tokens=min(passage_tokens, longest),
        )
    if settings.pooling == "last":
        _end_with_eos(tokenizer)
        # A cache of keys and values is for generating; here it would only take memory.
        transformer.config.use_cache = False
    return DualEncoder(transformer, tokenizer, _within_positions(settings, transformer))


def _is_decoder(transformer: PreTrainedModel) -> bool:
    return any(name.endswith("ForCausalLM") for name in getattr(transformer.config, "architectures", None) or ())


def _end_with_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the tokenizer end every text with the end-of-text token, also a truncated one: the token that is pooled.

    Source: the embedding models made from decoders (E5-Mistral, Qwen3-Embedding) do so; their generators'
        tokenizers do not.
    """
    end = tokenizer.eos_token_id
    if end is None or tokenizer("a")["input_ids"][-1:] == [end]:
        return
    backend = tokenizer.backend_tokenizer
    template = TemplateProcessing(single=f"$A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, end)])
    backend.post_processor = Sequential([backend.post_processor, template]) if backend.post_processor else template


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _within_positions(settings: DualEncoderSettings, transformer: PreTrainedModel) -> DualEncoderSettings:
    longest = int(getattr(transformer.config, "max_position_embeddings", 1 << 30))
    return replace(
        settings, query_tokens=min(settings.query_tokens, longest), passage_tokens=min(settings.passage_tokens, longest)
    )


def _pool(
    states: Float[Tensor, "text token dimension"], attention_mask: Int64[Tensor, "text token"], pooling: Pooling
) -> Float[Tensor, "text dimension"]:
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        # Padding is on the right.
        last = attention_mask.sum(1) - 1
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
    weights = attention_mask[:, :, None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)
