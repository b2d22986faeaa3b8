"""Models come in and go out: decoders, sentence-transformers folders, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared import checkpoint
from tests.tiny_checkpoint import write_tiny_checkpoint
from tests.tiny_llm import write_tiny_llm

_WORDS = ["ice", "river", "stone", "cat", "query", ":", "passage"]
_TEXTS = ["ice", "river stone cat", "stone " * 30]


@pytest.fixture
def sentence_transformers_folder(tmp_path: Path) -> Path:
    """A folder as sentence-transformers itself writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    source = write_tiny_checkpoint(tmp_path / "source", _WORDS, pooling="cls")
    for name in ("modules.json", checkpoint.SETTINGS_NAME):
        (source / name).unlink()
    modules = [Transformer(str(source), max_seq_length=12), Pooling(32, "cls"), Normalize()]
    model = SentenceTransformer(modules=modules, prompts={"query": "query: ", "document": "passage: "}, device="cpu")
    model.save(str(tmp_path / "theirs"))
    return tmp_path / "theirs"


def _encode(model: checkpoint.DualEncoder, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    model.eval()
    with torch.inference_mode():
        pair = [
            model(*model.pad(tokens)).numpy()
            for tokens in (model.tokenize_queries(texts), model.tokenize_passages(texts))
        ]
    return pair[0], pair[1]


def test_a_sentence_transformers_folder_gives_its_own_vectors(sentence_transformers_folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = checkpoint.load(str(sentence_transformers_folder))
    assert model.settings == checkpoint.DualEncoderSettings("cls", True, "query: ", "passage: ", 12, 12)
    theirs = SentenceTransformer(str(sentence_transformers_folder), device="cpu")
    queries, passages = _encode(model, _TEXTS)
    np.testing.assert_allclose(queries, theirs.encode_query(_TEXTS), atol=1e-6)
    np.testing.assert_allclose(passages, theirs.encode_document(_TEXTS), atol=1e-6)


@pytest.mark.parametrize(("pooling", "normalise"), [("cls", False), ("mean", True)])
def test_sentence_transformers_loads_a_checkpoint_and_gives_our_vectors(
    tmp_path: Path, pooling: str, normalise: bool
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_tiny_checkpoint(tmp_path, _WORDS, pooling=pooling, normalise=normalise)
    queries, passages = _encode(checkpoint.load(str(folder)), _TEXTS[:2])
    theirs = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(queries, theirs.encode_query(_TEXTS[:2]), atol=1e-6)
    np.testing.assert_allclose(passages, theirs.encode_document(_TEXTS[:2]), atol=1e-6)
    assert theirs.similarity_fn_name == "dot"


def test_the_older_files_of_sentence_transformers_are_read(tmp_path: Path, minilm: Path) -> None:
    assert checkpoint.load(str(minilm)).settings == checkpoint.DualEncoderSettings("mean", True, "", "", 32, 140)


def test_a_decoder_pools_its_last_token_which_ends_every_text(tmp_path: Path) -> None:
    model = checkpoint.load(str(write_tiny_llm(tmp_path / "llm", _WORDS)), passage_tokens=8).eval()
    assert model.settings.pooling == "last"
    tokens = model.tokenize_passages(_TEXTS)
    end = model.tokenizer.eos_token_id
    # A truncated text too: its last word makes room.
    assert [ids[-1] for ids in tokens] == [end] * 3
    assert [len(ids) for ids in tokens] == [2, 4, 8]
    with torch.inference_mode():
        together = model(*model.pad(tokens))
        for ids, vector in zip(tokens, together, strict=True):
            states = model.transformer(input_ids=torch.tensor([ids])).last_hidden_state
            torch.testing.assert_close(vector, states[0, -1], atol=1e-6, rtol=1e-5)


def test_a_decoder_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    model = checkpoint.load(str(write_tiny_llm(tmp_path / "llm", _WORDS)), normalise="yes")
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = checkpoint.load(str(tmp_path / "saved"))
    assert again.settings == model.settings
    for ours, theirs in zip(_encode(model, _TEXTS), _encode(again, _TEXTS), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_fused_and_eager_attention_agree(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path, _WORDS)
    for eager, fused in zip(
        *(_encode(checkpoint.load(str(folder), attention=kind), _TEXTS) for kind in ("eager", "fused")), strict=True
    ):  # type: ignore[arg-type]
        np.testing.assert_allclose(eager, fused, atol=1e-6)


def test_a_decoder_survives_export(tmp_path: Path) -> None:
    from components.export.job import write_encoder
    from components.shared.encoding.encoder import Encoder

    model = checkpoint.load(str(write_tiny_llm(tmp_path / "llm", _WORDS)), query_tokens=16, passage_tokens=24)
    (tmp_path / "encoder").mkdir()
    write_encoder(model, tmp_path / "encoder", opset=18)
    queries, _ = _encode(model, _TEXTS)
    np.testing.assert_allclose(Encoder(tmp_path / "encoder").encode_queries(_TEXTS), queries, atol=1e-5)
