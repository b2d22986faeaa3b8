"""How a model becomes a dual encoder: a checkpoint of ours, a sentence-transformers or Hugging Face folder, a hub name.

Whatever its files say is done exactly as they say, or the model is refused: vectors that differ from those of the
people who made the model look like any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from components.shared import log
from components.shared.checkpoint.attention import check_attention, is_causal
from components.shared.checkpoint.cuts import with_cuts
from components.shared.checkpoint.head import load_head
from components.shared.checkpoint.hub import find_folder
from components.shared.checkpoint.limits import position_limit, within
from components.shared.checkpoint.model import SETTINGS_NAME, DualEncoder, DualEncoderSettings
from components.shared.checkpoint.tokenizer import (
    add_what_is_said,
    check_tokenizer,
    end_with_eos,
    put_into_lower_case,
)
from components.shared.checkpoint.weights import DAMAGED, check_finite, check_tensors, check_whole, remedy
from components.shared.encoding.instructions import Prefixes, chosen
from components.shared.encoding.matryoshka import AUTO, declared_cuts
from components.shared.encoding.sentence_transformers import POOLINGS, ModuleSettings, read_object, read_settings

# Of these pairs of encoder and decoder the encoder alone is a model of its own.
_ENCODER_CLASSES = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}

# Sizes and constants as the own code of hub models (Nomic's, and GPT-2's kind) names them.
_NAMES_OF_OWN_CODE = ("n_embd", "n_head", "n_inner", "n_layer", "rotary_emb_base", "rotary_scaling_factor")

Choice = Literal["auto", "yes", "no"]


def load(
    uri: str,
    *,
    pooling: str = "auto",
    normalise: Choice = "auto",
    query_prefix: str = "",
    passage_prefix: str = "",
    query_tokens: int = 32,
    passage_tokens: int = 140,
    dimensions: int = 0,
    matryoshka: str = AUTO,
    attention: Literal["eager", "fused"] = "eager",
    trust_remote_code: Literal["no", "yes"] = "no",
) -> DualEncoder:
    """A dual encoder from a checkpoint folder, a Hugging Face or sentence-transformers folder, or a hub name.

    The arguments are for a model that is no checkpoint of ours; a checkpoint brings its own settings, and may only be
    cut to fewer `dimensions`, and told anew what it may be cut to. `pooling` is auto or one of POOLINGS' values,
    several joined by "+". `attention` fused is faster to train (where the model has it), eager gives the graph that
    ONNX Runtime fuses; their vectors agree to 1e-6.

    Raises:
        ValueError: Where nothing that transformers can load lies there, its weights are not whole, it brings code of
            its own that is not trusted, or its settings cannot be repeated.
    """
    # A bar of a second each time tells a log nothing, and what it reports of weights is checked here.
    transformers_logging.disable_progress_bar()
    folder = find_folder(uri)
    modules = read_settings(folder)
    files = folder / modules.transformer_path if modules else folder
    _check_files(uri, files, trusts=trust_remote_code == "yes")
    arguments = (modules.config_arguments, modules.tokenizer_arguments) if modules else ({}, {})
    tokenizer, transformer = _load_parts(uri, files, arguments, attention, trusts=trust_remote_code == "yes")
    causal, is_own = is_causal(transformer), (folder / SETTINGS_NAME).is_file()
    if not is_own:
        add_what_is_said(uri, files / "tokenizer_config.json", tokenizer)
    if modules is None:
        modules = _without_modules(uri, tokenizer, pooling, causal=causal, is_own=is_own)
    if modules.lower_case:
        put_into_lower_case(tokenizer)
    if is_own:
        settings = _own_settings(folder / SETTINGS_NAME)
        # The last module of its head is the cut as sentence-transformers knows one.
        modules = replace(modules, head=modules.head[:-1] if settings.dimensions else modules.head)
    else:
        limits = {"query_tokens": query_tokens, "passage_tokens": passage_tokens}
        settings = _settings(uri, modules, tokenizer, transformer, limits, pooling=pooling, normalise=normalise)
        settings = _with_prefixes(uri, settings, tokenizer, Prefixes(query_prefix, passage_prefix))
    check_attention(uri, transformer, settings.pooling, causal=causal)
    model = _assembled(folder, modules, tokenizer, transformer, settings)
    of_files = modules.matryoshka or declared_cuts(files / "config.json", transformer.config.to_dict())
    declared = settings.matryoshka if is_own else of_files
    model.settings = with_cuts(uri, model, dimensions=dimensions, matryoshka=matryoshka, declared=declared)
    if not is_own:
        _check_similarity(uri, modules, model.settings)
    check_finite(uri, model)
    return model


def _without_modules(
    uri: str, tokenizer: PreTrainedTokenizerBase, pooling: str, *, causal: bool, is_own: bool
) -> ModuleSettings:
    """The settings of a Hugging Face folder, which says nothing of vectors."""
    usual = "last" if causal else "mean"
    if not is_own:
        if pooling == "auto":
            log.event("the folder does not say how token states become a vector", pooling=usual, model=uri)
        if "last" in (usual if pooling == "auto" else pooling).split("+"):
            end_with_eos(tokenizer)
    return ModuleSettings(pooling=usual)


def _assembled(
    folder: Path,
    modules: ModuleSettings,
    tokenizer: PreTrainedTokenizerBase,
    transformer: PreTrainedModel,
    settings: DualEncoderSettings,
) -> DualEncoder:
    hidden_size = int(transformer.config.hidden_size)
    if modules.dimension not in (0, hidden_size):
        log.warning("the pooling's folder says another dimension", says=modules.dimension, dimension=hidden_size)
    head = load_head(folder, modules.head, hidden_size * len(settings.pooling.split("+")))
    return DualEncoder(transformer, tokenizer, settings, head=head, head_modules=modules.head)


def _check_files(uri: str, files: Path, *, trusts: bool) -> None:
    """Refuses what transformers would load otherwise than its makers meant, or would ask about."""
    check_whole(uri, files)
    if (files / "adapter_config.json").is_file():
        raise ValueError(
            f"{uri}: adapter_config.json: an adapter (LoRA) beside its base model; merge the two with peft's "
            "merge_and_unload, save the result, and give that folder"
        )
    config = read_object(files / "config.json") if (files / "config.json").is_file() else {}
    if "quantization_config" in config:
        raise ValueError(f"{uri}: config.json: quantization_config; give the model in its original precision")
    model_type = str(config.get("model_type"))
    is_known = model_type in CONFIG_MAPPING
    for name in ("config.json", "tokenizer_config.json"):
        content = read_object(files / name) if (files / name).is_file() else {}
        if content.get("auto_map") and not trusts:
            raise ValueError(
                f"{uri}: {name}: auto_map: the model brings code of its own, which would run here with all your "
                "rights; read it first, then set trust_remote_code to yes"
                + (f", or give the model in the form of transformers' own {model_type}" if is_known else "")
            )
    if is_known and not (trusts and config.get("auto_map")):
        _check_names(uri, config, CONFIG_MAPPING[model_type])


def _check_names(uri: str, config: Mapping[str, Any], config_class: type[PreTrainedConfig]) -> None:
    """Refuses sizes under names that only the model's own code reads: transformers would take its defaults instead."""
    known = {*dir(config_class), *config_class.__dataclass_fields__, *config_class.attribute_map}
    if unread := sorted(name for name in _NAMES_OF_OWN_CODE if name in config and name not in known):
        raise ValueError(
            f"{uri}: config.json: {', '.join(unread)}: names that transformers' own {config['model_type']} does not "
            "read, of the model's own code; give the model in transformers' form, or with its code (auto_map) and "
            "trust_remote_code yes"
        )


def _load_parts(
    uri: str, files: Path, arguments: tuple[dict[str, Any], dict[str, Any]], attention: str, *, trusts: bool
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    for_config, for_tokenizer = arguments
    # Said in every call: where it is left out, transformers asks on the terminal.
    trust = {"trust_remote_code": trusts}
    try:
        config = AutoConfig.from_pretrained(files, **trust, **for_config)
        tokenizer = AutoTokenizer.from_pretrained(files, **trust, **for_tokenizer)
        model_class = _model_class(uri, config)
        # A cache of keys and values is for generating; here it would only take memory.
        config.use_cache = False
        transformer, report = model_class.from_pretrained(
            files,
            config=config,
            dtype=torch.float32,
            attn_implementation="eager" if attention == "eager" else None,
            output_loading_info=True,
            # Reported like the others, and refused with them.
            ignore_mismatched_sizes=True,
            **trust,
        )
    except (OSError, KeyError, ValueError, RuntimeError, ImportError, *DAMAGED) as error:
        if isinstance(error, _RefusedError):
            raise ValueError(str(error)) from None
        raise ValueError(
            f"{uri}: transformers cannot load this model ({_first_line(error)}); {remedy(error)}"
        ) from error
    check_tensors(uri, report, is_encoder_of_pair=config.model_type in _ENCODER_CLASSES)
    check_tokenizer(uri, tokenizer, num_rows=int(transformer.get_input_embeddings().weight.shape[0]))
    return tokenizer, transformer


class _RefusedError(ValueError):
    """A model that is refused for a reason of ours while it is loaded."""


def _model_class(uri: str, config: PreTrainedConfig) -> Any:  # noqa: ANN401 one of transformers' own classes
    if config.model_type in _ENCODER_CLASSES:
        return getattr(transformers, _ENCODER_CLASSES[config.model_type])
    if getattr(config, "is_encoder_decoder", False):
        raise _RefusedError(
            f"{uri}: {config.model_type} is a pair of encoder and decoder; known as encoders alone are "
            f"{', '.join(_ENCODER_CLASSES)}"
        )
    return transformers.AutoModel


def _own_settings(path: Path) -> DualEncoderSettings:
    try:
        values = read_object(path)
        return DualEncoderSettings(**{**values, "matryoshka": tuple(values.get("matryoshka", ()))})
    except TypeError as error:
        raise ValueError(f"{path}: not the settings of a dual encoder ({error}); train the checkpoint again") from error


def _settings(
    uri: str,
    modules: ModuleSettings,
    tokenizer: PreTrainedTokenizerBase,
    transformer: PreTrainedModel,
    limits: dict[str, int],
    *,
    pooling: str,
    normalise: Choice,
) -> DualEncoderSettings:
    chosen = modules.pooling if pooling == "auto" else pooling
    if unknown := [mode for mode in chosen.split("+") if mode not in POOLINGS.values()]:
        raise ValueError(f"pooling {'+'.join(unknown)}: unknown; known are auto, {', '.join(POOLINGS.values())}")
    # sentence-transformers 6 keeps its maximum length in the tokenizer.
    of_tokenizer = int(min(tokenizer.model_max_length, 1 << 30))
    soft = {"query_tokens": modules.query_limit, "passage_tokens": modules.passage_limit}
    hard = position_limit(transformer)
    tokens = {name: within(uri, name, limits[name], soft=min(soft[name], of_tokenizer), hard=hard) for name in limits}
    return DualEncoderSettings(
        pooling=chosen,
        normalise=modules.normalise if normalise == "auto" else normalise == "yes",
        query_prefix=modules.query_prefix,
        passage_prefix=modules.passage_prefix,
        include_prompt=modules.include_prompt,
        truncate_dimension=modules.truncate_dimension,
        query_tokens=tokens["query_tokens"],
        passage_tokens=tokens["passage_tokens"],
    )


def _with_prefixes(
    uri: str, settings: DualEncoderSettings, tokenizer: PreTrainedTokenizerBase, asked: Prefixes
) -> DualEncoderSettings:
    prefixes = chosen(uri, asked=asked, of_folder=Prefixes(settings.query_prefix, settings.passage_prefix))
    settings = replace(settings, query_prefix=prefixes.query, passage_prefix=prefixes.passage)
    for kind, prefix, tokens in (
        ("query", settings.query_prefix, settings.query_tokens),
        ("passage", settings.passage_prefix, settings.passage_tokens),
    ):
        if prefix and (num_tokens := len(tokenizer(prefix)["input_ids"])) >= tokens:
            raise ValueError(
                f"{uri}: {kind}_prefix {prefix!r} alone has {num_tokens} tokens, {kind}_tokens is {tokens}: nothing of "
                f"a text would be read; set {kind}_tokens higher, or a shorter prefix"
            )
    return settings


def _check_similarity(uri: str, modules: ModuleSettings, settings: DualEncoderSettings) -> None:
    is_unit = settings.normalise and not settings.truncate_dimension
    if is_unit or modules.similarity in ("", "dot"):
        return
    remedy = "set normalise to yes, which ranks as the model's own comparison does"
    if settings.normalise:
        remedy = f"set dimensions to {settings.truncate_dimension}, which cuts vectors before they are scaled"
    if modules.similarity == "euclidean":
        raise ValueError(
            f"{uri}: config_sentence_transformers.json: similarity_fn_name euclidean: search here is by inner product, "
            f"which ranks vectors of any length otherwise; {remedy} where lengths mean nothing"
        )
    log.warning(
        f"the model compares by {modules.similarity}, search here is by inner product, and vectors are not of unit "
        f"length; {remedy}",
        model=uri,
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
