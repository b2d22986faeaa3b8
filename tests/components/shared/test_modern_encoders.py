"""Recent families are read as their makers meant them: sentence-transformers itself is the judge of vectors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import MistralConfig, MistralModel, Qwen2Config, Qwen2Model

from components.export.job import write_encoder
from components.shared import checkpoint
from components.shared.checkpoint.attention import is_causal
from components.shared.encoding.encoder import Encoder
from tests.kinds_of_encoder import byte_pairs, texts, unigrams
from tests.modern_encoders import FAMILIES, change_json

TEXTS = texts()[::3]
LIMITS = {"query_tokens": 96, "passage_tokens": 96}
# A decoder, a decoder made an encoder, and an encoder with rotated positions; each export takes ten seconds.
QUICKLY_EXPORTED = {"qwen3_embedding", "embedding_gemma", "nomic_bert"}


@torch.inference_mode()
def vectors_of(model: checkpoint.DualEncoder, token_ids: list[list[int]]) -> np.ndarray:
    model.eval()
    return np.concatenate([model(*model.pad(token_ids[n : n + 8])).numpy() for n in range(0, len(token_ids), 8)])


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return FAMILIES["qwen3_embedding"].write(tmp_path / "qwen")


@pytest.fixture
def nomic(tmp_path: Path) -> Path:
    return FAMILIES["nomic_bert"].write(tmp_path / "nomic")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_its_makers_vectors_pooling_prompts_and_attention(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    folder = family.write(tmp_path / name)
    model = checkpoint.load(str(folder), **LIMITS)
    assert (model.settings.pooling, model.settings.normalise) == (family.pooling, True)
    assert (model.settings.query_prefix, model.settings.passage_prefix) == (family.query_prefix, family.passage_prefix)
    assert is_causal(model.transformer) == family.is_causal
    judge = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_allclose(vectors_of(model, model.tokenize_queries(TEXTS)), judge.encode_query(TEXTS), atol=1e-5)
    np.testing.assert_allclose(
        vectors_of(model, model.tokenize_passages(TEXTS)), judge.encode_document(TEXTS), atol=1e-5
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICKLY_EXPORTED else pytest.mark.slow) for name in FAMILIES]
)
def test_an_exported_family_has_the_same_vectors_alone_and_in_batches(name: str, tmp_path: Path) -> None:
    model = checkpoint.load(str(FAMILIES[name].write(tmp_path / name)), **LIMITS)
    (tmp_path / "encoder").mkdir()
    write_encoder(model, tmp_path / "encoder", opset=18)
    encoder = Encoder(tmp_path / "encoder", num_threads=1)
    expected = vectors_of(model, model.tokenize_queries(TEXTS))
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), expected, atol=1e-5)
    alone = np.concatenate([encoder.encode_queries([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_the_token_that_is_pooled_ends_every_text_also_a_cut_one(qwen: Path) -> None:
    # The hub's folders of decoders say so; sentence-transformers writes the other side.
    change_json(qwen / "tokenizer_config.json", padding_side="left")
    model = checkpoint.load(str(qwen), query_tokens=96, passage_tokens=12)
    end = model.tokenizer.eos_token_id
    # Its tokenizer pads on the left and by the end of text itself: neither may reach a vector.
    assert (model.tokenizer.padding_side, model.tokenizer.pad_token_id) == ("left", end)
    token_ids = model.tokenize_passages(["", "ice", "rock and moraine " * 30])
    assert [ids[-1] for ids in token_ids] == [end] * 3
    assert len(token_ids[-1]) == 12
    together = vectors_of(model, token_ids)
    np.testing.assert_allclose(together, np.concatenate([vectors_of(model, [ids]) for ids in token_ids]), atol=1e-6)


@pytest.mark.parametrize("flags", [{"add_eos_token": True}, {"add_bos_token": True, "add_eos_token": True}, {}])
def test_tokens_that_the_tokenizers_settings_name_are_added(flags: dict[str, bool], tmp_path: Path) -> None:
    # transformers 5 passes over the flags where there is a tokenizer.json.
    folder = FAMILIES["e5_mistral"].write(tmp_path / "model")
    change_json(folder / "tokenizer_config.json", **flags)
    tokenizer_json = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer_json, "post_processor": None}))
    model = checkpoint.load(str(folder), **LIMITS)
    begin, end = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    token_ids = model.tokenize_passages(["ice", "rock and moraine " * 60])
    assert [ids[0] == begin for ids in token_ids] == [flags.get("add_bos_token", False)] * 2
    assert [ids[-1] == end for ids in token_ids] == [flags.get("add_eos_token", False)] * 2
    assert len(token_ids[1]) == 96
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    assert checkpoint.load(str(tmp_path / "saved")).tokenize_passages(["ice"]) == token_ids[:1]


def test_a_folder_in_bfloat16_is_computed_with_in_float32(qwen: Path) -> None:
    weights = {name: tensor.bfloat16() for name, tensor in load_file(qwen / "model.safetensors").items()}
    save_file(weights, qwen / "model.safetensors", metadata={"format": "pt"})
    change_json(qwen / "config.json", dtype="bfloat16")
    model = checkpoint.load(str(qwen), **LIMITS)
    judge = SentenceTransformer(str(qwen), device="cpu", model_kwargs={"dtype": torch.float32})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    np.testing.assert_allclose(vectors_of(model, model.tokenize_queries(TEXTS)), judge.encode_query(TEXTS), atol=1e-5)


_TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 16,
}


def test_a_decoder_without_modules_pools_its_last_token_whatever_its_class_is_called(tmp_path: Path) -> None:
    tokenizer = byte_pairs()
    # `MistralModel` and not `MistralForCausalLM` stands in the config of most embedding models made from it.
    MistralModel(MistralConfig(vocab_size=len(tokenizer), **_TINY)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["MistralModel"]
    assert checkpoint.load(str(tmp_path)).settings.pooling == "last"
    with pytest.raises(ValueError, match="pooling cls of a decoder, whose first token sees none of the others"):
        checkpoint.load(str(tmp_path), pooling="cls")


@pytest.mark.parametrize("template", ["$A", "<s> $A", "<s> $A </s>", None])
def test_a_decoder_without_modules_ends_every_text_alike_whatever_its_tokenizer_adds(
    template: str | None, tmp_path: Path
) -> None:
    tokenizer = unigrams(template or "$A")
    if template is None:
        tokenizer.backend_tokenizer.post_processor = None
    MistralModel(MistralConfig(vocab_size=len(tokenizer), **_TINY)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = checkpoint.load(str(tmp_path), passage_tokens=12)
    token_ids = model.tokenize_passages(["", "ice", "rock and moraine " * 30])
    assert [ids[-1] for ids in token_ids] == [tokenizer.eos_token_id] * 3
    assert [ids[0] == tokenizer.bos_token_id for ids in token_ids] == [(template or "").startswith("<s>")] * 3
    assert len(token_ids[2]) == 12
    assert [ids.count(tokenizer.eos_token_id) for ids in token_ids] == [1] * 3


def test_a_decoder_made_an_encoder_pools_the_mean(tmp_path: Path) -> None:
    tokenizer = byte_pairs()
    Qwen2Model(Qwen2Config(vocab_size=len(tokenizer), is_causal=False, **_TINY)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert checkpoint.load(str(tmp_path)).settings.pooling == "mean"


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        # transformers reads the flag of Gemma for no other decoder.
        ("qwen3_embedding", {"use_bidirectional_attention": True}, "use_bidirectional_attention True, but Qwen3Model"),
        ("nomic_bert", {"is_causal": True}, "is_causal True, but NomicBertModel"),
        (
            "nomic_bert",
            {"n_embd": 32, "rotary_emb_base": 1000},
            "n_embd, rotary_emb_base: names that transformers",
        ),
        ("nomic_bert", {"auto_map": {"AutoModel": "o/r--m.M"}}, "in the form of transformers' own nomic_bert"),
        ("nomic_bert", {"model_type": "new", "auto_map": {"AutoModel": "o/r--m.M"}}, "trust_remote_code to yes$"),
    ],
)
def test_a_folder_that_would_be_computed_otherwise_than_it_says_is_refused(
    name: str, fields: dict[str, object], problem: str, tmp_path: Path
) -> None:
    folder = FAMILIES[name].write(tmp_path / name)
    change_json(folder / "config.json", **fields)
    with pytest.raises(ValueError, match=problem):
        checkpoint.load(str(folder), **LIMITS)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotations_that_depend_on_the_batch_are_kept_out_by_the_length(kind: str, qwen: Path) -> None:
    rope = {"rope_type": kind, "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10_000.0}
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4} if kind == "longrope" else {}
    change_json(qwen / "config.json", rope_parameters={**rope, **factors}, max_position_embeddings=256)
    with pytest.raises(ValueError, match="passage_tokens 96, but the model takes 64; set"):
        checkpoint.load(str(qwen), query_tokens=64, passage_tokens=96)
    model = checkpoint.load(str(qwen), query_tokens=64, passage_tokens=64)
    token_ids = model.tokenize_passages(TEXTS)
    alone = np.concatenate([vectors_of(model, [ids]) for ids in token_ids])
    np.testing.assert_allclose(vectors_of(model, token_ids), alone, atol=1e-5)


def test_a_copy_of_a_folder_under_another_name_has_the_same_vectors(nomic: Path, tmp_path: Path) -> None:
    shutil.copytree(nomic, tmp_path / "copy")
    first, second = (checkpoint.load(str(folder), **LIMITS) for folder in (nomic, tmp_path / "copy"))
    np.testing.assert_array_equal(
        vectors_of(first, first.tokenize_queries(TEXTS)), vectors_of(second, second.tokenize_queries(TEXTS))
    )
