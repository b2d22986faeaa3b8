"""DualEncoder in torch: transformer, pooling, head, normalisation, and the prefixes and lengths it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from components.shared.checkpoint.head import cutting_layer, cutting_module, normalised, save_head
from components.shared.checkpoint.pooling import pool
from components.shared.encoding import sentence_transformers
from components.shared.encoding.matryoshka import declare_cuts
from components.shared.encoding.sentence_transformers import HeadModule, ModuleSettings

SETTINGS_NAME = "dual_encoder.json"
# The class that takes a tokenizer as tokenizer.json describes it; others build parts of it anew.
PLAIN_TOKENIZER = "PreTrainedTokenizerFast"
_TOKENIZER_CONFIG = "tokenizer_config.json"

Ids = Int64[Tensor, "text token"]


@dataclass(frozen=True)
class DualEncoderSettings:
    """How texts become vectors; lengths count special tokens.

    Attributes:
        pooling: Names of POOLINGS' values, joined by "+"; `last` takes the last token, for decoders.
        normalise: True where vectors are scaled to unit length.
        query_prefix, passage_prefix: Put before each text.
        query_tokens, passage_tokens: Most tokens of a text.
        include_prompt: False where the tokens of the prefix are read but not pooled.
        truncate_dimension: Components that are kept after the scaling, as sentence-transformers cuts; 0: all.
        dimensions: Components that are kept before the scaling; 0: all.
        matryoshka: Smaller numbers of components that vectors may be cut to, the largest first.
    """

    pooling: str
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_tokens: int
    passage_tokens: int
    include_prompt: bool = True
    truncate_dimension: int = 0
    dimensions: int = 0
    matryoshka: tuple[int, ...] = ()


class DualEncoder(nn.Module):
    """Token ids and mask in, one vector a text out.

    A token that the transformer reads but the pooling leaves out (of a prompt) is written as the complement of its id
    (~id, a negative number), so that ids alone say all about a text.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: DualEncoderSettings,
        *,
        head: nn.Sequential | None = None,
        head_modules: Sequence[HeadModule] = (),
    ) -> None:
        """Takes the parts; `load` makes them. `head_modules` describe the layers of the head, in their order."""
        super().__init__()
        self.transformer, self.tokenizer, self.settings = transformer, tokenizer, settings
        self.head = nn.Sequential() if head is None else head
        self.head_modules = tuple(head_modules)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        dimension, settings = self.full_dimension, self.settings
        return min(dimension, settings.truncate_dimension or dimension, settings.dimensions or dimension)

    @property
    def full_dimension(self) -> int:
        """Length of a vector before it is cut."""
        dimension = self._pooled_dimension
        for module in self.head_modules:
            dimension = int(module.config.get("out_features", dimension))
        return dimension

    def forward(self, input_ids: Ids, attention_mask: Ids) -> Float[Tensor, "text dimension"]:
        """Vectors of padded texts; padding never changes a vector."""
        return self.vectors(self.states(input_ids, attention_mask), input_ids, attention_mask)

    def states(self, input_ids: Ids, attention_mask: Ids) -> Float[Tensor, "text token hidden"]:
        """Last hidden states of padded texts."""
        if not self.settings.include_prompt:
            input_ids = torch.where(input_ids < 0, -1 - input_ids, input_ids)
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        states: Tensor = output.last_hidden_state
        return states

    def vectors(
        self, states: Float[Tensor, "text token hidden"], input_ids: Ids, attention_mask: Ids
    ) -> Float[Tensor, "text dimension"]:
        """Vectors from the states of the same texts."""
        pooled = attention_mask if self.settings.include_prompt else attention_mask * (input_ids >= 0)
        vectors: Tensor = self.head(pool(states, pooled, self.settings.pooling))
        if self.settings.dimensions:
            vectors = vectors[:, : self.settings.dimensions]
        if self.settings.normalise:
            vectors = normalised(vectors)
        return vectors[:, : self.settings.truncate_dimension] if self.settings.truncate_dimension else vectors

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of queries, prefix and special tokens included."""
        return self._tokenize(texts, self.settings.query_prefix, self.settings.query_tokens)

    def tokenize_passages(self, texts: Sequence[str], *, max_tokens: int = 0) -> list[list[int]]:
        """Token ids of passages, prefix and special tokens included; `max_tokens` above 0 cuts them shorter."""
        limit = self.settings.passage_tokens
        return self._tokenize(texts, self.settings.passage_prefix, min(limit, max_tokens) if max_tokens else limit)

    def prompt_tokens(self, prefix: str) -> int:
        """Tokens at the beginning of a text with this prefix that the pooling leaves out.

        Source: Transformer of sentence-transformers 6.2, which tokenises the prefix alone and does not count a special
            token at its end.
        """
        if self.settings.include_prompt or not prefix:
            return 0
        ids: list[int] = self.tokenizer(prefix)["input_ids"]
        return len(ids) - int(bool(ids) and ids[-1] in self.tokenizer.all_special_ids)

    def pad(self, token_ids: Sequence[list[int]]) -> tuple[Ids, Ids]:
        """Token ids padded on the right to the longest, and their mask, on the model's device."""
        longest = max(map(len, token_ids))
        ids = torch.full((len(token_ids), longest), int(self.tokenizer.pad_token_id or 0), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, text_ids in enumerate(token_ids):
            ids[row, : len(text_ids)] = torch.tensor(text_ids)
            mask[row, : len(text_ids)] = 1
        device = self.transformer.device
        return ids.to(device), mask.to(device)

    def save(self, folder: Path) -> None:
        """Writes weights, tokenizer and settings into an existing folder."""
        declare_cuts(self.transformer.config, self.settings.matryoshka)
        self.transformer.save_pretrained(folder)
        self._save_tokenizer(folder)
        self.save_modules(folder)
        (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(self.settings), option=orjson.OPT_INDENT_2))

    def save_modules(self, folder: Path) -> None:
        """Writes what sentence-transformers needs beside the transformer.

        It cuts vectors after the scaling only, so a cut before it is a linear layer of ones and zeros there.
        """
        layers, modules = list(self.head), list(self.head_modules)
        if self.settings.dimensions:
            layers.append(cutting_layer(self.full_dimension, self.settings.dimensions))
            modules.append(cutting_module(self.full_dimension, self.settings.dimensions))
        sentence_transformers.write_settings(folder, replace(self._module_settings(), head=tuple(modules)))
        save_head(folder, nn.Sequential(*layers), modules)

    def _module_settings(self) -> ModuleSettings:
        settings = self.settings
        return ModuleSettings(
            pooling=settings.pooling,
            normalise=settings.normalise,
            query_prefix=settings.query_prefix,
            passage_prefix=settings.passage_prefix,
            include_prompt=settings.include_prompt,
            query_limit=settings.query_tokens,
            passage_limit=settings.passage_tokens,
            dimension=int(self.transformer.config.hidden_size),
            truncate_dimension=settings.truncate_dimension,
            matryoshka=settings.matryoshka,
        )

    @property
    def _pooled_dimension(self) -> int:
        return int(self.transformer.config.hidden_size) * len(self.settings.pooling.split("+"))

    def _save_tokenizer(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        if tokenizer_state(AutoTokenizer.from_pretrained(folder)) == tokenizer_state(self.tokenizer):
            return
        # Its class would build the tokenizer anew from its vocabulary, without what was added to it here.
        config = sentence_transformers.read_object(folder / _TOKENIZER_CONFIG)
        sentence_transformers.write_json(folder / _TOKENIZER_CONFIG, {**config, "tokenizer_class": PLAIN_TOKENIZER})

    def _tokenize(self, texts: Sequence[str], prefix: str, max_tokens: int) -> list[list[int]]:
        texts = [prefix + text for text in texts]
        token_ids: list[list[int]] = self.tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        if num_left_out := self.prompt_tokens(prefix):
            return [[~token for token in ids[:num_left_out]] + ids[num_left_out:] for ids in token_ids]
        return token_ids


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> dict[str, object]:
    """All that decides the tokens of a text but its length."""
    state: dict[str, object] = orjson.loads(tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in state.items() if name not in ("truncation", "padding")}
