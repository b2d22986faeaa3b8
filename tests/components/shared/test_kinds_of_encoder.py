"""sentence-transformers itself says what the vectors of its folders are: by path, by hub name, and once exported."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from components.export.job import write_encoder
from components.shared import checkpoint
from components.shared.encoding.encoder import Encoder
from tests.kinds_of_encoder import KINDS, texts
from tests.offline_hub import HubCache, offline_hub  # noqa: F401 a fixture

TEXTS = texts()
LIMIT = 48
# One of each way of making a graph; the others take as long again.
QUICKLY_EXPORTED = {
    *("bert_lower_case", "bert_truncated", "bert_two_poolings_in_another_order", "prompt_left_out_of_mean"),
    *("prompts_left_out_of_cls", "dense_relu_residual", "roberta", "mpnet", "distilbert", "modernbert"),
    *("qwen3_last_token", "t5_encoder_with_dense"),
}


@torch.inference_mode()
def vectors_of(model: checkpoint.DualEncoder, token_ids: list[list[int]]) -> np.ndarray:
    model.eval()
    return np.concatenate(
        [model(*model.pad(token_ids[start : start + 16])).numpy() for start in range(0, len(token_ids), 16)]
    )


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    lengths = np.maximum(np.linalg.norm(theirs, axis=1, keepdims=True), 1)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) / lengths).max() <= 1e-5


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Queries and passages as the judge encodes them."""
    model = SentenceTransformer(str(folder), device="cpu")
    return model.encode_query(TEXTS), model.encode_document(TEXTS)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> checkpoint.DualEncoder:
    return checkpoint.load(str(folder), query_tokens=LIMIT, passage_tokens=LIMIT)


def test_a_folder_gives_the_vectors_of_sentence_transformers(
    loaded: checkpoint.DualEncoder, theirs: tuple[np.ndarray, np.ndarray]
) -> None:
    assert_equal(vectors_of(loaded, loaded.tokenize_queries(TEXTS)), theirs[0])
    assert_equal(vectors_of(loaded, loaded.tokenize_passages(TEXTS)), theirs[1])


def test_a_hub_name_gives_the_vectors_of_its_folder(
    folder: Path,
    theirs: tuple[np.ndarray, np.ndarray],
    offline_hub: HubCache,  # noqa: F811
) -> None:
    offline_hub.add("org/name", folder)
    model = checkpoint.load("org/name", query_tokens=LIMIT, passage_tokens=LIMIT)
    assert_equal(vectors_of(model, model.tokenize_queries(TEXTS)), theirs[0])
    by_name = SentenceTransformer("org/name", device="cpu", cache_folder=str(offline_hub.folder))
    assert_equal(vectors_of(model, model.tokenize_passages(TEXTS)), by_name.encode_document(TEXTS))


def test_a_saved_checkpoint_gives_the_same_vectors_here_and_there(
    loaded: checkpoint.DualEncoder, theirs: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    loaded.save(tmp_path)
    again = checkpoint.load(str(tmp_path))
    assert again.settings == loaded.settings
    assert_equal(vectors_of(again, again.tokenize_queries(TEXTS)), theirs[0])
    assert_equal(SentenceTransformer(str(tmp_path), device="cpu").encode_query(TEXTS), theirs[0])


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in QUICKLY_EXPORTED else pytest.mark.slow) for kind in KINDS]
)
def test_the_exported_encoder_gives_the_same_vectors_alone_and_in_batches(kind: str, tmp_path: Path) -> None:
    folder = KINDS[kind](tmp_path / "model")
    judge = SentenceTransformer(str(folder), device="cpu")
    loaded = checkpoint.load(str(folder), query_tokens=LIMIT, passage_tokens=LIMIT)
    (tmp_path / "encoder").mkdir()
    write_encoder(loaded, tmp_path / "encoder", opset=18)
    encoder = Encoder(tmp_path / "encoder", num_threads=1)
    queries = encoder.encode_queries(TEXTS)
    assert_equal(queries, judge.encode_query(TEXTS))
    assert_equal(encoder.encode_tokens(encoder.tokenize_passages(TEXTS)), judge.encode_document(TEXTS))
    alone = np.concatenate([encoder.encode_queries([text]) for text in TEXTS])
    norms = np.linalg.norm(alone, axis=1) * np.linalg.norm(queries, axis=1)
    assert (1 - (alone * queries).sum(1) / np.maximum(norms, 1e-12)).max() <= 1e-6


def test_the_packaged_model_gives_the_vectors_of_sentence_transformers(minilm: Path) -> None:
    judge = SentenceTransformer(str(minilm), device="cpu")
    model = checkpoint.load(str(minilm), query_tokens=64, passage_tokens=judge.max_seq_length)
    assert_equal(vectors_of(model, model.tokenize_passages(TEXTS)), judge.encode_document(TEXTS))
