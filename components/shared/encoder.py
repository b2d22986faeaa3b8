"""Encoder: ONNX graph + tokenizer + prefixes; texts in, vectors out.

Pooling and normalisation are inside the graph; prefixes and lengths are in encoder.json. Nobody who encodes can
disagree with training, because there is nothing left to choose: the graph carries the settings it was exported with,
and refuses others.

A folder holds the fp32 graph and may hold smaller ones of it (fp16, int8), each proven when it was exported.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime as ort
import orjson
from jaxtyping import Float32, Int64
from tokenizers import Encoding, Tokenizer

from components.shared.batches import length_sorted_batches
from components.shared.hashing import file_digest
from components.shared.records import Passage

GRAPH_NAME, TOKENIZER_NAME, SETTINGS_NAME = "model.onnx", "tokenizer.json", "encoder.json"
GRAPH_NAMES = {"fp32": GRAPH_NAME, "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}
INPUT_NAMES, OUTPUT_NAME = ("input_ids", "attention_mask"), "vectors"

Variant = Literal["auto", "fp32", "fp16", "int8"]
# Of a graph's metadata: the settings it was exported with.
CONTRACT_KEY = "retriever.encoder"

# A tokenizer's time grows with the whole text even when it truncates: cut first. Hardly any text has fewer tokens than
# one for this many characters; one that has is read whole.
_CHARACTERS_PER_TOKEN = 24

Vectors = Float32[np.ndarray, "text dimension"]


@dataclass(frozen=True)
class EncoderSettings:
    """What travels with the graph; lengths count special tokens.

    `graphs` names the graphs beside the fp32 one, each with the sha256 of its file.
    """

    dimension: int
    pooling: str
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_tokens: int
    passage_tokens: int
    pad_token_id: int
    graphs: dict[str, str] = field(default_factory=dict)

    def contract(self) -> str:
        """The settings that a graph must have been exported with, as JSON."""
        values = {name: value for name, value in asdict(self).items() if name != "graphs"}
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def write_settings(folder: Path, settings: EncoderSettings) -> None:
    """Writes encoder.json."""
    (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(settings), option=orjson.OPT_INDENT_2))


def encoder_digest(folder: Path) -> str:
    """sha256 over graph, tokenizer and settings: one byte more or less is another encoder, whose vectors do not mix."""
    digest = hashlib.sha256()
    for name in (GRAPH_NAME, TOKENIZER_NAME, SETTINGS_NAME):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def num_cores() -> int:
    """Cores this process may use; in a container that can be fewer than the host has."""
    return len(os.sched_getaffinity(0))


class Encoder:
    """A loaded encoder; thread-safe, since ONNX Runtime sessions and tokenizers are."""

    def __init__(self, folder: Path, *, num_threads: int = 0, variant: Variant = "auto") -> None:
        """Loads graph and tokenizer; on a GPU where onnxruntime-gpu finds one.

        `variant` auto is fp16 on a GPU where the folder has it, else fp32.

        Raises:
            ValueError: Where the folder is not an encoder of this version, lacks the variant, or was changed after
                the export.
        """
        try:
            self.settings = EncoderSettings(**orjson.loads((folder / SETTINGS_NAME).read_bytes()))
        except (FileNotFoundError, TypeError, orjson.JSONDecodeError) as error:
            raise ValueError(
                f"{folder / SETTINGS_NAME}: not the settings of an encoder ({error}); export it again"
            ) from error
        self.digest = encoder_digest(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.variant = _choose(variant, self.settings, folder)
        graph = folder / GRAPH_NAMES[self.variant]
        self._session = ort.InferenceSession(str(graph), _session_options(num_threads), providers=_providers())
        _check_contract(graph, self._session.get_modelmeta().custom_metadata_map.get(CONTRACT_KEY), self.settings)

    @property
    def providers(self) -> list[str]:
        """What ONNX Runtime computes with, the first choice first."""
        return list(self._session.get_providers())

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.settings.dimension

    @cached_property
    def num_token_ids(self) -> int:
        """Token ids of the vocabulary end below this number."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode_queries(self, texts: Sequence[str], *, batch_tokens: int = 512) -> Vectors:
        """Vectors of queries, in their order."""
        return self.encode_tokens(self.tokenize_queries(texts), batch_tokens=batch_tokens)

    def encode_passages(
        self, passages: Sequence[Passage], *, batch_tokens: int = 512, on_batch: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors of passages, in their order; `on_batch` hears how many were finished."""
        return self.encode_tokens(
            self.tokenize_passages([p.full_text for p in passages]), batch_tokens=batch_tokens, on_batch=on_batch
        )

    def tokenize_queries(self, texts: Sequence[str], *, truncate: bool = True) -> list[list[int]]:
        """Token ids of queries, prefix and special tokens included, cut at `query_tokens`.

        Without `truncate` a text that is too long is seen by having more tokens than that; of an endless one not all
        are counted.
        """
        return self._tokenize(
            [self.settings.query_prefix + text for text in texts], self.settings.query_tokens, truncate
        )

    def tokenize_passages(self, texts: Sequence[str], *, truncate: bool = True) -> list[list[int]]:
        """Token ids of passages, prefix and special tokens included, cut at `passage_tokens`; `truncate` as of queries."""
        return self._tokenize(
            [self.settings.passage_prefix + text for text in texts], self.settings.passage_tokens, truncate
        )

    def encode_tokens(
        self,
        token_ids: Sequence[list[int]],
        *,
        batch_tokens: int = 512,
        num_workers: int = 1,
        on_batch: Callable[[int], None] | None = None,
    ) -> Vectors:
        """Vectors of token ids, in their order; texts of similar length are encoded together.

        `num_workers` threads take batches from one queue; ONNX Runtime leaves Python while it computes, so threads are
        enough.
        """
        vectors = np.empty((len(token_ids), self.dimension), dtype=np.float32)

        def encode(rows: list[int]) -> int:
            vectors[rows] = self._encode_batch([token_ids[row] for row in rows])
            return len(rows)

        batches = length_sorted_batches([len(ids) for ids in token_ids], batch_tokens)
        with ThreadPoolExecutor(num_workers) as pool:
            for num_finished in pool.map(encode, batches) if num_workers > 1 else map(encode, batches):
                if on_batch:
                    on_batch(num_finished)
        return vectors

    def _tokenize(self, texts: Sequence[str], max_tokens: int, truncate: bool) -> list[list[int]]:
        max_characters = max_tokens * _CHARACTERS_PER_TOKEN
        encodings: list[Encoding] = self._tokenizer.encode_batch_fast([text[:max_characters] for text in texts])
        for row, text in enumerate(texts):
            if len(text) > max_characters and len(encodings[row].ids) <= max_tokens:
                # White space or one endless word used up the characters: only the whole text has the tokens that
                # training saw.
                encodings[row] = self._tokenizer.encode(text)
        return [self._truncated(encoding, max_tokens if truncate else len(encoding.ids)) for encoding in encodings]

    def _truncated(self, encoding: Encoding, max_tokens: int) -> list[int]:
        # Truncating here keeps the tokenizer free of state that two threads would fight over. The special tokens that
        # close a text stay, as they did in training; a text without any token is one padding token, so that its vector
        # is a number.
        ids: list[int] = encoding.ids or [self.settings.pad_token_id]
        if len(ids) <= max_tokens:
            return ids
        is_special = encoding.special_tokens_mask
        num_closing = next(number for number, special in enumerate(reversed(is_special)) if not special)
        return ids[: max_tokens - num_closing] + ids[len(ids) - num_closing :]

    def _encode_batch(self, token_ids: Sequence[list[int]]) -> Vectors:
        ids, mask = padded(token_ids, self.settings.pad_token_id)
        (vectors,) = self._session.run([OUTPUT_NAME], dict(zip(INPUT_NAMES, (ids, mask), strict=True)))
        assert isinstance(vectors, np.ndarray)
        return vectors


def padded(
    token_ids: Sequence[list[int]], pad_token_id: int
) -> tuple[Int64[np.ndarray, "text token"], Int64[np.ndarray, "text token"]]:
    """Token ids padded on the right to the longest, and their attention mask."""
    longest = max(map(len, token_ids))
    ids = np.full((len(token_ids), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(token_ids), longest), dtype=np.int64)
    for row, its in enumerate(token_ids):
        ids[row, : len(its)] = its
        mask[row, : len(its)] = 1
    return ids, mask


def _choose(variant: Variant, settings: EncoderSettings, folder: Path) -> str:
    if variant == "auto":
        return "fp16" if "fp16" in settings.graphs and "CUDAExecutionProvider" in _providers() else "fp32"
    if variant == "fp32":
        return variant
    if variant not in settings.graphs:
        raise ValueError(
            f"{folder}: no {variant} graph; it has {', '.join(['fp32', *settings.graphs])}; export it with --variants fp32,{variant}"
        )
    graph = folder / GRAPH_NAMES[variant]
    if file_digest(graph) != settings.graphs[variant]:
        raise ValueError(f"{graph}: not the graph that {SETTINGS_NAME} names (edited or damaged); export it again")
    return variant


def _check_contract(graph: Path, found: str | None, settings: EncoderSettings) -> None:
    if found is None:
        raise ValueError(f"{graph}: does not say how it was exported; export it again")
    exported, wanted = orjson.loads(found), orjson.loads(settings.contract())
    for name in sorted(exported.keys() | wanted.keys()):
        if exported.get(name) != wanted.get(name):
            raise ValueError(
                f"{graph.parent / SETTINGS_NAME}: says {name} {wanted.get(name)!r}, the graph was exported with {exported.get(name)!r}; "
                "their vectors do not mix: export it again"
            )


def _session_options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # Set, because ONNX Runtime counts the host's cores and not the container's.
    options.intra_op_num_threads = num_threads or num_cores()
    options.inter_op_num_threads = 1
    # The arena keeps a block for every shape it has seen: over 160 shapes that grew by 147 MiB, without it by 14 MiB at
    # 7 % more time.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return options


def _providers() -> list[str]:
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [provider for provider in wanted if provider in ort.get_available_providers()]
