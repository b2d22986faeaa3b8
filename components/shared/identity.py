"""What makes two attempts the same work: the content of the inputs, the settings, and the code that the job runs.

A field's role decides whether it counts (roles.py): a run that was killed for memory goes on with fewer rows held,
because that is an operation and not a setting. Paths never count, so moving a work folder changes nothing. Code is
compared by its syntax tree without comments and docstrings, and only of the modules that the job imports, so a sentence
mended in shared re-runs nothing.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from components.shared.hashing import content_key, file_digest, lines_digest, text_digest
from components.shared.roles import IDENTITY, values

_ROOT = Path(__file__).parents[2]
_PACKAGE = "components"
# Files that code reads at run time and that decide what it writes.
_DATA_SUFFIXES = (".txt", ".toml", ".html", ".css", ".json")


def settings(config: Any) -> dict[str, Any]:  # noqa: ANN401 any config dataclass
    """The values of a config that its identity depends on, beside the content of its inputs."""
    return values(config, *IDENTITY)


def compute_identity(component: str, config: Any, inputs: Mapping[str, str], *, schema_version: int) -> str:  # noqa: ANN401
    """Digest of all that decides what an artifact will contain: schema, code, settings, inputs."""
    parts = {
        "schema_version": schema_version,
        "component": component,
        "code": code_digest(component),
        "settings": settings(config),
        "inputs": dict(inputs),
    }
    return content_key(parts)


@functools.cache
def code_digest(component: str) -> str:
    """Digest of the code that a component runs: its job and all that it imports.

    The job is `components/<component>/job.py`, or the module of that name.

    Data files beside the imported modules of a room belong to it; in shared a data file belongs to the module of its
    name.
    """
    modules = code_modules(component)
    lines = [f"{name} {_read(path).digest}" for name, path in sorted(modules.items())]
    lines += [f"{path.relative_to(_ROOT)} {file_digest(path)}" for path in _data_files(modules)]
    return lines_digest(lines)


def code_modules(component: str) -> dict[str, Path]:
    """Name and file of every module of the project that a component's job imports, directly or not."""
    waiting, known = [_job_module(component)], dict[str, Path]()
    while waiting:
        name = waiting.pop()
        if name in known or (path := _module_path(name)) is None:
            continue
        known[name] = path
        waiting.extend(_read(path).imported)
    return known


def _job_module(component: str) -> str:
    name = f"{_PACKAGE}.{component}"
    return f"{name}.job" if _module_path(f"{name}.job") else name


def _module_path(name: str) -> Path | None:
    path = _ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


class _File(NamedTuple):
    """What identities need to know of a file of code."""

    digest: str
    """Of its syntax tree without texts that stand alone: docstrings, and the sentences below a config's fields."""
    imported: frozenset[str]
    """Modules of the project that it imports, also inside functions; an imported name may be a module itself."""


@functools.cache
def _read(path: Path) -> _File:
    """Read once a process: a run asks for the digests of all its components, which share most of their files."""
    imported = set[str]()
    digest = text_digest(repr(_shape(ast.parse(path.read_text("utf-8")), imported)))
    return _File(digest, frozenset(imported))


def _shape(value: Any, imported: set[str]) -> Any:  # noqa: ANN401 a node, a list of nodes, or what a node holds
    """A node as nested tuples that differ where what it does differs; adds what it imports."""
    if isinstance(value, list):
        return [_shape(one, imported) for one in value if not _is_text(one)]
    if not isinstance(value, ast.AST):
        return value
    if isinstance(value, ast.Import):
        imported.update(alias.name for alias in value.names if alias.name.startswith(f"{_PACKAGE}."))
    elif isinstance(value, ast.ImportFrom) and value.module and value.module.startswith(_PACKAGE):
        imported.add(value.module)
        imported.update(f"{value.module}.{alias.name}" for alias in value.names)
    # Whether a name is read or written (ctx) follows from where it stands, and a third of all nodes say it.
    parts = (_shape(getattr(value, name, None), imported) for name in value._fields if name != "ctx")
    return (type(value).__name__, *parts)


def _is_text(node: Any) -> bool:  # noqa: ANN401 a node, or what a list of a node holds
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _data_files(modules: Mapping[str, Path]) -> list[Path]:
    shared = _ROOT / _PACKAGE / "shared"
    rooms = {path.relative_to(_ROOT / _PACKAGE).parts[0] for path in modules.values()} - {"shared", "__init__.py"}
    kept = [path for room in rooms for path in (_ROOT / _PACKAGE / room).rglob("*")]
    stems = {path.stem for path in modules.values() if path.parent == shared}
    kept += [path for path in shared.glob("*") if path.stem in stems]
    sub_rooms = {path.parent for path in modules.values() if shared in path.parent.parents}
    kept += [path for folder in sub_rooms for path in folder.glob("*")]
    return sorted(path for path in kept if path.suffix in _DATA_SUFFIXES)
