"""What makes two attempts the same work: the content of the inputs, the settings, and the code that the job runs.

A field's role decides whether it counts (roles.py): a run that was killed for memory goes on with fewer rows held,
because that is an operation and not a setting. Paths never count, so moving a work folder changes nothing. Code is
compared by its syntax tree without comments and docstrings, and only of the modules that the job imports, so a sentence
mended in shared re-runs nothing.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
    lines = [f"{name} {_tree_digest(path)}" for name, path in sorted(modules.items())]
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
        waiting.extend(_imported(path))
    return known


def _job_module(component: str) -> str:
    name = f"{_PACKAGE}.{component}"
    return f"{name}.job" if _module_path(f"{name}.job") else name


def _module_path(name: str) -> Path | None:
    path = _ROOT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _imported(path: Path) -> Iterator[str]:
    """Modules of the project that a file imports, also inside functions; an imported name may be a module itself."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{_PACKAGE}."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_PACKAGE):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _tree_digest(path: Path) -> str:
    return text_digest(ast.dump(_WithoutDocstrings().visit(ast.parse(path.read_text("utf-8")))))


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes texts that stand alone as a statement: docstrings, and the sentences below a config's fields."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Drops the statement where it is only a text."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node


def _data_files(modules: Mapping[str, Path]) -> list[Path]:
    shared = _ROOT / _PACKAGE / "shared"
    rooms = {path.relative_to(_ROOT / _PACKAGE).parts[0] for path in modules.values()} - {"shared", "__init__.py"}
    kept = [path for room in rooms for path in (_ROOT / _PACKAGE / room).rglob("*")]
    stems = {path.stem for path in modules.values() if path.parent == shared}
    kept += [path for path in shared.glob("*") if path.stem in stems]
    sub_rooms = {path.parent for path in modules.values() if shared in path.parent.parents}
    kept += [path for folder in sub_rooms for path in folder.glob("*")]
    return sorted(path for path in kept if path.suffix in _DATA_SUFFIXES)
