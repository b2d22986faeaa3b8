"""Encoder folders of the kinds that people have, tiny and with random weights, as sentence-transformers writes them.

Each tokenizer is of the family's own form: word pieces, byte pairs or a unigram model, trained on a few sentences.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

DIMENSION = 32
_SENTENCES = [
    "The glacier carves a valley; ice, rock and moraine move down the mountain in a thousand years.",
    "Sourdough bread rises because wild yeast makes gas. query: passage: Represent this text:",
    "A violin has four strings and is played with a bow! Caf\u00e9 na\u00efve \u691c\u7d22 42 ()",
]
# One layer: writing ONNX costs seconds for each. Kinds whose layers differ have two.
_SMALL = {"num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64, "hidden_size": DIMENSION}


def texts() -> list[str]:
    """A hundred texts: empty, white space, one token, other scripts, upper case, and far beyond every limit."""
    words = " ".join(_SENTENCES).split()
    odd = [
        "",
        " ",
        "\n\t",
        "a",
        "I",
        "\U0001f642",
        "\u691c\u7d22 " * 30,
        "\u0628\u062d\u062b",
        "x" * 500,
        "ICE AND Rock",
    ]
    odd += ["caf\u00e9", "cafe\u0301", "[SEP] [CLS] </s> <s>", "query: ", "a\u00a0b\u200bc", "word " * 400]
    return odd + [" ".join(words[(n + k * 7) % len(words)] for k in range(1 + n % 60)) for n in range(100 - len(odd))]


def word_pieces(*, cls: str = "[CLS]", sep: str = "[SEP]", lower_case: bool = True) -> PreTrainedTokenizerFast:
    """BERT's kind."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower_case)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", cls, sep, "[MASK]"]
    tokenizer.train_from_iterator(_SENTENCES, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token=cls,
        sep_token=sep,
        mask_token="[MASK]",
    )


def byte_pairs() -> PreTrainedTokenizerFast:
    """RoBERTa's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )


def unigrams(template: str = "<s> $A </s>") -> PreTrainedTokenizerFast:
    """XLM-R's kind, and T5's with another template."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    used = [(token, tokenizer.token_to_id(token)) for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def backbone(folder: Path, kind: str, tokenizer: PreTrainedTokenizerFast, **settings: object) -> Path:
    """A Hugging Face folder of a family with random weights."""
    torch.manual_seed(0)
    config_class = getattr(transformers, f"{kind}Config")
    tokens = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = config_class(vocab_size=len(tokenizer), **{**_SMALL, **tokens, **settings})
    model_class = transformers.T5EncoderModel if kind == "T5" else getattr(transformers, f"{kind}Model")
    model = model_class(config)
    # Larger than a model starts with, so that vectors of two texts differ by more than a rounding error.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _bert(folder: Path, **settings: object) -> Path:
    return backbone(folder, "Bert", word_pieces(), **{"max_position_embeddings": 64, **settings})


def _embeddings(folder: Path) -> Path:
    """BERT without a layer, for the kinds whose point comes after the transformer: a graph is made in half the time."""
    return _bert(folder, num_hidden_layers=0)


def save_folder(folder: Path, source: Path, *modules: torch.nn.Module, limit: int = 48, **settings: object) -> Path:
    transformer = Transformer(str(source), max_seq_length=limit)
    SentenceTransformer(modules=[transformer, *modules], device="cpu", **settings).save(str(folder))  # type: ignore[arg-type]
    shutil.rmtree(source)
    return folder


def pooling_module(mode: str | tuple[str, ...], **settings: object) -> Pooling:
    return Pooling(DIMENSION, mode, **settings)  # type: ignore[arg-type]


def _cased_with_lower_case(folder: Path) -> Path:
    source = backbone(folder / "s", "Bert", word_pieces(lower_case=False), max_position_embeddings=64)
    save_folder(folder, source, pooling_module("mean"))
    path = folder / "sentence_bert_config.json"
    path.write_text(json.dumps({"max_seq_length": 48, "do_lower_case": True}))
    return folder


_PROMPTS = {"query": "query: ", "document": "passage: "}
_LONG_PROMPTS = {"query": "Represent this text: ", "document": ""}


def _tokens_left_out(mode: str, prompts: dict[str, str]) -> Callable[[Path], Path]:
    # Two of them have a layer, through which a prompt that is left out is still seen.
    source = _bert if mode in ("mean", "cls") else _embeddings
    return lambda f: save_folder(f, source(f / "s"), pooling_module(mode, include_prompt=False), prompts=prompts)


def _of_mode(mode: str | tuple[str, ...]) -> Callable[[Path], Path]:
    # The first token of a transformer without a layer sees no other.
    source = _bert if mode == "mean" or "cls" in mode else _embeddings
    return lambda f: save_folder(f, source(f / "s"), pooling_module(mode), prompts=_PROMPTS)


def _dense(f: Path, **settings: object) -> Path:
    torch.manual_seed(1)
    return save_folder(f, _bert(f / "s"), pooling_module("mean"), Dense(DIMENSION, 20, **settings), Normalize())  # type: ignore[arg-type]


def _decoder(f: Path, kind: str = "Qwen3") -> Path:
    source = backbone(
        f / "s", kind, unigrams("$A </s>"), num_key_value_heads=2, head_dim=8, max_position_embeddings=512
    )
    return save_folder(f, source, pooling_module("lasttoken"), Normalize(), prompts={"query": "Represent this text: "})


def _modern(f: Path) -> Path:
    source = backbone(
        f / "s",
        "ModernBert",
        word_pieces(),
        cls_token_id=2,
        sep_token_id=3,
        local_attention=8,
        global_attn_every_n_layers=2,
        num_hidden_layers=2,
        max_position_embeddings=128,
    )
    return save_folder(f, source, pooling_module("cls"), Normalize())


def _distil(f: Path) -> Path:
    names = {"dim": DIMENSION, "n_layers": 1, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}
    return save_folder(f, backbone(f / "s", "DistilBert", word_pieces(), **names), pooling_module("mean"))


def _t5(f: Path) -> Path:
    names = {"d_model": DIMENSION, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}
    source = backbone(f / "s", "T5", unigrams("$A </s>"), **names)
    torch.manual_seed(1)
    dense = Dense(DIMENSION, 24, bias=False, activation_function=torch.nn.Identity())
    return save_folder(f, source, pooling_module("mean"), dense, Normalize())


KINDS: dict[str, Callable[[Path], Path]] = {
    "bert_mean": _of_mode("mean"),
    "bert_cls": _of_mode("cls"),
    "bert_max": _of_mode("max"),
    "bert_mean_sqrt_len": _of_mode("mean_sqrt_len_tokens"),
    "bert_weighted_mean": _of_mode("weightedmean"),
    "bert_last": _of_mode("lasttoken"),
    "bert_two_poolings": _of_mode(("cls", "mean")),
    "bert_two_poolings_in_another_order": _of_mode(("mean", "max")),
    "bert_lower_case": _cased_with_lower_case,
    "bert_normalised": lambda f: save_folder(f, _embeddings(f / "s"), pooling_module("mean"), Normalize()),
    "bert_truncated": lambda f: save_folder(
        f, _embeddings(f / "s"), pooling_module("mean"), Normalize(), truncate_dim=12
    ),
    "prompt_left_out_of_mean": _tokens_left_out("mean", _LONG_PROMPTS),
    "prompts_left_out_of_cls": _tokens_left_out("cls", _PROMPTS),
    "prompts_left_out_of_max": _tokens_left_out("max", _PROMPTS),
    "prompts_left_out_of_weighted_mean": _tokens_left_out("weightedmean", _LONG_PROMPTS),
    "dense_tanh": lambda f: _dense(f),
    "dense_relu_residual": lambda f: _dense(f, activation_function=torch.nn.ReLU(), use_residual=True),
    "layer_norm": lambda f: save_folder(f, _embeddings(f / "s"), pooling_module("mean"), LayerNorm(DIMENSION)),
    "roberta": lambda f: save_folder(
        f, backbone(f / "s", "Roberta", byte_pairs(), max_position_embeddings=66), pooling_module("mean")
    ),
    "xlm_roberta": lambda f: save_folder(
        f,
        backbone(f / "s", "XLMRoberta", unigrams(), max_position_embeddings=66),
        pooling_module("mean"),
        prompts=_PROMPTS,
    ),
    "mpnet": lambda f: save_folder(
        f, backbone(f / "s", "MPNet", word_pieces(), max_position_embeddings=66), pooling_module("mean"), Normalize()
    ),
    "distilbert": _distil,
    "modernbert": _modern,
    "qwen3_last_token": _decoder,
    "llama_last_token": lambda f: _decoder(f, "Llama"),
    "t5_encoder_with_dense": _t5,
}
