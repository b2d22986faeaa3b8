"""Every field of a model's files is repeated, refused by its name, or named in a warning; none is passed over."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, RobertaConfig, RobertaModel

from components.shared import checkpoint
from components.shared.encoding.sentence_transformers import read_settings
from tests.kinds_of_encoder import KINDS, byte_pairs, word_pieces
from tests.offline_hub import REVISION, HubCache, offline_hub  # noqa: F401 a fixture

_MODULE = "sentence_transformers.models."


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return KINDS["dense_tanh"](tmp_path_factory.mktemp("written"))


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """Transformer, Pooling, Dense and Normalize, as sentence-transformers wrote them."""
    return Path(shutil.copytree(written, tmp_path / "model"))


def change(path: Path, **fields: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**content, **fields}))


TRANSFORMER, POOLING, DENSE = "sentence_bert_config.json", "1_Pooling/config.json", "2_Dense/config.json"
MODEL = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("file", "fields", "problem"),
    [
        (TRANSFORMER, {"transformer_task": "fill-mask"}, "transformer_task 'fill-mask' cannot be repeated"),
        (TRANSFORMER, {"module_output_name": "sentence_embedding"}, "module_output_name 'sentence_embedding'"),
        (TRANSFORMER, {"modality_config": {"message": {}}}, "modality_config .* only plain text"),
        (TRANSFORMER, {"processing_kwargs": {"text": {"padding": "max_length"}}}, "processing_kwargs"),
        (TRANSFORMER, {"query_expansion": {"length": 32}}, "query_expansion .* not padded with further tokens"),
        (TRANSFORMER, {"tokenizer_name_or_path": "org/other"}, "tokenizer_name_or_path 'org/other'"),
        (TRANSFORMER, {"model_args": {"num_labels": 2}}, "num_labels 2: nobody here knows"),
        (TRANSFORMER, {"brand_new": 7}, "brand_new 7: nobody here knows what this does to a vector"),
        (POOLING, {"pooling_mode": "attention"}, "pooling_mode attention; known are cls, max, mean"),
        (POOLING, {"pooling_mode": ["mean", "median"]}, "pooling_mode median"),
        (POOLING, {"pooling_temperature": 0.1}, "pooling_temperature 0.1: nobody here knows"),
        (DENSE, {"activation_function": "os.system"}, "activation_function os.system is none of torch's"),
        (DENSE, {"activation_function": "custom.GELU"}, "custom.GELU is none of torch's"),
        (DENSE, {"in_features": 99}, "Dense takes vectors of 99 dimensions, the module before it gives 32"),
        (DENSE, {"out_features": 21}, "the weights do not fit the layer"),
        (DENSE, {"module_input_name": "token_embeddings"}, "module_input_name is not sentence_embedding"),
        (DENSE, {"scale": 2}, "scale 2: nobody here knows"),
        (MODEL, {"model_type": "SparseEncoder"}, "model_type SparseEncoder is no dual encoder"),
        (MODEL, {"similarity_fn_name": "manhattan"}, "similarity_fn_name manhattan"),
        ("adapter_config.json", {"r": 8}, "adapter_config.json: an adapter"),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("config.json", {"auto_map": {"AutoModel": "own.Model"}}, "config.json: auto_map: .* trust_remote_code to yes"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["own.T", None]}}, "tokenizer_config.json: auto_map"),
        ("tokenizer_config.json", {"truncation_side": "left"}, "truncation_side left"),
    ],
)
def test_a_field_that_cannot_be_repeated_is_refused_by_name(
    folder: Path, file: str, fields: dict[str, object], problem: str
) -> None:
    change(folder / file, **fields)
    with pytest.raises(ValueError, match=problem):
        checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)


@pytest.mark.parametrize(
    ("types", "problem"),
    [
        (["Transformer", "Pooling", "Router"], "module Router .* different models"),
        (["Asym"], "module Asym .* different models"),
        (["StaticEmbedding", "Normalize"], "module StaticEmbedding .* no transformer"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "module WeightedLayerPooling"),
        (["Transformer", "Pooling", "CNN"], "module CNN cannot be trained or exported here"),
        (["Transformer", "Dense", "Pooling"], "its modules are Transformer, Dense, Pooling; a dual encoder is"),
        (["Transformer"], "its modules are Transformer; a dual encoder is"),
        (["Transformer", "Pooling", "Pooling"], "its modules are Transformer, Pooling, Pooling"),
        ([], "its modules are none"),
    ],
)
def test_modules_that_are_no_dual_encoder_are_refused_by_name(folder: Path, types: list[str], problem: str) -> None:
    rows = [{"idx": n, "name": str(n), "path": "", "type": f"{_MODULE}{kind}"} for n, kind in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=problem):
        checkpoint.load(str(folder))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"path": "", "type": "custom_st.Transformer"}], "module custom_st.Transformer is code of the model's own"),
        ([{"path": "../other", "type": f"{_MODULE}Transformer"}], "leads out of the folder"),
        ([{"path": "/etc", "type": f"{_MODULE}Transformer"}], "leads out of the folder"),
        ({"0": "Transformer"}, "not a list of modules"),
        ([{"path": ""}], "not a list of modules with type and path"),
    ],
)
def test_a_modules_file_that_leads_elsewhere_is_refused(folder: Path, rows: object, problem: str) -> None:
    (folder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=problem):
        checkpoint.load(str(folder))


@pytest.mark.parametrize("file", ["modules.json", TRANSFORMER, POOLING, MODEL, "config.json"])
@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_file_that_is_damaged_is_named(folder: Path, file: str, content: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(ValueError, match=f"{file}: not "):
        checkpoint.load(str(folder))


def test_a_missing_pooling_file_and_missing_dense_weights_are_named(folder: Path) -> None:
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"2_Dense: neither model.safetensors nor pytorch_model.bin"):
        checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)
    (folder / POOLING).unlink()
    with pytest.raises(ValueError, match=r"1_Pooling/config.json: missing"):
        checkpoint.load(str(folder))


@pytest.mark.parametrize(
    ("prompts", "default", "expected", "unused"),
    [
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: "), ""),
        ({"query": "q: ", "passage": "p: "}, None, ("q: ", "p: "), ""),
        ({"query": "q: ", "corpus": "c: "}, None, ("q: ", "c: "), ""),
        ({"query": "q: ", "document": "d: ", "passage": "p: "}, None, ("q: ", "d: "), "passage"),
        ({"document": "d: "}, "document", ("", "d: "), ""),
        ({"s2p": "task: ", "s2s": "other: "}, "s2p", ("", ""), "s2p, s2s"),
        ({"query": None, "document": ""}, None, ("", ""), ""),
        ({}, None, ("", ""), ""),
    ],
)
def test_prompts_go_to_those_whose_names_they_bear_and_others_are_named(
    folder: Path,
    prompts: dict[str, str],
    default: str | None,
    expected: tuple[str, str],
    unused: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(folder / MODEL, prompts=prompts, default_prompt_name=default)
    settings = read_settings(folder)
    assert settings is not None
    assert (settings.query_prefix, settings.passage_prefix) == expected
    warnings = [line for line in capsys.readouterr().err.splitlines() if "prompts that neither" in line]
    assert len(warnings) == bool(unused)
    assert unused in "".join(warnings)


@pytest.mark.parametrize(
    ("content", "pooling"),
    [
        ({"word_embedding_dimension": 32, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        (
            {"word_embedding_dimension": 32, "pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True},
            "max+mean",
        ),
        ({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "lasttoken"}, "last"),
        ({"embedding_dimension": 32, "pooling_mode": ["mean", "cls"]}, "mean+cls"),
        ({"word_embedding_dimension": 32, "pooling_mode_weightedmean_tokens": True}, "weighted_mean"),
        ({"embedding_dimension": 32}, "mean"),
    ],
)
def test_older_and_newer_pooling_files_say_the_same(folder: Path, content: dict[str, object], pooling: str) -> None:
    (folder / POOLING).write_text(json.dumps(content))
    settings = read_settings(folder)
    assert settings is not None
    assert settings.pooling == pooling


@pytest.mark.parametrize("name", ["sentence_roberta_config.json", "sentence_xlm-roberta_config.json"])
def test_older_names_of_the_transformers_file_are_read(folder: Path, name: str) -> None:
    (folder / TRANSFORMER).unlink()
    change(folder / name, max_seq_length=9, do_lower_case=True)
    settings = read_settings(folder)
    assert settings is not None
    assert (settings.query_limit, settings.passage_limit, settings.lower_case) == (9, 9, True)


def test_a_task_of_its_own_length_keeps_it(folder: Path) -> None:
    change(folder / TRANSFORMER, max_seq_length=48, query_length=7, document_length=30)
    model = checkpoint.load(str(folder))
    assert (model.settings.query_tokens, model.settings.passage_tokens) == (7, 30)


def test_a_comparison_by_cosine_of_vectors_of_any_length_is_warned_of(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder / MODEL, similarity_fn_name="cosine")
    checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)
    assert "inner product" not in capsys.readouterr().err
    checkpoint.load(str(folder), query_tokens=48, passage_tokens=48, normalise="no")
    assert "set normalise to yes" in capsys.readouterr().err
    change(folder / MODEL, similarity_fn_name="euclidean")
    with pytest.raises(ValueError, match="euclidean: search here is by inner product"):
        checkpoint.load(str(folder), query_tokens=48, passage_tokens=48, normalise="no")


def rewrite_weights(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def without(part: str) -> Callable[[dict[str, Any]], object]:
    return lambda weights: [weights.pop(name) for name in list(weights) if part in name]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (without("layer.0."), r"its files lack 16 tensors \(encoder.layer.0.attention"),
        (without("word_embeddings"), r"lack 1 tensors \(embeddings.word_embeddings.weight"),
        (without("LayerNorm.bias"), r"lack 3 tensors"),
        (lambda w: w.update({"linear.weight": torch.zeros(4, 4)}), r"no use for 1 tensors \(linear.weight"),
        (lambda w: w.update({"encoder.layer.2.output.dense.bias": torch.zeros(32)}), "no use for 1 .*layer.2"),
        (
            lambda w: w.update({"embeddings.word_embeddings.weight": torch.zeros(3, 32)}),
            r"another shape for 1 tensors \(embeddings.word_embeddings",
        ),
    ],
)
def test_weights_that_are_not_whole_are_refused_naming_the_tensors(
    folder: Path, edit: Callable[[dict[str, Any]], object], problem: str
) -> None:
    rewrite_weights(folder, edit)
    with pytest.raises(ValueError, match=problem):
        checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)


@pytest.mark.parametrize(
    "edit",
    [
        without("pooler"),
        lambda w: w.update({"embeddings.position_ids": torch.arange(64)[None]}),
        lambda w: w.update({"cls.predictions.bias": torch.zeros(9)}),
    ],
)
def test_tensors_that_no_vector_depends_on_may_be_missing_or_left_over(
    folder: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    rewrite_weights(folder, edit)
    checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)


def test_a_masked_language_model_with_tied_weights_is_whole(tmp_path: Path) -> None:
    tokenizer = word_pieces()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert checkpoint.load(str(tmp_path)).dimension == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [("embeddings.word_embeddings.weight", torch.nan), ("encoder.layer.0.output.dense.bias", torch.inf)],
)
def test_a_weight_that_is_no_number_is_refused_naming_tensor_and_row(folder: Path, name: str, value: float) -> None:
    rewrite_weights(folder, lambda weights: weights[name][5:6].fill_(value))
    with pytest.raises(ValueError, match=f"{name} holds numbers that are not finite .* the first is row 5"):
        checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)


def test_a_head_with_a_weight_that_is_no_number_is_refused(folder: Path) -> None:
    path = folder / "2_Dense" / "model.safetensors"
    weights = load_file(path)
    weights["linear.bias"][3] = torch.nan
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"head.0.linear.bias holds numbers that are not finite"):
        checkpoint.load(str(folder), query_tokens=48, passage_tokens=48)


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    """514 rows of positions, of which two stand before the first token; a tokenizer that names no limit."""
    tokenizer = byte_pairs()
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=514,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("query_tokens", "passage_tokens"), [(32, 514), (514, 140), (32, 513), (600, 600)])
def test_more_tokens_than_the_model_has_positions_are_refused(
    roberta: Path, query_tokens: int, passage_tokens: int
) -> None:
    with pytest.raises(ValueError, match=r"(query|passage)_tokens \d+, but the model takes 512; set"):
        checkpoint.load(str(roberta), query_tokens=query_tokens, passage_tokens=passage_tokens)


def test_as_many_tokens_as_the_model_has_positions_are_read(roberta: Path) -> None:
    model = checkpoint.load(str(roberta), passage_tokens=512).eval()
    (ids,) = model.tokenize_passages(["ice " * 2000])
    with torch.inference_mode():
        assert torch.isfinite(model(*model.pad([ids]))).all()
    assert len(ids) == 512


def test_a_prefix_that_leaves_nothing_of_a_text_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"query_prefix .* alone has .* tokens, query_tokens is 4"):
        checkpoint.load(str(folder), query_prefix="Represent this text: ", query_tokens=4, passage_tokens=48)


def test_a_pair_of_encoder_and_decoder_is_refused_by_name(folder: Path) -> None:
    (folder / "modules.json").unlink()
    (folder / "config.json").write_text(json.dumps({"model_type": "bart", "is_encoder_decoder": True}))
    with pytest.raises(ValueError, match="bart is a pair of encoder and decoder"):
        checkpoint.load(str(folder))


def test_a_hub_name_with_a_revision_is_that_revision(folder: Path, offline_hub: HubCache) -> None:  # noqa: F811
    offline_hub.add("org/name", folder)
    change(folder / MODEL, prompts={"query": "new: "})
    offline_hub.add("org/name", folder, revision="f" * 40, ref="v2")
    lengths = {"query_tokens": 48, "passage_tokens": 48}
    assert checkpoint.load("org/name", **lengths).settings.query_prefix == ""
    assert checkpoint.load("org/name@v2", **lengths).settings.query_prefix == "new: "
    assert checkpoint.load(f"org/name@{REVISION}", **lengths).settings.query_prefix == ""


@pytest.mark.parametrize("name", ["org/absent", "org/name@v9", "absent", "a/b/c", "/no/such/folder", "../x"])
def test_a_name_that_is_nowhere_is_refused(name: str, offline_hub: HubCache, folder: Path) -> None:  # noqa: F811
    offline_hub.add("org/name", folder)
    with pytest.raises(ValueError, match=r"no such folder|neither a folder nor a model"):
        checkpoint.load(name)
