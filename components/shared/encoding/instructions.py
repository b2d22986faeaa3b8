"""What goes before texts: the user's prefixes, else those of the model's folder, else those that its makers name.

A model that learnt with "query: " before each query finds less without it, and nothing fails. Many folders do not hold
what their cards say.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from components.shared import log

# The value of a prefix that puts nothing before texts, whatever folder and makers say.
NO_PREFIX = "none"
_SNAPSHOTS, _CACHED = "snapshots", "models--"


@dataclass(frozen=True)
class Prefixes:
    """What is put before each query and each passage."""

    query: str = ""
    passage: str = ""

    def __bool__(self) -> bool:
        """Whether anything is put there."""
        return bool(self.query or self.passage)


def chosen(uri: str, *, asked: Prefixes, of_folder: Prefixes) -> Prefixes:
    """The prefixes of a model that is no checkpoint of ours.

    Args:
        uri: Hub name or folder.
        asked: The settings; one left empty takes what the folder says, NO_PREFIX takes none.
        of_folder: What the model's files say.
    """
    of_makers = Prefixes()
    if not of_folder:
        name = _hub_name(uri)
        of_makers = _of_makers(name) if name else Prefixes()
        if of_makers:
            said = {"query": of_makers.query, "passage": of_makers.passage}
            log.event("prefixes that the model's makers name", model=name, **said)
        elif not (name or asked) and (likely := _of_makers(Path(uri).name, is_folder=True)):
            log.warning(
                "the folder has the name of a model whose makers put prefixes before texts, and does not say them; set "
                f"query_prefix and passage_prefix to them, or to {NO_PREFIX}",
                folder=uri,
                query=likely.query,
                passage=likely.passage,
            )
    query = asked.query or of_folder.query or of_makers.query
    passage = asked.passage or of_folder.passage or of_makers.passage
    return Prefixes("" if query == NO_PREFIX else query, "" if passage == NO_PREFIX else passage)


def _hub_name(uri: str) -> str:
    """The hub name of a model that is given by it, or by its folder in the hub's cache; else empty."""
    path = Path(uri)
    if not path.is_dir():
        return uri.partition("@")[0]
    if path.parent.name == _SNAPSHOTS and path.parent.parent.name.startswith(_CACHED):
        return path.parent.parent.name.removeprefix(_CACHED).replace("--", "/", 1)
    return ""


def _of_makers(name: str, *, is_folder: bool = False) -> Prefixes:
    for patterns, prefixes in _families():
        for pattern in patterns:
            if fnmatchcase(name.lower(), pattern.rpartition("/")[2] if is_folder else pattern):
                return prefixes
    return Prefixes()


@functools.cache
def _families() -> list[tuple[list[str], Prefixes]]:
    content = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return [(row["names"], Prefixes(row.get("query", ""), row.get("passage", ""))) for row in content["family"]]
