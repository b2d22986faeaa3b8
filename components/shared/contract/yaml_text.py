"""YAML as people write it: a key that stands twice in one mapping is refused, where PyYAML silently keeps the last."""

from __future__ import annotations

from typing import Any

import yaml


class RepeatedKeyError(yaml.YAMLError):
    """A key that stands twice: where, and what to do."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # Before the parent resolves merges (<<), whose keys may well be given again.
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                where = f"line {line}, column {key.start_mark.column + 1}"
                raise RepeatedKeyError(f"{where}: {name!r} stands in line {lines[name]} already; delete one of the two")
            lines[name] = line
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:  # noqa: ANN401 what a file holds is its reader's to check
    """What `yaml.safe_load` makes of a text.

    Raises:
        yaml.YAMLError: Where it is no YAML, or a key of a mapping stands twice (RepeatedKeyError).
    """
    return yaml.load(text, Loader=_Loader)
