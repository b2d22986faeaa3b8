"""Encoder: ONNX graph + tokenizer + prefixes; texts in, vectors out.

Pooling and normalisation are inside the graph; prefixes and lengths are in encoder.json. Nobody who encodes can
disagree with training, because there is nothing left to choose: the graph carries the settings it was exported with,
and refuses others.

A folder holds the fp32 graph and may hold smaller ones of it (fp16, int8), each proven when it was exported. Weights
that are too large for a graph's file lie in a second file beside it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import orjson
from jaxtyping import Float32, Int64
from tokenizers import Encoding, Tokenizer

from components.shared.encoding.batches import length_sorted_batches
from components.shared.encoding.engines.graph import CONTRACT_KEY as CONTRACT_KEY
from components.shared.encoding.engines.graph import INPUT_NAMES as INPUT_NAMES
from components.shared.encoding.engines.graph import OUTPUT_NAME as OUTPUT_NAME
from components.shared.encoding.engines.graph import num_cores as num_cores
from components.shared.encoding.engines.onnx_runtime import has_gpu, is_on_gpu
from components.shared.encoding.engines.records import ENGINES, PRECISIONS, REFERENCE, Engine, Maker
from components.shared.hashing import file_digest, lines_digest
from components.shared.records import Passage

GRAPH_NAME, TOKENIZER_NAME, SETTINGS_NAME = "model.onnx", "tokenizer.json", "encoder.json"
GRAPH_NAMES = {"fp32": GRAPH_NAME, "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}
# Of a file with weights that do not fit into the graph's own file: the graph's name and this. Source: the name that
# Hugging Face's ONNX loader fetches from the hub.
WEIGHTS_SUFFIX = "_data"
# How a tensor's entry {location: file name} begins in ONNX's protocol buffer; a byte with the name's length follows.
_LOCATION = b"\x0a\x08location\x12"

Variant = Literal["auto", "fp32", "bf16", "fp16", "int8"]

# A tokenizer's time grows with the whole text even when it truncates: cut first. Hardly any text has fewer tokens than
# one for this many characters; one that has is read whole.
_CHARACTERS_PER_TOKEN = 24

Vectors = Float32[np.ndarray, "text dimension"]


@dataclass(frozen=True)
class EncoderSettings:
    """What travels with the graph; lengths count special tokens.

    Attributes:
        dimension: Length of a vector.
        pooling, normalise: How the graph makes a vector of its tokens.
        query_prefix, passage_prefix: Put before each text.
        query_tokens, passage_tokens: Most tokens of a text.
        pad_token_id: The token that fills up the shorter texts of a batch.
        query_prompt_tokens, passage_prompt_tokens: Tokens at a text's beginning that the transformer reads and the
            pooling leaves out. The graph knows them by their ids, which are the complements (~id, negative) of the
            tokenizer's.
        dimensions: Components of a vector that were kept before it was scaled; 0: all.
        matryoshka: Smaller numbers of dimensions that its vectors may be cut to (matryoshka.cut), the largest first.
        graphs: The graphs beside the fp32 one, each with the digest of its files.
    """

    dimension: int
    pooling: str
    normalise: bool
    query_prefix: str
    passage_prefix: str
    query_tokens: int
    passage_tokens: int
    pad_token_id: int
    query_prompt_tokens: int = 0
    passage_prompt_tokens: int = 0
    dimensions: int = 0
    matryoshka: Sequence[int] = ()
    graphs: dict[str, str] = field(default_factory=dict)

    def contract(self) -> str:
        """The settings that a graph must have been exported with, as JSON."""
        values = {name: value for name, value in asdict(self).items() if name != "graphs"}
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def write_settings(folder: Path, settings: EncoderSettings) -> None:
    """Writes encoder.json."""
    (folder / SETTINGS_NAME).write_bytes(orjson.dumps(asdict(settings), option=orjson.OPT_INDENT_2))


class NotFiniteError(ValueError):
    """A vector that holds nan or inf; `row` is the position of its text among those that were encoded."""

    def __init__(self, row: int, where: str) -> None:
        """`where` names the text as its reader knows it."""
        super().__init__(
            f"{where}: its vector is not finite (nan or inf); the encoder's weights are damaged or overflow: "
            "export it again, or encode with the fp32 graph"
        )
        self.row = row


def encoder_digest(folder: Path) -> str:
    """sha256 over all files that decide a vector: one byte more or less is another encoder, whose vectors do not mix.

    These are the fp32 graph with its weights, tokenizer and settings; the settings name the digests of the smaller
    graphs.
    """
    paths = [*graph_files(folder, "fp32"), folder / TOKENIZER_NAME, folder / SETTINGS_NAME]
    return lines_digest(f"{path.name} {file_digest(path)}" for path in paths)


def graph_files(folder: Path, variant: str) -> list[Path]:
    """The graph of a variant, and the files that it names for its weights."""
    graph = folder / GRAPH_NAMES[variant]
    return [graph, *(folder / name for name in sorted(set(_weights_names(graph))))]


def _weights_names(graph: Path) -> Iterator[str]:
    """Names of the files that a graph keeps its weights in; found by the field's bytes, so that nothing is parsed."""
    if not graph.stat().st_size:
        return
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_LOCATION)
        while start >= 0:
            start += len(_LOCATION) + 1
            yield content[start : start + content[start - 1]].decode(errors="replace")
            start = content.find(_LOCATION, start)


def graph_digest(folder: Path, variant: str) -> str:
    """sha256 of a graph's file; with files of weights beside it, over the digests of all of them."""
    paths = graph_files(folder, variant)
    return file_digest(paths[0]) if len(paths) == 1 else lines_digest(map(file_digest, paths))


class Encoder:
    """A loaded encoder; thread-safe, since the engines' sessions and tokenizers are."""

    def __init__(
        self,
        folder: Path,
        *,
        num_threads: int = 0,
        variant: Variant = "auto",
        engine: str = REFERENCE.name,
        num_streams: int = 1,
    ) -> None:
        """Loads graph and tokenizer; on a GPU where onnxruntime-gpu finds one.

        Args:
            folder: What export wrote.
            num_threads: Of one batch; 0: all cores.
            variant: Precision; auto is fp16 on a GPU where the folder has it, else fp32.
            engine: Name of the program that computes the graph.
            num_streams: Batches that are encoded at once, for an engine that has its own threads.

        Raises:
            ValueError: Where the folder is not an encoder of this version, lacks the variant, or was changed after
                the export; where the engine is not installed, or does not know the precision.
        """
        self.settings = read_encoder_settings(folder)
        self.digest = _digest(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        record = ENGINES[engine]
        record.require()
        precision = _choose(variant, self.settings, folder, record)
        graph = folder / GRAPH_NAMES[PRECISIONS[precision].graph]
        self._session = record.open(graph, precision, num_threads, num_streams)
        if precision == "fp16" and variant == "auto" and not is_on_gpu(self._session.providers):
            # The package was built for a GPU that is not there, and fp16 is slow elsewhere.
            graph = folder / GRAPH_NAMES["fp32"]
            self._session = record.open(graph, "fp32", num_threads, num_streams)
        self.variant, self.engine = self._session.precision, engine
        _check_contract(graph, self._session.contract, self.settings)

    @property
    def maker(self) -> Maker:
        """The engine, and the precision that it really computes in."""
        return Maker(self.engine, self.variant)

    @property
    def providers(self) -> list[str]:
        """What the engine computes with, the first choice first."""
        return self._session.providers

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.settings.dimension

    @cached_property
    def num_token_ids(self) -> int:
        """Token ids of the vocabulary end below this number."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @cached_property
    def unknown_token_id(self) -> int | None:
        """The token that stands for what the tokenizer does not know; None where it knows every byte."""
        model = orjson.loads(self._tokenizer.to_str())["model"]
        of_unigram, token = model.get("unk_id"), model.get("unk_token")
        return of_unigram if token is None else self._tokenizer.token_to_id(token)

    def encode_queries(self, texts: Sequence[str], *, batch_tokens: int = 512) -> Vectors:
        """Vectors of queries, in their order.

        Raises:
            NotFiniteError: Naming the query's row, where a vector holds nan or inf.
        """
        return self.encode_tokens(self.tokenize_queries(texts), batch_tokens=batch_tokens)

    def encode_passages(
        self, passages: Sequence[Passage], *, batch_tokens: int = 512, on_batch: Callable[[int], None] | None = None
    ) -> Vectors:
        """Vectors of passages, in their order; `on_batch` hears how many were finished.

        Raises:
            NotFiniteError: Naming the passage, where its vector holds nan or inf.
        """
        token_ids = self.tokenize_passages([passage.full_text for passage in passages])
        try:
            return self.encode_tokens(token_ids, batch_tokens=batch_tokens, on_batch=on_batch)
        except NotFiniteError as error:
            raise NotFiniteError(error.row, f"passage {passages[error.row].passage_id}") from None

    def tokenize_queries(self, texts: Sequence[str], *, truncate: bool = True) -> list[list[int]]:
        """Token ids of queries, prefix and special tokens included, cut at `query_tokens`.

        Without `truncate` a text that is too long is seen by having more tokens than that; of an endless one not all
        are counted.
        """
        settings = self.settings
        token_ids = self._tokenize([settings.query_prefix + text for text in texts], settings.query_tokens, truncate)
        return _without_prompt(token_ids, settings.query_prompt_tokens)

    def tokenize_passages(self, texts: Sequence[str], *, truncate: bool = True) -> list[list[int]]:
        """Token ids of passages, prefix and special tokens included, cut at `passage_tokens`.

        `truncate` is that of queries.
        """
        settings = self.settings
        token_ids = self._tokenize(
            [settings.passage_prefix + text for text in texts], settings.passage_tokens, truncate
        )
        return _without_prompt(token_ids, settings.passage_prompt_tokens)

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

        Raises:
            NotFiniteError: Naming the text's row, where a vector holds nan or inf.
        """
        vectors = np.empty((len(token_ids), self.dimension), dtype=np.float32)

        def encode(rows: list[int]) -> int:
            vectors[rows] = batch = self._encode_batch([token_ids[row] for row in rows])
            if not np.isfinite(batch).all():
                row = min(row for row, vector in zip(rows, batch, strict=True) if not np.isfinite(vector).all())
                raise NotFiniteError(row, f"text {row} of {len(token_ids)}")
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
        return self._session.run(*padded(token_ids, self.settings.pad_token_id))


def _without_prompt(token_ids: list[list[int]], num_prompt_tokens: int) -> list[list[int]]:
    if not num_prompt_tokens:
        return token_ids
    return [[~token for token in ids[:num_prompt_tokens]] + ids[num_prompt_tokens:] for ids in token_ids]


def padded(
    token_ids: Sequence[list[int]], pad_token_id: int
) -> tuple[Int64[np.ndarray, "text token"], Int64[np.ndarray, "text token"]]:
    """Token ids padded on the right to the longest, and their attention mask."""
    longest = max(map(len, token_ids))
    ids = np.full((len(token_ids), longest), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(token_ids), longest), dtype=np.int64)
    for row, text_ids in enumerate(token_ids):
        ids[row, : len(text_ids)] = text_ids
        mask[row, : len(text_ids)] = 1
    return ids, mask


def _digest(folder: Path) -> str:
    try:
        return encoder_digest(folder)
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename}: missing; {folder} is not a whole encoder, export it again") from error


def read_encoder_settings(folder: Path) -> EncoderSettings:
    """What encoder.json says.

    Raises:
        ValueError: Where it is missing, or not of this version.
    """
    try:
        return EncoderSettings(**orjson.loads((folder / SETTINGS_NAME).read_bytes()))
    except (FileNotFoundError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(
            f"{folder / SETTINGS_NAME}: not the settings of an encoder ({error}); export it again"
        ) from error


def _choose(wanted: Variant, settings: EncoderSettings, folder: Path, engine: Engine) -> str:
    if wanted == "auto":
        return "fp16" if "fp16" in settings.graphs and "fp16" in engine.precisions and has_gpu() else "fp32"
    if wanted not in engine.precisions:
        able = [record.name for record in ENGINES.values() if wanted in record.precisions]
        raise ValueError(
            f"engine {engine.name}: does not compute in {wanted}, but in {', '.join(engine.precisions)}; take one of "
            f"these, or engine {' or '.join(able)}"
        )
    variant = PRECISIONS[wanted].graph
    if variant == "fp32":
        return wanted
    if variant not in settings.graphs:
        raise ValueError(
            f"{folder}: no {variant} graph; it has {', '.join(['fp32', *settings.graphs])}; "
            f"export it with --variants fp32,{variant}"
        )
    graph = folder / GRAPH_NAMES[variant]
    if graph_digest(folder, variant) != settings.graphs[variant]:
        raise ValueError(f"{graph}: not the graph that {SETTINGS_NAME} names (edited or damaged); export it again")
    return wanted


def _check_contract(graph: Path, contract: str | None, settings: EncoderSettings) -> None:
    if contract is None:
        raise ValueError(f"{graph}: does not say how it was exported; export it again")
    # A graph of an earlier version does not name settings that came later and were not in use.
    defaults = {setting.name: _as_read(setting.default) for setting in fields(settings)}
    exported, wanted = orjson.loads(contract), orjson.loads(settings.contract())
    for name in sorted(exported.keys() | wanted.keys()):
        if exported.get(name, defaults.get(name)) != wanted.get(name):
            raise ValueError(
                f"{graph.parent / SETTINGS_NAME}: says {name} {wanted.get(name)!r}, the graph was exported with "
                f"{exported.get(name)!r}; their vectors do not mix: export it again"
            )


def _as_read(value: object) -> object:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
