"""A real but tiny encoder and index, made in milliseconds.

A bag of random word vectors, averaged and normalised, as an ONNX graph. Texts that share words get similar vectors, so
searches find what they should; another seed is another encoder.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from components.export.config import ExportConfig
from components.index.config import IndexConfig
from components.shared.dataset import Dataset
from components.shared.drift.expected import Expected, write_expected
from components.shared.encoding.encoder import (
    CONTRACT_KEY,
    GRAPH_NAME,
    INPUT_NAMES,
    OUTPUT_NAME,
    TOKENIZER_NAME,
    Encoder,
    EncoderSettings,
    write_settings,
)
from components.shared.fusion.tuned import Fusion, write_fusion
from components.shared.index import FaissIndex, IndexSettings
from components.shared.manifest import artifact_writer

SPECIAL_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def words_of(texts: Sequence[str]) -> list[str]:
    """Every word of the texts as the tiny tokenizer splits them, sorted."""
    return sorted({word for text in texts for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text.lower())})


def write_tiny_encoder(
    folder: Path, seed: int, words: Sequence[str], *, dimension: int = 32, **settings: object
) -> Path:
    """An encoder artifact with manifest; `settings` replace fields of EncoderSettings."""
    config = ExportConfig(checkpoint_uri=f"tiny-encoder-{seed}", output_uri=str(folder), seed=seed)
    with artifact_writer("export", config) as artifact:
        write_tiny_encoder_files(artifact.path, seed, words, dimension=dimension, **settings)
    return folder


def write_tiny_encoder_files(
    folder: Path,
    seed: int,
    words: Sequence[str],
    *,
    dimension: int = 32,
    special_tokens: str = "[CLS] $A [SEP]",
    **settings: object,
) -> None:
    """Graph, tokenizer and settings only; `special_tokens` is the template around a text, empty for none."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL_WORDS, *words])}
    _write_tokenizer(folder / TOKENIZER_NAME, vocabulary, special_tokens)
    embeddings = np.random.default_rng(seed).standard_normal((len(vocabulary), dimension)).astype(np.float32)
    # What every text holds says nothing about it.
    embeddings[: len(SPECIAL_WORDS)] *= 0.05
    graph = _graph(embeddings)
    defaults = {"query_prefix": "", "passage_prefix": "", "query_tokens": 32, "passage_tokens": 64, "pad_token_id": 0}
    values = EncoderSettings(**{"dimension": dimension, "pooling": "mean", "normalise": True, **defaults, **settings})
    graph.metadata_props.add(key=CONTRACT_KEY, value=values.contract())
    onnx.save(graph, str(folder / GRAPH_NAME))
    write_settings(folder, values)


def spoil_word(folder: Path, token: int, value: float = np.nan) -> None:
    """Makes a word's vector of nan, in the graph of an encoder without manifest."""
    graph = onnx.load(folder / GRAPH_NAME)
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == "embeddings")
    embeddings = numpy_helper.to_array(tensor).copy()
    embeddings[token] = value
    tensor.CopyFrom(numpy_helper.from_array(embeddings, tensor.name))
    onnx.save(graph, str(folder / GRAPH_NAME))


def write_tiny_index(
    folder: Path,
    *,
    dataset: Path,
    encoder: Path,
    factory: str = "Flat",
    fusion: Fusion | None = None,
    expected: Expected | None = None,
) -> Path:
    """An index artifact over the dataset's passages; without fusion and expected as earlier versions wrote it."""
    config = IndexConfig(dataset_uri=str(dataset), encoder_uri=str(encoder), output_uri=str(folder), factory=factory)
    passages = list(Dataset(dataset).iter_passages())
    loaded = Encoder(encoder, num_threads=1)
    vectors = loaded.encode_passages(passages)
    settings = IndexSettings(loaded.digest, loaded.dimension, factory, "", len(passages))
    with artifact_writer("index", config) as artifact:
        FaissIndex.build(
            [vectors], [passage.passage_id for passage in passages], sample=vectors, settings=settings
        ).save(artifact.path)
        if fusion is not None:
            write_fusion(artifact.path, fusion)
        if expected is not None:
            write_expected(artifact.path, expected)
    return folder


def _write_tokenizer(path: Path, vocabulary: dict[str, int], special_tokens: str) -> None:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if special_tokens:
        used = [(word, vocabulary[word]) for word in SPECIAL_WORDS if word in special_tokens]
        tokenizer.post_processor = processors.TemplateProcessing(single=special_tokens, special_tokens=used)
    tokenizer.save(str(path))


def _graph(embeddings: np.ndarray) -> onnx.ModelProto:
    """mean over unmasked tokens of their embeddings, divided by its length."""
    constants = {
        "embeddings": embeddings,
        "token_axis": np.array([1], dtype=np.int64),
        "last_axis": np.array([-1], dtype=np.int64),
        "smallest": np.array(1e-12, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last_axis"], ["weights"]),
        helper.make_node("Mul", ["tokens", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "token_axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "token_axis"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "smallest"], ["safe_count"]),
        helper.make_node("Div", ["sum", "safe_count"], ["mean"]),
        helper.make_node("ReduceL2", ["mean", "last_axis"], ["length"], keepdims=1),
        helper.make_node("Max", ["length", "smallest"], ["safe_length"]),
        helper.make_node("Div", ["mean", "safe_length"], [OUTPUT_NAME]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["text", "token"]) for name in INPUT_NAMES]
    outputs = [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["text", embeddings.shape[1]])]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny_encoder", inputs, outputs, initializer=weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
