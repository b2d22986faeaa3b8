"""Sampling of each model family as data: sampling.toml, read once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from components.annotate.config import AnnotateConfig
from components.annotate.engines.engine import model_name


@dataclass(frozen=True)
class Profile:
    """How a model is sampled; temperature 0 is greedy, top_k 0 and top_p 1 cut nothing off."""

    name: str
    pattern: str
    sampling_temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    thinking_tokens: int = 0
    chat_options: tuple[tuple[str, bool], ...] = ()


def profile_of(config: AnnotateConfig) -> Profile:
    """The profile that the config names, or that of the model's family; the config's temperature goes over it.

    Raises:
        ValueError: Where the config names no profile of sampling.toml.
    """
    named = {profile.name: profile for profile in profiles()}
    if config.sampling_profile == "auto":
        name = model_name(config.llm_uri)
        profile = next(profile for profile in profiles() if re.search(profile.pattern, name, re.IGNORECASE))
    elif config.sampling_profile in named:
        profile = named[config.sampling_profile]
    else:
        raise ValueError(f"sampling_profile {config.sampling_profile!r} is unknown; known are auto, {', '.join(named)}")
    return (
        profile
        if config.sampling_temperature < 0
        else replace(profile, sampling_temperature=config.sampling_temperature)
    )


@cache
def profiles() -> tuple[Profile, ...]:
    """All profiles in the order of the file."""
    text = resources.files("components.annotate.judging").joinpath("sampling.toml").read_text("utf-8")
    families = tomllib.loads(text)["family"]
    return tuple(
        Profile(**family | {"chat_options": tuple(family.get("chat_options", {}).items())}) for family in families
    )
