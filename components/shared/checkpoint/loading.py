"""How a model becomes a dual encoder: a checkpoint of ours, a sentence-transformers or Hugging Face folder, a hub name.

Whatever its files say is done exactly as they say, or the model is refused: vectors that differ from those of the
people who made the model look like any others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.processors import Sequence as Processors
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from components.shared import log
from components.shared.checkpoint.head import load_head
from components.shared.checkpoint.hub import find_folder
from components.shared.checkpoint.limits import position_limit, within
from components.shared.checkpoint.model import SETTINGS_NAME, DualEncoder, DualEncoderSettings
from components.shared.checkpoint.weights import check_finite, check_tensors
from components.shared.sentence_transformers import POOLINGS, ModuleSettings, read_object, read_settings

# Of these pairs of encoder and decoder the encoder alone is a model of its own.
_ENCODER_CLASSES = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}

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
    attention: Literal["eager", "fused"] = "eager",
    trust_remote_code: Literal["no", "yes"] = "no",
) -> DualEncoder:
    """A dual encoder from a checkpoint folder, a Hugging Face or sentence-transformers folder, or a hub name.

    The arguments are for a model that is no checkpoint of ours; a checkpoint brings its own settings. `pooling` is auto
    or one of POOLINGS' values, several joined by "+". `attention` fused is faster to train (where the model has it),
    eager gives the graph that ONNX Runtime fuses; their vectors agree to 1e-6.

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
    is_own = (folder / SETTINGS_NAME).is_file()
    if modules is None:
        modules = ModuleSettings(pooling="last" if _is_decoder(transformer.config) else "mean")
        if not is_own and "last" in (pooling, modules.pooling if pooling == "auto" else ""):
            _end_with_eos(tokenizer)
    if modules.lower_case:
        _put_into_lower_case(tokenizer)
    if is_own:
        settings = _own_settings(folder / SETTINGS_NAME)
    else:
        limits = {"query_tokens": query_tokens, "passage_tokens": passage_tokens}
        settings = _settings(uri, modules, tokenizer, transformer, limits, pooling=pooling, normalise=normalise)
        settings = _with_prefixes(uri, settings, tokenizer, query_prefix, passage_prefix)
        _check_similarity(uri, modules, settings)
    hidden_size = int(transformer.config.hidden_size)
    if modules.dimension not in (0, hidden_size):
        log.warning("the pooling's folder says another dimension", says=modules.dimension, dimension=hidden_size)
    head = load_head(folder, modules.head, hidden_size * len(settings.pooling.split("+")))
    model = DualEncoder(transformer, tokenizer, settings, head=head, head_modules=modules.head)
    check_finite(uri, model)
    return model


def _check_files(uri: str, files: Path, *, trusts: bool) -> None:
    """Refuses what transformers would load otherwise than its makers meant, or would ask about."""
    if (files / "adapter_config.json").is_file():
        raise ValueError(
            f"{uri}: adapter_config.json: an adapter (LoRA) beside its base model; merge the two with peft's "
            "merge_and_unload, save the result, and give that folder"
        )
    config = read_object(files / "config.json") if (files / "config.json").is_file() else {}
    if "quantization_config" in config:
        raise ValueError(f"{uri}: config.json: quantization_config; give the model in its original precision")
    for name in ("config.json", "tokenizer_config.json"):
        content = read_object(files / name) if (files / name).is_file() else {}
        if content.get("auto_map") and not trusts:
            raise ValueError(
                f"{uri}: {name}: auto_map: the model brings code of its own, which would run here with all your "
                "rights; read it first, then set trust_remote_code to yes"
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
    except (OSError, KeyError, ValueError, RuntimeError, ImportError) as error:
        if isinstance(error, _RefusedError):
            raise ValueError(str(error)) from None
        raise ValueError(
            f"{uri}: transformers cannot load this model ({_first_line(error)}); give a folder or a hub name"
        ) from error
    check_tensors(uri, report, is_encoder_of_pair=config.model_type in _ENCODER_CLASSES)
    _check_tokenizer(uri, tokenizer)
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


def _check_tokenizer(uri: str, tokenizer: PreTrainedTokenizerBase) -> None:
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(
            f"{uri}: {type(tokenizer).__name__} has no tokenizer.json, which is what an exported encoder tokenises "
            "with; give a model whose tokenizer has a fast form"
        )
    if tokenizer.truncation_side != "right":
        raise ValueError(
            f"{uri}: tokenizer_config.json: truncation_side {tokenizer.truncation_side}; "
            "texts are cut at their end here"
        )


def _own_settings(path: Path) -> DualEncoderSettings:
    try:
        return DualEncoderSettings(**read_object(path))
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
        **tokens,
    )


def _with_prefixes(
    uri: str, settings: DualEncoderSettings, tokenizer: PreTrainedTokenizerBase, query_prefix: str, passage_prefix: str
) -> DualEncoderSettings:
    settings = replace(
        settings,
        query_prefix=query_prefix or settings.query_prefix,
        passage_prefix=passage_prefix or settings.passage_prefix,
    )
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


def _is_decoder(config: PreTrainedConfig) -> bool:
    architectures = getattr(config, "architectures", None) or [""]
    return architectures[0].endswith("ForCausalLM") and bool(getattr(config, "is_causal", True))


def _put_into_lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Puts lower case before all that the tokenizer does to a text, unless it is there.

    Source: Transformer of sentence-transformers 6.2.
    """
    backend = tokenizer.backend_tokenizer
    first = backend.normalizer
    steps: list[Normalizer] = [] if first is None else [first]
    if isinstance(first, Normalizers):
        # It can be walked through by position only.
        steps = [first[number] for number in range(len(first))]
    if not any(isinstance(step, Lowercase) for step in steps):
        backend.normalizer = Normalizers([Lowercase(), *steps])


def _end_with_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    """Makes the tokenizer end every text with the end-of-text token, also a truncated one: the token that is pooled.

    Source: the embedding models made from decoders (E5-Mistral, Qwen3-Embedding) do so; their generators'
        tokenizers do not.
    """
    end = tokenizer.eos_token_id
    if end is None or tokenizer("a")["input_ids"][-1:] == [end]:
        return
    backend = tokenizer.backend_tokenizer
    template = TemplateProcessing(single=f"$A {tokenizer.eos_token}", special_tokens=[(tokenizer.eos_token, end)])
    backend.post_processor = Processors([backend.post_processor, template]) if backend.post_processor else template


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
