"""Vectors that may be cut: what a folder declares, what a setting asks, and that every reader cuts alike."""

from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from sentence_transformers import SentenceTransformer

from components.export.config import ExportConfig
from components.export.job import export
from components.shared import checkpoint
from components.shared.encoding.dual_encoder import DualEncoderConfig
from components.shared.encoding.encoder import SETTINGS_NAME, Encoder
from components.shared.encoding.matryoshka import cut, parse_cuts, parse_weights
from components.shared.manifest import read_manifest
from tests.kinds_of_encoder import KINDS, texts
from tests.modern_encoders import change_json

TEXTS = texts()[:40]
LIMITS = {"query_tokens": 48, "passage_tokens": 48}
_MODEL = "config_sentence_transformers.json"


@torch.inference_mode()
def vectors_of(model: checkpoint.DualEncoder) -> np.ndarray:
    return np.concatenate([model.eval()(*model.pad([ids])).numpy() for ids in model.tokenize_passages(TEXTS)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """32 dimensions, scaled to unit length, one of BERT's kind."""
    return KINDS["bert_normalised"](tmp_path / "model")


def test_a_cut_is_scaled_again_and_needs_no_unscaled_vector() -> None:
    # (3, 4, 12) has length 13; of (3, 4) the length is 5.
    whole = np.array([[3, 4, 12]], dtype=np.float32)
    np.testing.assert_allclose(cut(whole, 2, normalise=True), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(cut(whole / 13, 2, normalise=True), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(cut(whole, 2, normalise=False), [[3, 4]])
    np.testing.assert_array_equal(cut(np.zeros((1, 3), np.float32), 2, normalise=True), [[0, 0]])


def test_a_setting_names_numbers_of_dimensions_or_leaves_them_to_the_folder() -> None:
    assert parse_cuts("128, 256,128") == (256, 128)
    assert (parse_cuts("auto"), parse_cuts("none")) == (None, ())
    assert (parse_weights("1,0.5"), parse_weights("")) == ((1.0, 0.5), ())
    for text in ("", "all", "0", "-1", "128;64", "1.5"):
        with pytest.raises(ValueError, match="write auto, none, or numbers"):
            parse_cuts(text)
    for text in ("a", "0", "1,-1", "nan", "1,,2"):
        with pytest.raises(ValueError, match="write numbers above 0"):
            parse_weights(text)


def test_a_config_refuses_cuts_that_no_vector_has() -> None:
    with pytest.raises(ValueError, match="matryoshka 'big': write auto"):
        ExportConfig(checkpoint_uri="m", output_uri="o", matryoshka="big")
    with pytest.raises(ValueError, match="matryoshka 256: 256 is more than dimensions 128"):
        ExportConfig(checkpoint_uri="m", output_uri="o", matryoshka="256", dimensions=128)


@pytest.mark.parametrize(
    ("file", "fields", "cuts"),
    [
        (_MODEL, {"matryoshka_dims": [8, 32, 16]}, (16, 8)),
        ("config.json", {"matryoshka_dimensions": [32, 8]}, (8,)),
        ("config.json", {"matryoshka_dims": [16]}, (16,)),
        ("config.json", {}, ()),
    ],
)
def test_a_folder_declares_its_cuts(folder: Path, file: str, fields: dict[str, object], cuts: tuple[int, ...]) -> None:
    change_json(folder / file, **fields)
    assert checkpoint.load(str(folder), **LIMITS).settings.matryoshka == cuts
    assert checkpoint.load(str(folder), matryoshka="none", **LIMITS).settings.matryoshka == ()
    assert checkpoint.load(str(folder), matryoshka="24,4", **LIMITS).settings.matryoshka == (24, 4)
    assert checkpoint.load(str(folder), dimensions=12, **LIMITS).settings.matryoshka == tuple(c for c in cuts if c < 12)


def test_a_declaration_that_is_no_list_of_numbers_is_named(folder: Path) -> None:
    change_json(folder / _MODEL, matryoshka_dims="256")
    with pytest.raises(ValueError, match=r"config_sentence_transformers.json: matryoshka_dims '256': not a list"):
        checkpoint.load(str(folder), **LIMITS)


@pytest.mark.parametrize("kind", ["bert_normalised", "bert_mean", "dense_tanh", "bert_two_poolings"])
def test_vectors_are_cut_before_they_are_scaled_and_alike_everywhere(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path / "model")
    whole = checkpoint.load(str(source), **LIMITS)
    model = checkpoint.load(str(source), dimensions=12, matryoshka="8", **LIMITS)
    expected = cut(vectors_of(whole), 12, normalise=whole.settings.normalise)
    assert model.dimension == 12
    np.testing.assert_allclose(vectors_of(model), expected, atol=1e-6)
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = checkpoint.load(str(tmp_path / "saved"))
    assert again.settings == model.settings
    np.testing.assert_allclose(vectors_of(again), expected, atol=1e-6)
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(theirs.encode_document(TEXTS), expected, atol=1e-5)
    assert orjson.loads((tmp_path / "saved" / "config.json").read_bytes())["matryoshka_dimensions"] == [8]


def test_a_checkpoint_may_be_cut_further_and_never_back(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    checkpoint.load(str(folder), dimensions=16, **LIMITS).save(tmp_path / "saved")

    def config(dimensions: int) -> DualEncoderConfig:
        return DualEncoderConfig(checkpoint_uri=str(tmp_path / "saved"), dimensions=dimensions)

    assert checkpoint.load_as(config(0)).dimension == 16
    assert checkpoint.load_as(config(16)).dimension == 16
    further = checkpoint.load_as(config(8))
    np.testing.assert_allclose(
        vectors_of(further), cut(vectors_of(checkpoint.load_as(config(0))), 8, normalise=True), atol=1e-6
    )
    with pytest.raises(ValueError, match="dimensions 24 is asked for, the model has 16; a checkpoint brings its own"):
        checkpoint.load_as(config(24))
    with pytest.raises(ValueError, match="dimensions 64, but vectors of this model have 32; set 32 or less"):
        checkpoint.load_as(config(64))


def test_cuts_that_a_model_cannot_have_are_refused_and_undeclared_ones_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="matryoshka 64,8: vectors of this model have 32 dimensions"):
        checkpoint.load(str(folder), matryoshka="64,8", **LIMITS)
    checkpoint.load(str(folder), dimensions=8, **LIMITS)
    assert "that the model's folder does not declare" in capsys.readouterr().err
    change_json(folder / _MODEL, matryoshka_dims=[8])
    checkpoint.load(str(folder), dimensions=8, **LIMITS)
    assert "does not declare" not in capsys.readouterr().err


def test_a_folder_that_cuts_after_the_scaling_is_told_how_to_cut_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = KINDS["bert_truncated"](tmp_path / "model")
    change_json(source / _MODEL, similarity_fn_name="cosine")
    lengths = np.linalg.norm(vectors_of(checkpoint.load(str(source), **LIMITS)), axis=1)
    assert lengths.max() < 0.99
    assert "set dimensions to 12, which cuts vectors before they are scaled" in capsys.readouterr().err
    np.testing.assert_allclose(
        np.linalg.norm(vectors_of(checkpoint.load(str(source), dimensions=12, **LIMITS)), axis=1), 1, atol=1e-6
    )


def test_an_exported_encoder_is_cut_inside_the_graph_and_declares_its_cuts(folder: Path, tmp_path: Path) -> None:
    whole = vectors_of(checkpoint.load(str(folder), **LIMITS))
    export(
        ExportConfig(
            checkpoint_uri=str(folder), output_uri=str(tmp_path / "encoder"), dimensions=16, matryoshka="8", **LIMITS
        )
    )
    encoder = Encoder(tmp_path / "encoder", num_threads=1)
    vectors = encoder.encode_tokens(encoder.tokenize_passages(TEXTS))
    np.testing.assert_allclose(vectors, cut(whole, 16, normalise=True), atol=1e-5)
    assert (encoder.dimension, encoder.settings.dimensions, list(encoder.settings.matryoshka)) == (16, 16, [8])
    assert read_manifest(str(tmp_path / "encoder")).metrics["largest_difference"] < 1e-5
    settings = orjson.loads((tmp_path / "encoder" / SETTINGS_NAME).read_bytes())
    (tmp_path / "encoder" / SETTINGS_NAME).write_bytes(orjson.dumps({**settings, "matryoshka": [4]}))
    with pytest.raises(ValueError, match=r"says matryoshka \[4\], the graph was exported with \[8\]"):
        Encoder(tmp_path / "encoder", num_threads=1)


def test_sentence_transformers_cuts_the_exported_encoder_alike(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx, which wants transformers below 4.58, is missing")
    export(ExportConfig(checkpoint_uri=str(folder), output_uri=str(tmp_path / "encoder"), dimensions=16, **LIMITS))
    encoder = Encoder(tmp_path / "encoder", num_threads=1)
    theirs = SentenceTransformer(str(tmp_path / "encoder"), backend="onnx", device="cpu")
    vectors = encoder.encode_tokens(encoder.tokenize_passages(TEXTS))
    np.testing.assert_allclose(theirs.encode_document(TEXTS), vectors, atol=1e-5)
