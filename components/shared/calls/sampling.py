"""Sampling of each model family as data: sampling.toml, read once."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from components.shared.engines.engine import model_name


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


def profile_of(llm_uri: str, sampling_profile: str = "auto", *, sampling_temperature: float = -1.0) -> Profile:
    """The profile of that name, or with `auto` that of the model's family; a temperature of 0 or more goes over it.

    Raises:
        ValueError: Where sampling.toml has no profile of that name.
    """
    named = {profile.name: profile for profile in profiles()}
    if sampling_profile == "auto":
        name = model_name(llm_uri)
        profile = next(profile for profile in profiles() if re.search(profile.pattern, name, re.IGNORECASE))
    elif sampling_profile in named:
        profile = named[sampling_profile]
    else:
        raise ValueError(f"sampling_profile {sampling_profile!r} is unknown; known are auto, {', '.join(named)}")
    return profile if sampling_temperature < 0 else replace(profile, sampling_temperature=sampling_temperature)


@cache
def profiles() -> tuple[Profile, ...]:
    """All profiles in the order of the file."""
    text = resources.files("components.shared.calls").joinpath("sampling.toml").read_text("utf-8")
    families = tomllib.loads(text)["family"]
    return tuple(
        Profile(**family | {"chat_options": tuple(family.get("chat_options", {}).items())}) for family in families
    )
