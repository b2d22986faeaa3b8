"""Python sources -> documented public objects, read with `ast`: nothing is imported, so nothing of a package runs.

A public name is the path a person would write: modules whose own name starts with an underscore are left out of it
(`numpy/linalg/_linalg.py` defines `numpy.linalg.norm`), and folders whose name starts with one are not read at all.
"""

from __future__ import annotations

import ast
import gc
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

STDLIB = "stdlib"
# Not for users of a library: its tests, its copies of others' code, and the standard library's own applications.
_NOT_READ = frozenset(
    {"tests", "test", "testing", "conftest", "vendored", "vendor", "externals"}
    | {"site-packages", "idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data"}
)
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class DocumentedObject:
    """A public function, class or method with its docstring, indentation removed."""

    name: str
    module: str
    docstring: str


def find_modules(package: str, search_path: Sequence[str] | None = None) -> list[tuple[str, Path]]:
    """Public module name and file of every module of a package, sorted; `stdlib` is Python's own library.

    Args:
        package: Name of a package or module, dotted where only a part of one is wanted.
        search_path: Folders it is looked for in; default is this interpreter's.

    Raises:
        ValueError: Where it is not installed.
    """
    if package == STDLIB:
        root = Path(sysconfig.get_path("stdlib"))
        names = sorted(name for name in sys.stdlib_module_names if _is_read(name))
        return [module for name in names for module in _modules_of(name, [root])]
    modules = _modules_of(package, search_path)
    if not modules:
        raise ValueError(f"package {package!r} has no Python sources here; install it or leave it out of --packages")
    return modules


def read_objects(modules: Iterable[tuple[str, Path]]) -> Iterator[DocumentedObject]:
    """Documented public objects in file order; a file that this Python cannot parse holds none."""
    with _no_garbage_collection(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other people's escape sequences
        for module, path in modules:
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, RecursionError):
                continue
            yield from _objects_in(tree.body, module, module)


def _modules_of(package: str, search_path: Sequence[str | Path] | None) -> list[tuple[str, Path]]:
    folders = None if search_path is None else [str(folder) for folder in search_path]
    spec = None
    parts = package.split(".")
    for end in range(1, len(parts) + 1):
        # Found from the outside in, each in the folders of its parent: find_spec of a dotted name would import the
        # parent.
        spec = PathFinder.find_spec(".".join(parts[:end]), folders)
        if spec is None:
            return []
        folders = list(spec.submodule_search_locations or [])
    assert spec is not None
    if not folders:
        return [(package, Path(spec.origin))] if spec.origin and spec.origin.endswith(".py") else []
    return [
        (_module_name(package, path.relative_to(folder)), path)
        for folder in map(Path, folders)
        for path in _python_files(folder)
    ]


def _python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if _is_public(path.relative_to(folder)))


def _is_public(relative: Path) -> bool:
    # A private module is read (its objects are re-exported as a rule), a private folder is not.
    return all(map(_is_read, relative.parts[:-1])) and relative.stem not in _NOT_READ


def _is_read(name: str) -> bool:
    return not name.startswith("_") and name not in _NOT_READ


def _module_name(package: str, relative: Path) -> str:
    parts = [package, *relative.parts[:-1]]
    return ".".join(parts if relative.stem.startswith("_") else [*parts, relative.stem])


def _objects_in(body: Iterable[ast.stmt], prefix: str, module: str) -> Iterator[DocumentedObject]:
    for node in body:
        if isinstance(node, _Definition):
            if node.name.startswith("_"):
                continue
            name = f"{prefix}.{node.name}"
            if docstring := ast.get_docstring(node, clean=False):
                yield DocumentedObject(name, module, inspect.cleandoc(docstring))
            if isinstance(node, ast.ClassDef):
                yield from _objects_in(node.body, name, module)
        elif isinstance(node, ast.If | ast.Try):
            yield from _objects_in([*node.body, *node.orelse], prefix, module)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    # A syntax tree is millions of objects without cycles: collecting while parsing costs a third of the time and frees
    # nothing.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
