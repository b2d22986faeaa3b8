"""The house as the README describes it: no import circle, no crowded folder, no file or function too long to read."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

_ROOT = Path(__file__).parents[1]
_CODE = [path for name in ("components", "pipelines") for path in sorted((_ROOT / name).rglob("*.py"))]
_MOST_FILES, _MOST_LINES, _LONGEST_FUNCTION = 14, 400, 60
# Parameter files are values, not code; prompts are data.
_NO_ROOMS = {"params", "prompts", "paper", "cached", "likelihood", "__pycache__"}


def _circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Groups of modules that import each other, directly or not (Tarjan 1972)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            if imported not in order:
                visit(imported)
            if imported in stack:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == order[module]:
            members = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            circles.extend([members] if len(members) > 1 else [])

    for module in sorted(graph.modules):
        if module not in order:
            visit(module)
    return circles


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert _circles(grimp.build_graph("components", "pipelines", cache_dir=None)) == []


def test_a_circle_would_be_seen() -> None:
    graph = grimp.build_graph("components", cache_dir=None)
    graph.add_import(importer="components.shared.hashing", imported="components.shared.manifest")
    assert any("components.shared.hashing" in circle for circle in _circles(graph))


def test_every_test_file_has_a_name_of_its_own() -> None:
    # pytest imports test files by their names alone, and would leave out the second of two.
    names = Counter(path.name for path in (_ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_folder_is_crowded() -> None:
    rooms = Counter(path.parent for path in (_ROOT / "components").rglob("*") if path.is_file())
    rooms += Counter(path.parent for path in (_ROOT / "pipelines").rglob("*") if path.is_file())
    crowded = {
        str(folder.relative_to(_ROOT)): count
        for folder, count in rooms.items()
        if count > _MOST_FILES and folder.name not in _NO_ROOMS
    }
    assert crowded == {}


@pytest.mark.parametrize("path", _CODE, ids=lambda path: str(path.relative_to(_ROOT)))
def test_a_file_and_its_functions_can_be_read_at_once(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= _MOST_LINES
    long = {name: length for name, length in _functions(ast.parse(text)) if length > _LONGEST_FUNCTION}
    assert long == {}


def _functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", _CODE, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_variable_is_called_by_a_pronoun(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    named |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    assert named & {"its", "each", "found"} == set()
