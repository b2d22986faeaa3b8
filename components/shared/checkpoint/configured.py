"""A dual encoder as a job's config asks for it; what a checkpoint of ours does otherwise is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Literal

from components.shared.checkpoint.loading import load
from components.shared.checkpoint.model import DualEncoder, DualEncoderSettings
from components.shared.encoding.dual_encoder import DualEncoderConfig
from components.shared.encoding.instructions import NO_PREFIX
from components.shared.encoding.matryoshka import parse_cuts
from components.shared.manifest import model_source


def load_as(config: DualEncoderConfig, *, attention: Literal["eager", "fused"] = "eager") -> DualEncoder:
    """The model of a config.

    Raises:
        ValueError: Where it cannot be loaded, or is a checkpoint that was trained with other settings.
    """
    model = load(
        model_source(config.checkpoint_uri),
        pooling=config.pooling,
        normalise=config.normalise,
        query_prefix=config.query_prefix,
        passage_prefix=config.passage_prefix,
        query_tokens=config.query_tokens,
        passage_tokens=config.passage_tokens,
        dimensions=config.dimensions,
        matryoshka=config.matryoshka,
        attention=attention,
        trust_remote_code=config.trust_remote_code,
    )
    if differing := list(_contradictions(config, model)):
        raise ValueError(
            f"{config.checkpoint_uri}: {'; '.join(differing)}; a checkpoint brings its own settings, leave these out "
            "or train again with them"
        )
    return model


def _contradictions(config: DualEncoderConfig, model: DualEncoder) -> Iterator[str]:
    """What somebody set otherwise than the model does it; a default that was left alone contradicts nothing."""
    own = asdict(model.settings) | {"dimensions": model.dimension}
    for declared in fields(DualEncoderConfig):
        asked = getattr(config, declared.name)
        if declared.name not in DualEncoderSettings.__dataclass_fields__ or asked == declared.default:
            continue
        if _as_said(declared.name, asked, model.dimension) != own[declared.name]:
            yield f"{declared.name} {asked!r} is asked for, the model has {_shown(own[declared.name])!r}"


def _as_said(name: str, asked: object, dimension: int) -> object:
    """What a setting's word means for a model whose vectors have this dimension."""
    if name == "normalise":
        return asked == "yes"
    if name == "matryoshka":
        return tuple(cut for cut in parse_cuts(str(asked)) or () if cut < dimension)
    return "" if asked == NO_PREFIX else asked


def _shown(own: object) -> object:
    return {True: "yes", False: "no"}[own] if isinstance(own, bool) else own
