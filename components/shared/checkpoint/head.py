"""What follows the pooling in some models: linear layers, layer norms, scaling to unit length.

The names of the weights are those of sentence-transformers, whose files are read and written.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.shared.encoding.sentence_transformers import HeadModule, module_path

# A vector of zeros must not be divided by zero. Source: the default of torch's normalize.
SMALLEST_NORM = 1e-12
_WEIGHTS_NAME, _OLD_WEIGHTS_NAME = "model.safetensors", "pytorch_model.bin"

Vectors = Float[Tensor, "text dimension"]


class Dense(nn.Module):
    """A linear layer and an activation; with `use_residual` its input is added."""

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool, activation: nn.Module, use_residual: bool
    ) -> None:
        """The dimensions are those of the vectors before and after."""
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation, self.use_residual = activation, use_residual
        if use_residual and in_features != out_features:
            self.residual = nn.Linear(in_features, out_features, bias=False)

    def forward(self, vectors: Vectors) -> Float[Tensor, "text out"]:
        """Vectors in, vectors out."""
        changed: Tensor = self.activation(self.linear(vectors))
        if not self.use_residual:
            return changed
        return changed + (self.residual(vectors) if hasattr(self, "residual") else vectors)


class LayerNorm(nn.Module):
    """A layer norm over the components of a vector."""

    def __init__(self, dimension: int) -> None:
        """The dimension is that of the vectors."""
        super().__init__()
        self.norm = nn.LayerNorm(dimension)

    def forward(self, vectors: Vectors) -> Vectors:
        """Vectors in, vectors out."""
        normed: Tensor = self.norm(vectors)
        return normed


class Normalize(nn.Module):
    """Scales vectors to unit length."""

    def forward(self, vectors: Vectors) -> Vectors:
        """Vectors in, vectors out."""
        return normalised(vectors)


def normalised(vectors: Vectors) -> Vectors:
    """Vectors of unit length; one of zeros stays so."""
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)
    return vectors / lengths


def cutting_module(dimension: int, kept: int) -> HeadModule:
    """A linear layer that keeps the first components of a vector, as a module of sentence-transformers."""
    config = {"in_features": dimension, "out_features": kept, "bias": False, "activation_function": _IDENTITY}
    return HeadModule("Dense", "", config)


def cutting_layer(dimension: int, kept: int) -> Dense:
    """The layer itself."""
    layer = Dense(dimension, kept, bias=False, activation=nn.Identity(), use_residual=False)
    nn.init.eye_(layer.linear.weight)
    return layer


def load_head(folder: Path, modules: Sequence[HeadModule], dimension: int) -> nn.Sequential:
    """The modules after the pooling, with their weights; `dimension` is that of the pooled vectors.

    Raises:
        ValueError: Where a module does not fit the one before it, or its weights or its activation are not there.
    """
    head = nn.Sequential()
    for module in modules:
        where = folder / module.path
        try:
            layer = _layer(module, where, dimension)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where / 'config.json'}: {module.kind} cannot be made of it ({error!r})") from error
        if list(layer.parameters()):
            _load_weights(layer, where)
        head.append(layer)
        dimension = int(module.config["out_features"]) if module.kind == "Dense" else dimension
    return head


def save_head(folder: Path, head: nn.Sequential, modules: Sequence[HeadModule]) -> None:
    """Writes the weights into the folders that `write_settings` names."""
    for number, (layer, module) in enumerate(zip(head, modules, strict=True), start=2):
        if weights := {name: tensor.detach().cpu().contiguous() for name, tensor in layer.state_dict().items()}:
            save_file(weights, folder / module_path(number, module.kind) / _WEIGHTS_NAME)


def _layer(module: HeadModule, where: Path, dimension: int) -> nn.Module:
    config = module.config
    if module.kind == "Normalize":
        return Normalize()
    if module.kind == "Dropout":
        return nn.Dropout(config.get("dropout", 0.2))
    takes = int(config["dimension"] if module.kind == "LayerNorm" else config["in_features"])
    if takes != dimension:
        raise ValueError(
            f"{where / 'config.json'}: {module.kind} takes vectors of {takes} dimensions, the module before it gives "
            f"{dimension}; save the model again"
        )
    if module.kind == "LayerNorm":
        return LayerNorm(dimension)
    return Dense(
        dimension,
        int(config["out_features"]),
        bias=bool(config.get("bias", True)),
        activation=_activation(where, str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))),
        use_residual=bool(config.get("use_residual", False)),
    )


def _activation(where: Path, name: str) -> nn.Module:
    module_name, _, class_name = name.rpartition(".")
    kind = getattr(importlib.import_module(module_name), class_name, None) if module_name in _ACTIVATIONS else None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(
            f"{where / 'config.json'}: activation_function {name} is none of torch's; it would be code of the model's "
            "own, which is never run here"
        )
    activation: nn.Module = kind()
    return activation


_IDENTITY = "torch.nn.modules.linear.Identity"
_ACTIVATIONS = ("torch.nn", "torch.nn.modules.activation", "torch.nn.modules.linear")


def _load_weights(layer: nn.Module, where: Path) -> None:
    try:
        if (where / _WEIGHTS_NAME).is_file():
            weights = load_file(where / _WEIGHTS_NAME)
        else:
            weights = torch.load(where / _OLD_WEIGHTS_NAME, map_location="cpu", weights_only=True)
        layer.load_state_dict(weights)
    except FileNotFoundError as error:
        raise ValueError(f"{where}: neither {_WEIGHTS_NAME} nor {_OLD_WEIGHTS_NAME}; save the model again") from error
    except (RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        lines = " ".join(line.strip() for line in str(error).splitlines())
        raise ValueError(f"{where}: the weights do not fit the layer ({lines}); save the model again") from error
