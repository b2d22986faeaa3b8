"""The model that is trained: the base, with adapters (LoRA) and gradient checkpointing where they are wanted."""

from __future__ import annotations

import warnings

import torch

from components.shared import checkpoint
from components.shared.encoding.matryoshka import parse_weights
from components.train.config import TrainConfig
from components.train.loop.cuts import check_weights

# From here on no passage of a batch of a hundred can have half of the softmax, however well it fits.
_HIGHEST_UNIT_TEMPERATURE = 0.5


def base_model(config: TrainConfig) -> checkpoint.DualEncoder:
    """The base model of a config, ready to train; equal in every process.

    Raises:
        ValueError: Where it cannot be loaded, its scores are too close for the loss temperature, or LoRA is wanted
            and peft is not installed.
    """
    model = checkpoint.load_as(config, attention="fused")
    if model.settings.normalise and config.loss_temperature >= _HIGHEST_UNIT_TEMPERATURE:
        raise ValueError(
            f"loss_temperature {config.loss_temperature}: {config.checkpoint_uri} has unit vectors, whose scores lie "
            "in "
            "[-1, 1], so a softmax at this temperature is nearly flat and teaches nothing; use about 0.05"
        )
    check_weights(parse_weights(config.matryoshka_weights), model)
    if config.dropout == "off":
        _switch_dropout_off(model)
    if config.gradient_checkpointing == "yes":
        _checkpoint_activations(model)
    if config.lora_rank:
        _add_adapters(model, config)
    return model


def merge_adapters(model: checkpoint.DualEncoder) -> None:
    """Adds trained adapters to the weights they adapt: no reader of the checkpoint needs peft."""
    merge = getattr(model.transformer, "merge_and_unload", None)
    if merge is not None:
        model.transformer = merge()


def _switch_dropout_off(model: checkpoint.DualEncoder) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        # Fused attention is handed its dropout as a number that its module keeps.
        for name in ("dropout", "attention_dropout", "dropout_prob", "attention_probs_dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _checkpoint_activations(model: checkpoint.DualEncoder) -> None:
    # Not reentrant: the other kind gives no gradient where the embeddings are frozen, as under LoRA.
    kind = {"use_reentrant": False}
    # transformers gave it a new name in a minor version, and the old one warns.
    if hasattr(model.transformer, "activation_checkpointing_enable"):
        model.transformer.activation_checkpointing_enable(activation_checkpointing_kwargs=kind)
    else:
        model.transformer.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kind)


def _add_adapters(model: checkpoint.DualEncoder, config: TrainConfig) -> None:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError("lora_rank needs peft; run `pip install 'retriever-pipeline[lora]'`") from error
    # Adapters start at random, and every process, and every resumed attempt, has to start at the same.
    torch.manual_seed(config.seed)
    adapters = LoraConfig(
        r=config.lora_rank, lora_alpha=round(config.lora_scale * config.lora_rank), target_modules="all-linear"
    )
    with warnings.catch_warnings():
        # peft asks transformers for things by names that it deprecates.
        warnings.simplefilter("ignore", FutureWarning)
        model.transformer = get_peft_model(model.transformer, adapters)
